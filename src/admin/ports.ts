/** What the operator's service needs of the agent. Times are wall times in milliseconds. */
import type { DeadRecord, LiveRecord, MessageKey } from '../message/index.js';
import type { AgentStatus } from '../../protocol/generated/admin.js';

export type AnyMessage = LiveRecord | DeadRecord;

/** Some messages, and where the next ones begin: undefined behind the last. */
export interface MessagePage<Start> {
  readonly records: readonly AnyMessage[];
  readonly next: Start | undefined;
}

/** What came of a request; `refused` says why nothing has changed. */
export type Answer<T> =
  | { readonly kind: 'done'; readonly value: T }
  | { readonly kind: 'unknown'; readonly reason: string }
  | { readonly kind: 'refused'; readonly reason: string };

export interface AdminDesk<Start = unknown> {
  status(): AgentStatus;
  /** False when there is no such worker. */
  restart(worker: string): boolean;
  /** The first page without a start. */
  page(start: Start | undefined): MessagePage<Start>;
  find(key: MessageKey): AnyMessage | undefined;
  /** The bytes of a message's content; rejects when they cannot be read. */
  content(message: AnyMessage): Promise<Buffer>;
  /** Rejects when the journal cannot be written; so does `cancel`. */
  replay(key: MessageKey): Promise<Answer<MessageKey>>;
  cancel(key: MessageKey): Promise<Answer<{ readonly isAsked: boolean }>>;
  setLink(isUp: boolean): Promise<void>;
}
