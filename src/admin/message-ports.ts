/** What the operator's service needs for messages that are dispatched here, their steps, and what happens. */
import type { Content, MessageKey, Metadata, OutboundRecord } from '../message/index.js';
import type { RingReader } from '../signal/index.js';
import type { TracedMessage } from '../../protocol/generated/admin.js';

/** A message of this machine. */
export interface LocalMessage {
  readonly messageId: string;
  readonly directive: string;
  readonly metadata: Metadata;
  readonly content: Buffer;
}

export type LocalDispatch =
  | { readonly kind: 'accepted'; readonly key: MessageKey; readonly isHandled: boolean }
  | { readonly kind: 'known' }
  | { readonly kind: 'ended' }
  | { readonly kind: 'refused'; readonly reason: string };

export type LocalHeard =
  { readonly kind: 'answer'; readonly record: OutboundRecord } | { readonly kind: 'end'; readonly end: string };

/** Something that happened. Fields that do not concern it are empty, the key 0; `at` is wall time in milliseconds. */
export interface AgentEvent {
  readonly at: number;
  readonly kind: string;
  readonly name: string;
  readonly key: number;
  readonly messageId: string;
  readonly directive: string;
  readonly worker: string;
  readonly detail: string;
}

export interface MessageDesk {
  /** Rejects when the journal cannot be written. */
  dispatch(message: LocalMessage): Promise<LocalDispatch>;
  /** The answers to a message and its end, until both are there or `scope` ends. Without `isWaiting` what is there now. */
  answers(messageId: string, isWaiting: boolean, scope: AbortSignal): AsyncIterable<LocalHeard>;
  /** False when no answer waits under that key. */
  acknowledge(answer: MessageKey): Promise<boolean>;
  /** The bytes of a content, bit by bit; throws when they cannot be read. */
  chunks(content: Content): AsyncIterable<Buffer>;
  /** What is known of a message by its id or key, and of its answers. */
  trace(id: string): Promise<readonly TracedMessage[]>;
  /** What happens, until `scope` ends; `isNotable`: of messages only what went wrong. */
  watch(isNotable: boolean, scope: AbortSignal): RingReader<AgentEvent>;
}
