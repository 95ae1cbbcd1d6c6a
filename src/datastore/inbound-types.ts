/**
 * What the inbound queue is given and what it answers.
 */
import type { InboundRecord, MessageKey } from '../message/index.js';
import type { Alarms } from './alarms.js';
import type { DeadLetters } from './dead-letters.js';
import type { LiveMessages } from './live-messages.js';
import type { Ledger } from './ledger.js';
import type { OutboundQueue } from './outbound-queue.js';
import type { RecentIds } from './recent-ids.js';
import type { SmallFacts } from './small-facts.js';
import type { WindowLimits } from './window.js';

/** A message as it arrives. */
export type NewInbound = Pick<
  InboundRecord,
  'messageId' | 'responseTo' | 'directive' | 'metadata' | 'priority' | 'arrivedAt' | 'expiresAt' | 'replyTopic'
> & { readonly content: Buffer };

export interface AcceptOptions {
  /** A retained message: taken only when its id was never seen. */
  readonly isRetained?: boolean;
}

export type Acceptance =
  | { readonly kind: 'accepted'; readonly key: MessageKey; readonly durable: Promise<void> }
  /** Known already; acknowledge it once `durable` resolves and do nothing more. */
  | { readonly kind: 'duplicate'; readonly durable: Promise<void> }
  /** A cancel had waited for it: ended at once. `answer` is the key of the error answer. */
  | { readonly kind: 'cancelled'; readonly answer: MessageKey; readonly durable: Promise<void> }
  /** Too many directives that nobody ever registered have messages waiting: dead at once, and answered. */
  | { readonly kind: 'unroutable'; readonly durable: Promise<void> }
  /** The spool has no room: keep it unacknowledged and offer it again after `room`. */
  | { readonly kind: 'full' };

/** What became of a completion: the end of a message together with its results. */
export type Completion =
  /**
   * All of it, in one commit: `durable` gives the keys of results that are new. It rejects when the commit fails; the
   * store then tries again, and `recorded` tells when it is through.
   */
  | { readonly kind: 'taken'; readonly durable: Promise<readonly MessageKey[]> }
  /** Nothing of it: there is no room for the result at `index`. */
  | { readonly kind: 'full'; readonly index: number; readonly lacks: 'spool' | 'destinations' };

export type Ending = { readonly kind: 'ended'; readonly answer: MessageKey } | { readonly kind: 'already-ended' };

export type Cancellation =
  | { readonly kind: 'cancelled'; readonly key: MessageKey; readonly answer: MessageKey }
  | { readonly kind: 'in-flight'; readonly key: MessageKey }
  /** Not known yet: kept, and ends the message when it arrives. */
  | { readonly kind: 'kept' }
  | { readonly kind: 'already-ended' };

export interface NextOptions {
  /** The oldest of all priorities instead of the first of the highest. */
  readonly oldest?: boolean;
  readonly only?: (record: InboundRecord) => boolean;
}

/** How long a message without an expiry of its own may wait, in milliseconds (CONTRACT 1.5). */
export interface Lifetimes {
  readonly message: number;
  /** For a directive that nobody ever registered. */
  readonly unknownDirective: number;
}

/** What the queue works with. */
export interface InboundParts {
  readonly ledger: Ledger;
  readonly live: LiveMessages;
  readonly ids: RecentIds;
  readonly dead: DeadLetters;
  readonly facts: SmallFacts;
  readonly outbound: OutboundQueue;
  /** Made by the façade, which also routes what rings to `rang`. */
  readonly alarms: Alarms;
  readonly lifetimes: Lifetimes;
  readonly limits?: WindowLimits;
}
