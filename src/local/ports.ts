/** What messages of this machine need of the store, in their own words. */
import type { Directive, Failure, InboundRecord, MessageKey, OutboundRecord } from '../message/index.js';
import type { Millis } from '../time.js';

/** What can be listened to; a `Signal` is one. */
export interface Source<T> {
  connect(fn: (payload: T) => unknown, scope: AbortSignal): void;
}

export type NewInbound = Pick<
  InboundRecord,
  'messageId' | 'responseTo' | 'directive' | 'metadata' | 'priority' | 'arrivedAt' | 'expiresAt' | 'replyTopic'
> & { readonly content: Buffer };

export type Acceptance =
  | { readonly kind: 'accepted'; readonly key: MessageKey; readonly durable: Promise<void> }
  | { readonly kind: 'duplicate' | 'cancelled' | 'unroutable'; readonly durable: Promise<void> }
  | { readonly kind: 'full' };

/** Promises resolve when the change is on stable storage. */
export interface LocalStore {
  accept(message: NewInbound): Acceptance;
  outbound(key: MessageKey): OutboundRecord | undefined;
  endOutbound(key: MessageKey, end: 'sent' | 'dead', failure?: Failure): Promise<boolean>;
  readonly laneDue: Source<string>;
  readonly listing: {
    /** Answers for this machine that wait, in the order they came. */
    readonly answers: readonly OutboundRecord[];
    /** How messages of this id have ended, as far as it is remembered. */
    endsOf(messageId: string): readonly { readonly end: string }[];
  };
  readonly workers: {
    all(): readonly { readonly state: string; readonly handlers: readonly { readonly directive: Directive }[] }[];
  };
}

/** Bounds of answers that nobody has collected. */
export interface AnswerLimits {
  readonly count: number;
  readonly bytes: number;
  readonly age: Millis;
}
