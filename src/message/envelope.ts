/**
 * The envelopes that travel over MQTT (PROTOCOL section 1), as types. `codec.ts` turns bytes into them and back.
 */
import type { Directive } from './ids.js';

/** string → string, without a prototype: names come from outside. */
export type Metadata = Readonly<Record<string, string>>;

/** A data message as it came: all fields decoded but the content, which stays the bytes of the wire. */
export interface DataEnvelope {
  readonly messageId: string;
  readonly responseTo: string;
  readonly directive: Directive;
  readonly metadata: Metadata;
  /** The content's bytes as they stood on the wire; empty when there was no content field. */
  readonly content: Buffer;
}

/** A data message to send: `content` are the bytes of a JSON text, put into the envelope untouched. */
export interface OutgoingData {
  readonly messageId: string;
  readonly responseTo: string;
  /** RFC 3339. */
  readonly sent: string;
  readonly directive: string;
  readonly metadata: Metadata;
  readonly content: Buffer;
}

export interface CommandEnvelope {
  readonly messageId: string;
  readonly command: string;
  /** Without a prototype; empty when there were none. */
  readonly arguments: Readonly<Record<string, unknown>>;
}

/** What the agent tells in an event: an answer to a command. */
export type EventName = 'pong' | 'disconnect';

export interface CanonicalFacts {
  readonly insights_id: string;
  readonly machine_id: string;
  readonly bios_uuid: string;
  readonly subscription_manager_id: string;
  readonly ip_addresses: readonly string[];
  readonly mac_addresses: readonly string[];
  readonly fqdn: string;
}

/** directive → features. */
export type Dispatchers = Readonly<Record<string, Readonly<Record<string, string>>>>;

export type ConnectionState = 'online' | 'offline';

export interface ConnectionStatus {
  readonly canonicalFacts: CanonicalFacts;
  readonly dispatchers: Dispatchers;
  readonly state: ConnectionState;
  readonly tags: Readonly<Record<string, string>>;
  readonly clientName: string;
  readonly clientVersion: string;
}

/** The codes of an error answer (PROTOCOL section 1, "Unroutable or failed"). */
export type AnswerCode =
  | 'unroutable'
  | 'expired'
  | 'cancelled'
  | 'too-large'
  | 'fetch-failed'
  | 'digest-mismatch'
  | 'worker-failed'
  | 'malformed';
