/**
 * What the journal keeps of a message, and the states it goes through (CONTRACT section 1). Records are plain and
 * immutable to all but the datastore, which decides which changes are allowed: of a live record it changes the state in its
 * place, for all else it makes a new one.
 */
import type { Directive, DirectiveKey, MessageKey, WorkerName } from './ids.js';
import type { AnswerCode, Metadata } from './envelope.js';

/**
 * `accepted`: durable, nothing done yet. `fetching`: the processor is getting its detached content. `ready`: may be
 * given to the worker. `dispatching`: the call to the worker is under way. After a restart both of the last are `ready`.
 */
export type InboundState = 'accepted' | 'fetching' | 'ready' | 'dispatching';

/** The ends of an inbound message. Exactly one of them is recorded. */
export type InboundEnd = 'delivered' | 'expired' | 'cancelled' | 'dead';

/** `sending`: published or POSTed, not yet acknowledged. After a restart it is `queued` again. */
export type OutboundState = 'queued' | 'sending';

/** The ends of a result. `sent`: the broker acknowledged it, or whoever waited for it on this machine did. */
export type OutboundEnd = 'sent' | 'posted' | 'dead';

/** Bytes of a message: in the record itself, or in a file of the content directory when there are many. */
export type Content =
  | { readonly kind: 'inline'; readonly bytes: Buffer }
  | {
      readonly kind: 'file';
      readonly path: string;
      readonly size: number;
      /** By which the store knows its bytes again; undefined where an older version wrote it. */
      readonly sum?: string | undefined;
      /** Of its bytes, where an older version wrote it. */
      readonly crc32?: number | undefined;
    };

export type FileContent = Extract<Content, { kind: 'file' }>;

/** A file that this version wrote. */
export type SummedContent = FileContent & { readonly sum: string };

/**
 * Where replies go that are not for `data/out`: to a topic of the requester's own (MQTT 5), or, of a message that was
 * dispatched on this machine, to whoever collects them there.
 */
export type ReplyTopic =
  | { readonly kind: 'topic'; readonly topic: string; readonly correlationData: Buffer | undefined }
  | { readonly kind: 'local' };

export interface InboundRecord {
  readonly kind: 'inbound';
  readonly key: MessageKey;
  readonly state: InboundState;
  readonly messageId: string;
  readonly responseTo: string;
  readonly directive: Directive;
  readonly directiveKey: DirectiveKey;
  readonly metadata: Metadata;
  readonly content: Content;
  /** True once the detached content has been fetched: `content` is the body, no longer the URL. */
  readonly isFetched: boolean;
  /** 0–9, 9 first. */
  readonly priority: number;
  /** Wall time of arrival. */
  readonly arrivedAt: number;
  /** The earliest of `expires`, `ttl` and MQTT's expiry, as wall time; undefined when none was given. */
  readonly expiresAt: number | undefined;
  /** Failed attempts that count (CONTRACT 1.5). */
  readonly attempts: number;
  /** Failed fetches of the detached content (CONTRACT 1.7). */
  readonly fetches: number;
  /** Wall time before which it is not tried again; 0 when it may be tried at once. */
  readonly dueAt: number;
  readonly replyTopic: ReplyTopic | undefined;
  /** The record this one replays; undefined for what came over the wire. */
  readonly replayOf: MessageKey | undefined;
}

/** Where a result goes. Each is a lane of its own for each worker: order holds within it. */
export type Destination = { readonly kind: 'data-out' } | ReplyTopic | { readonly kind: 'url'; readonly url: string };

export interface OutboundRecord {
  readonly kind: 'outbound';
  readonly key: MessageKey;
  readonly state: OutboundState;
  /** Who made it; undefined for an answer of the agent itself. */
  readonly worker: WorkerName | undefined;
  readonly messageId: string;
  readonly responseTo: string;
  /** As the worker gave it: a directive, or a URL. */
  readonly directive: string;
  readonly metadata: Metadata;
  /** The bytes as the worker gave them. */
  readonly content: Content;
  readonly destination: Destination;
  /** Under which a second copy of this result is recognised; undefined for an answer of the agent itself. */
  readonly idKey: string | undefined;
  readonly arrivedAt: number;
  readonly attempts: number;
  readonly dueAt: number;
  /** The record this one replays; undefined for what a worker handed in. */
  readonly replayOf: MessageKey | undefined;
}

/** A message that has not ended, whichever way it goes. */
export type LiveRecord = InboundRecord | OutboundRecord;

/** Why a message was given up. `code` is what the error answer says. */
export interface Failure {
  readonly code: AnswerCode;
  /** A sentence for a person: what went wrong, with names, without secrets. */
  readonly text: string;
}

/** What a replay needs to know of a dead message beside what is kept of each. */
export type DeadOrigin =
  | ({ readonly kind: 'inbound' } & Pick<InboundRecord, 'responseTo' | 'isFetched' | 'priority' | 'replyTopic'>)
  | ({ readonly kind: 'outbound' } & Pick<OutboundRecord, 'worker' | 'responseTo' | 'destination' | 'idKey'>)
  /** Refused at the door: it never was a message that could be delivered. */
  | { readonly kind: 'refused' }
  /** Kept by a version that did not keep this. */
  | { readonly kind: 'unknown' };

/** A message that was given up, as it is kept. */
export interface DeadRecord {
  readonly kind: 'dead';
  readonly key: MessageKey;
  readonly direction: 'inbound' | 'outbound';
  readonly endedAt: number;
  readonly failure: Failure;
  readonly messageId: string;
  readonly directive: string;
  readonly metadata: Metadata;
  readonly content: Content;
  readonly origin: DeadOrigin;
}

/** Content up to this size lives in the record; more of it in a file (DEPENDENCIES, lmdb). */
export const INLINE_LIMIT = 64 * 1024;

/** What a record counts for in the spool: its content and about what the rest of it takes, in bytes. */
export function spoolSize(record: InboundRecord | OutboundRecord): number {
  let size = 256 + contentSize(record.content) + record.messageId.length + record.directive.length;
  const { metadata } = record;
  // It has no prototype. No arrays of names and values: this is asked several times for every message.
  for (const name in metadata) size += name.length + (metadata[name] as string).length + 8;
  return size;
}

export function contentSize(content: Content): number {
  return content.kind === 'inline' ? content.bytes.length : content.size;
}
