/** What a connection is given, what it announces and what it carries. */
import type { Log } from '../log/log.js';
import type { Backoff, Clock, Millis, Random } from '../time.js';
import type { DownCode } from './failure.js';
import type { TlsMaterial } from './tls-material.js';
import type { ProtocolVersion, VersionPolicy } from './version-memory.js';

export interface Credentials {
  readonly username?: string | undefined;
  readonly password?: string | Buffer | undefined;
}

/** What the broker publishes for us when the connection ends without our goodbye. QoS 1. */
export interface Will {
  readonly topic: string;
  readonly payload: Buffer;
  readonly retain: boolean;
}

export interface ConnectionOptions {
  /** URLs (mqtt, mqtts, ws, wss, tcp, ssl) of doors to one logical broker, tried in turn; the first is preferred. */
  readonly brokers: readonly string[];
  readonly clientId: string;
  /** Asked at each attempt. May throw: the attempt then fails and is repeated. Default: what stands in the URL. */
  readonly credentials?: () => Credentials;
  /** PEM material for TLS, asked at each attempt. What cannot be used keeps the last good one in use. */
  readonly tls?: () => TlsMaterial | undefined;
  /** Asked before each attempt. May reject: the attempt then fails and is repeated. */
  readonly will?: () => Promise<Will | undefined>;
  /** URL of the HTTP proxy for this broker, or undefined for none. */
  readonly proxy?: (brokerUrl: string) => string | undefined;
  /** Topic filters, QoS 1. `up` comes after the broker granted them; messages may come before it. */
  readonly subscriptions?: readonly string[];
  readonly protocolVersion?: VersionPolicy;
  /** Default 60 s; 0 for none. Counted in whole seconds on the wire. */
  readonly keepalive?: Millis;
  /** How long the broker keeps the session without us. Default 7 days; 0: no session is kept. */
  readonly sessionExpiry?: Millis;
  /** For a whole attempt, name resolution to SUBACK. Default 30 s. */
  readonly connectTimeout?: Millis;
  /** Between rounds through the brokers, full jitter. Default 1 s to 120 s. */
  readonly backoff?: Backoff;
  /** Largest payload, in bytes, that is delivered whole. Default 16 MiB. */
  readonly maxMessageSize?: number;
  /** How many unacknowledged messages the broker may have in flight towards us (MQTT 5). Default 256. */
  readonly receiveMaximum?: number;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly log?: Log;
}

/** What was agreed with the broker for one connection. */
export interface Session {
  /** The broker's address without user and password. */
  readonly broker: string;
  readonly protocolVersion: ProtocolVersion;
  /** The broker still knew our session: what is in flight goes on. */
  readonly sessionPresent: boolean;
  /** How many QoS 1 publications may be unacknowledged towards the broker; 65,535 where it does not say. */
  readonly receiveMaximum: number;
  /** Largest packet in bytes that the broker takes; undefined where it does not say. */
  readonly maximumPacketSize: number | undefined;
  /** How long it keeps the session without us; undefined on 3.1.1, where it does not say. */
  readonly sessionExpiry: Millis | undefined;
  /** Whether it keeps retained messages. Where it does not, `publish` leaves the flag out. */
  readonly retainAvailable: boolean;
}

/** A message from the broker. */
export interface Delivery {
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
  readonly dup: boolean;
  readonly responseTopic?: string | undefined;
  readonly correlationData?: Buffer | undefined;
  /** Seconds until it expires, counted from its arrival (MQTT 5). */
  readonly messageExpiry?: number | undefined;
  /**
   * Set on a message above `maxMessageSize`: the bytes its payload had (or its whole packet, when its properties alone
   * were too large). `payload` then holds the first 64 KiB.
   */
  readonly truncatedFrom?: number | undefined;
  /**
   * Acknowledges it to the broker: its PUBACK leaves when all that arrived before are acknowledged. Without it the
   * broker sends it again on a later connection. Idempotent; nothing once the connection that delivered it has ended.
   */
  ack(): void;
}

/** A payload that is written straight into the memory it leaves in: a small one. */
export interface WrittenPayload {
  /** How many bytes it has. */
  readonly size: number;
  /** Writes all of it into `bytes` from `from` on. */
  writeTo(bytes: Buffer, from: number): void;
}

/** In one piece, in pieces that stand one behind the other, or to be written. */
export type Payload = Buffer | readonly Buffer[] | WrittenPayload;

export interface PublishOptions {
  readonly retain?: boolean;
  readonly qos?: 0 | 1;
  /** MQTT 5 only; left out on 3.1.1. */
  readonly correlationData?: Buffer | undefined;
  readonly responseTopic?: string | undefined;
  /** Seconds; MQTT 5 only. */
  readonly messageExpiry?: number | undefined;
}

export type PublishOutcome =
  /** The broker answered; from 0x80 on the code means that it did not take the message. QoS 0: it was written. */
  | { readonly kind: 'acknowledged'; readonly reasonCode: number }
  /** Larger than the broker (or MQTT) allows: it was not sent. */
  | { readonly kind: 'too-large'; readonly size: number; readonly limit: number };

/** `cut`: the connection was not up, or ended before the answer. */
export type SendOutcome = PublishOutcome | { readonly kind: 'cut' };

/** The connection is not up (any more, or yet). */
export interface Down {
  readonly code: DownCode;
  /** A sentence for a person: what happened and what to do. */
  readonly reason: string;
  readonly cause: unknown;
  /** Until the next attempt; undefined when none is planned. */
  readonly retryIn: Millis | undefined;
  /** Whether a session was up before; false for attempts that failed. */
  readonly wasUp: boolean;
}

export type ConnectionState =
  /** Not started. */
  | { readonly kind: 'idle' }
  | { readonly kind: 'connecting'; readonly broker: string }
  | { readonly kind: 'up'; readonly session: Session }
  /** Waiting for the next round; `until` is wall time. */
  | { readonly kind: 'waiting'; readonly until: Millis; readonly down: Down }
  /** By request, until `connect()`. */
  | { readonly kind: 'down' }
  | { readonly kind: 'stopped' };
