/**
 * What is known of a message id: the record that is pending under it, or the end it came to, for a window of time and
 * number (CONTRACT 1.3). Each change comes as journal changes, to be committed together with what caused it.
 */
import type { InboundEnd, MessageKey, ReplyTopic } from '../message/index.js';
import { END, type Change } from './journal.js';
import { padded } from './keys.js';
import type { Ledger } from './ledger.js';
import { restoreTopic, storeTopic } from './record-codec.js';

export type IdState =
  | { readonly kind: 'pending'; readonly recordKey: string; readonly key: MessageKey }
  | {
      readonly kind: 'ended';
      readonly end: InboundEnd | 'result';
      readonly at: number;
      readonly replyTopic: ReplyTopic | undefined;
    };

export interface DedupeWindow {
  /** How long an ended id is remembered, in milliseconds. */
  readonly age: number;
  /** How many ended ids are remembered. */
  readonly count: number;
}

/** Ends between two looks at what may be forgotten. */
const PRUNE_EVERY = 256;

export class RecentIds {
  #sincePrune = 0;

  constructor(
    private readonly ledger: Ledger,
    private readonly window: DedupeWindow,
  ) {}

  get(idKey: string): IdState | undefined {
    const bytes = this.ledger.get('ids', idKey);
    if (bytes === undefined) return undefined;
    const stored = this.#parse(idKey, bytes);
    if (stored === undefined) return undefined;
    if ('r' in stored) return { kind: 'pending', recordKey: stored.r, key: stored.k };
    return { kind: 'ended', end: stored.e, at: stored.a, replyTopic: stored.t && restoreTopic(stored.t) };
  }

  pending(idKey: string, recordKey: string, key: MessageKey): Change {
    return this.#change(idKey, { r: recordKey, k: key });
  }

  /** Remembers how an id ended. `key` tells apart what ended in the same millisecond. */
  ended(
    idKey: string,
    end: InboundEnd | 'result',
    key: MessageKey,
    replyTopic: ReplyTopic | undefined,
  ): readonly Change[] {
    const at = this.ledger.clock.now();
    const stored: StoredId = { e: end, a: at, ...(replyTopic ? { t: storeTopic(replyTopic) } : {}) };
    return [
      this.#change(idKey, stored),
      { table: 'ended', key: `${padded(at)}/${padded(key)}`, value: Buffer.from(idKey) },
      ...this.#prune(at),
    ];
  }

  forget(idKey: string): Change {
    return { table: 'ids', key: idKey, value: undefined };
  }

  /** Forgets some of what has left the window; true when that is all. Rejects when the journal fails. */
  async expire(): Promise<boolean> {
    const changes = this.#forgettable(this.ledger.clock.now());
    if (changes.length > 0) await this.ledger.commit(changes);
    return changes.length === 0;
  }

  #prune(now: number): readonly Change[] {
    this.#sincePrune += 1;
    if (this.#sincePrune < PRUNE_EVERY) return [];
    this.#sincePrune = 0;
    return this.#forgettable(now);
  }

  /** What has left the window, a part at a time, so that no commit grows large because of it. */
  #forgettable(now: number): readonly Change[] {
    const tooMany = this.ledger.journal.count('ended') - this.window.count;
    const changes: Change[] = [];
    let index = 0;
    for (const [key, value] of this.ledger.journal.range('ended', { after: '', before: END, limit: 2 * PRUNE_EVERY })) {
      const at = Number.parseInt(key.slice(0, key.indexOf('/')), 36);
      if (index++ >= tooMany && at + this.window.age > now) break;
      const idKey = value.toString();
      const state = this.get(idKey);
      // The id may have been taken up again since.
      if (state?.kind === 'ended' && state.at === at) changes.push(this.forget(idKey));
      changes.push({ table: 'ended', key, value: undefined });
    }
    return changes;
  }

  /** Undefined for bytes that are torn: then nothing is known, and what comes again is taken anew. */
  #parse(idKey: string, bytes: Buffer): StoredId | undefined {
    try {
      const stored: unknown = JSON.parse(bytes.toString());
      if (typeof stored === 'object' && stored !== null && ('r' in stored || 'e' in stored)) return stored as StoredId;
    } catch {
      // Told below, as any other damage.
    }
    this.ledger.log.error('journal.torn', 'what was known of a message id cannot be read; it counts as new', {
      table: 'ids',
      key: idKey,
    });
    return undefined;
  }

  #change(idKey: string, stored: StoredId): Change {
    return { table: 'ids', key: idKey, value: Buffer.from(JSON.stringify(stored)) };
  }
}

type StoredId =
  | { readonly r: string; readonly k: MessageKey }
  | {
      readonly e: InboundEnd | 'result';
      readonly a: number;
      readonly t?: { readonly topic: string; readonly correlation?: string };
    };
