/**
 * What the router needs from others, in its own words: a connection to the broker and a store that survives.
 * agent.ts hands the real ones in; the tests hand in others that keep the same promises.
 */
import type {
  CanonicalFacts,
  Directive,
  DirectiveKey,
  Failure,
  InboundRecord,
  MessageKey,
  OutboundRecord,
  Content,
} from '../message/index.js';
import type { Millis } from '../time.js';

/** What can be listened to; a `Signal` is one. */
export interface Source<T> {
  connect(fn: (payload: T) => unknown, scope: AbortSignal): void;
}

/** A message from the broker. */
export interface Delivery {
  readonly topic: string;
  /** The whole payload, or its first bytes when it was too large to be taken. */
  readonly payload: Buffer;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
  /** Bytes of the whole payload when only its beginning was kept. */
  readonly truncatedFrom?: number | undefined;
  /** MQTT 5 Message Expiry Interval, in seconds. */
  readonly messageExpiry?: number | undefined;
  readonly responseTopic?: string | undefined;
  readonly correlationData?: Buffer | undefined;
  /** Acknowledges it. The PUBACK goes out in its turn, and only on the connection it came by. Idempotent. */
  ack(): void;
}

/** What the broker granted for the connection that has just come up. */
export interface LinkUp {
  /** How many QoS 1 publications the broker takes unacknowledged. */
  readonly receiveMaximum: number;
}

export interface LinkDown {
  /**
   * `requested`, `moving` and `stopped` were our own wish; any other is a failure. After `closed`, `server`, `protocol`
   * and `tls` something that was on its way may have been the cause; no other says that of it.
   */
  readonly code: string;
  /** Why, for a person. */
  readonly reason: string;
  /** Whether it was up; false for an attempt that failed. */
  readonly wasUp: boolean;
}

export interface PublishOptions {
  readonly qos: 0 | 1;
  readonly retain: boolean;
  readonly correlationData?: Buffer | undefined;
}

/** A payload that is written where it is wanted, and not made before. */
export interface WrittenPayload {
  /** How many bytes it has. */
  readonly size: number;
  /** Writes all of it into `bytes` from `from` on. */
  writeTo(bytes: Buffer, from: number): void;
}

/** In one piece, in pieces that stand one behind the other, or to be written. */
export type Payload = Buffer | readonly Buffer[] | WrittenPayload;

/**
 * `acknowledged`: the PUBACK came, with this reason code (0 in MQTT 3.1.1, or at QoS 0). `too-large`: above what the
 * broker takes, not sent.
 */
export type PublishOutcome =
  | { readonly kind: 'acknowledged'; readonly reasonCode: number }
  | { readonly kind: 'too-large'; readonly size: number; readonly limit: number };

/** `cut`: the link ended first; whether the broker has it is unknown. */
export type SendOutcome = PublishOutcome | { readonly kind: 'cut' };

/** What the broker publishes when the connection ends without a DISCONNECT. QoS 1. */
export interface Will {
  readonly topic: string;
  readonly payload: Buffer;
  readonly retain: boolean;
}

export interface ConnectionPort {
  /** Connected and subscribed to both `in` topics. */
  readonly up: Source<LinkUp>;
  /** The link has ended, or an attempt at one failed. */
  readonly down: Source<LinkDown>;
  /** In order of arrival; those of a session that went on may come before `up`. */
  readonly message: Source<Delivery>;
  /**
   * Hands a message to the link at once, in the order of the calls. `done` is called once, perhaps before this returns:
   * with the answer, or with `cut` when the link ends before it. It does not throw. No byte of the payload may change until
   * `done`.
   */
  send(topic: string, payload: Payload, options: PublishOptions, done: (outcome: SendOutcome) => void): void;
  /** Reads nothing more from the broker until `readOn`, or until the next link. What was read already still comes. */
  holdReading(): void;
  readOn(): void;
  /** Writes every PUBACK that is due. */
  flushAcks(): Promise<void> | void;
  /** Starts connecting, and goes on until `disconnect` or `stop`. */
  start(): Promise<void> | void;
  /** Sends DISCONNECT and stays away until `connect`. */
  disconnect(): Promise<void>;
  /** Sends DISCONNECT and connects again after `delay`; resolves when it is down. */
  reconnect(delay: Millis): Promise<void>;
  /** Ends the rest that `disconnect` or `reconnect` began. */
  connect(): void;
  /** Sends DISCONNECT and releases everything. Idempotent. */
  stop(): Promise<void>;
}

/** A message to be taken into the store. */
export type NewInbound = Pick<
  InboundRecord,
  'messageId' | 'responseTo' | 'directive' | 'metadata' | 'priority' | 'arrivedAt' | 'expiresAt' | 'replyTopic'
> & { readonly content: Buffer };

export type Acceptance =
  | { readonly kind: 'accepted'; readonly key: MessageKey; readonly durable: Promise<void> }
  | { readonly kind: 'duplicate'; readonly durable: Promise<void> }
  | { readonly kind: 'cancelled'; readonly answer?: MessageKey | undefined; readonly durable: Promise<void> }
  /** Nobody ever registered its directive, and too many such wait already: dead, with its error answer. */
  | { readonly kind: 'unroutable'; readonly durable: Promise<void> }
  | { readonly kind: 'full' };

/** A message that is given up before it became a record. */
export interface Burial {
  readonly messageId?: string;
  readonly directive?: string;
  readonly failure: Failure;
  readonly content: Buffer;
  readonly arrivedAt: Millis;
}

export type Cancellation =
  | { readonly kind: 'cancelled'; readonly key: MessageKey; readonly answer: MessageKey | undefined }
  | { readonly kind: 'in-flight'; readonly key: MessageKey }
  | { readonly kind: 'kept' }
  | { readonly kind: 'already-ended' };

/** A worker as the store knows it; only what a connection-status tells of it. */
export interface WorkerSummary {
  readonly handlers: readonly { readonly directive: Directive; readonly features: Readonly<Record<string, string>> }[];
}

/** The part of the datastore the router works with. Promises resolve when the change is on stable storage. */
export interface StorePort {
  /** `isRetained`: to be taken only when its id was never seen, dead ones included (CONTRACT 1.9). */
  accept(message: NewInbound, options?: { readonly isRetained: boolean }): Acceptance;
  bury(burial: Burial): Promise<MessageKey | undefined>;
  cancel(directive: DirectiveKey, messageId: string): Promise<Cancellation>;
  recordCommand(messageId: string): Promise<void>;
  isCommandRecorded(messageId: string): boolean;
  reserveSent(now: Millis): Promise<Millis>;
  nextOutbound(lane: string): OutboundRecord | undefined;
  markSending(key: MessageKey): void;
  unsend(key: MessageKey): void;
  retryOutbound(key: MessageKey, dueAt: Millis): Promise<void>;
  endOutbound(key: MessageKey, end: 'sent' | 'dead', failure?: Failure): Promise<boolean>;
  readContent(content: Content): Promise<Buffer>;
  readonly laneDue: Source<string>;
  /** Announced when there is room again; without it the router asks once a second. */
  readonly room?: Source<unknown>;
  readonly workers: { all(): Iterable<WorkerSummary> };
}

/** The machine, as far as it is told in a connection-status. */
export interface Identity {
  facts(): Promise<CanonicalFacts> | CanonicalFacts;
  tags(): Readonly<Record<string, string>>;
  readonly version: string;
}
