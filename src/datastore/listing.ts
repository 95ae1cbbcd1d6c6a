/**
 * Messages as an operator looks through them: read from the journal a page at a time, however many there are, with the
 * state that those have which are in memory. Nothing is held open between two pages.
 */
import type { DeadRecord, DirectiveKey, InboundEnd, LiveRecord, MessageKey, OutboundRecord } from '../message/index.js';
import { END } from './journal.js';
import { inboundIdKey, padded } from './keys.js';
import type { LiveMessages } from './live-messages.js';
import type { Ledger } from './ledger.js';
import type { OutboundQueue } from './outbound-queue.js';
import { LOCAL_LANE } from './outbound-record.js';
import type { RecentIds } from './recent-ids.js';
import type { SmallFacts } from './small-facts.js';

/** Where a page begins: behind this key of this table. */
export interface PageStart {
  readonly table: 'records' | 'dead';
  readonly after: string;
}

export interface Page {
  readonly records: readonly (LiveRecord | DeadRecord)[];
  /** Undefined behind the last. */
  readonly next: PageStart | undefined;
}

/** What has not ended comes before the dead. */
const FIRST_PAGE: PageStart = { table: 'records', after: '' };

const PAGE = 256;

/** How a message ended that left nothing else behind. */
export interface KnownEnd {
  readonly directive: DirectiveKey;
  readonly end: InboundEnd;
  /** Wall time. */
  readonly at: number;
}

export interface ListingParts {
  readonly ids: Pick<RecentIds, 'get'>;
  readonly facts: Pick<SmallFacts, 'known'>;
  readonly outbound: Pick<OutboundQueue, 'waiting'>;
}

export class Listing {
  constructor(
    private readonly ledger: Ledger,
    private readonly live: LiveMessages,
    private readonly parts: ListingParts,
  ) {}

  /** How many have not ended, in memory or on disk. */
  get pending(): number {
    return this.ledger.journal.count('records');
  }

  /** Those in memory: of each lane the first ones, and all that somebody has in hand. */
  inMemory(): readonly LiveRecord[] {
    return this.live.all();
  }

  /** How many were given up and are kept. */
  get dead(): number {
    return this.ledger.journal.count('dead');
  }

  page({ table, after }: PageStart = FIRST_PAGE): Page {
    const records: (LiveRecord | DeadRecord)[] = [];
    let read = 0;
    let last = after;
    for (const [key, bytes] of this.ledger.journal.range(table, { after, before: END, limit: PAGE })) {
      read += 1;
      last = key;
      const current = this.ledger.latest(table, key, bytes);
      const record = current && this.ledger.decode(table, key, current);
      if (record === undefined) continue;
      records.push(record.kind === 'dead' ? record : (this.live.get(record.key) ?? record));
    }
    if (read === PAGE) return { records, next: { table, after: last } };
    return { records, next: table === 'records' ? { table: 'dead', after: '' } : undefined };
  }

  /** The message of this key, live or dead. One that is not in memory is looked for from the first page on. */
  find(key: MessageKey): LiveRecord | DeadRecord | undefined {
    const dead = this.ledger.get('dead', padded(key));
    if (dead !== undefined) return this.ledger.decode('dead', padded(key), dead);
    const live = this.live.get(key);
    if (live !== undefined) return live;
    let start: PageStart | undefined = FIRST_PAGE;
    while (start?.table === 'records') {
      const { records, next }: Page = this.page(start);
      const found = records.find((record) => record.key === key);
      if (found !== undefined) return found;
      start = next;
    }
    return undefined;
  }

  /** Answers that wait to be collected on this machine, in the order they came. */
  get answers(): readonly OutboundRecord[] {
    return this.parts.outbound.waiting(LOCAL_LANE);
  }

  /** How messages of this id have ended, under each directive that a worker ever registered, as far as it is remembered. */
  endsOf(messageId: string): readonly KnownEnd[] {
    const ends: KnownEnd[] = [];
    for (const directive of this.parts.facts.known) {
      const known = this.parts.ids.get(inboundIdKey(directive, messageId));
      if (known?.kind === 'ended' && known.end !== 'result') ends.push({ directive, end: known.end, at: known.at });
    }
    return ends;
  }
}
