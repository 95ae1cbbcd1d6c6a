/**
 * What is known of a message id: the record that is pending under it, or the end it came to, for a window of time and
 * number (CONTRACT 1.3). Each change comes as journal changes, to be committed together with what caused it.
 */
import type { InboundEnd, MessageKey, ReplyTopic } from '../message/index.js';
import { idsIn } from './gather.js';
import { END, type Change } from './journal.js';
import { padded, RESULT_IDS, under } from './keys.js';
import type { Ledger } from './ledger.js';
import { restoreTopic } from './record-codec.js';
import { storeTopic, type StoredTopic } from './record-header.js';

export type IdState =
  | { readonly kind: 'pending'; readonly recordKey: string; readonly key: MessageKey }
  | {
      readonly kind: 'ended';
      readonly end: InboundEnd | 'result';
      readonly at: number;
      readonly replyTopic: ReplyTopic | undefined;
      /** The dedupe keys of results that came in one commit with this end: they have no entry of their own. */
      readonly results: readonly string[];
    };

export interface DedupeWindow {
  /** How long an ended id is remembered, in milliseconds. */
  readonly age: number;
  /** How many ended ids are remembered. */
  readonly count: number;
}

/** Ends between two looks at what may be forgotten. */
const PRUNE_EVERY = 256;
const NO_RESULTS: readonly string[] = [];
/** The beginning of what is known of an id that has ended. */
const ENDED = /^\{"e":"[a-z]+","a":(\d+)[,}]/;
const LONGEST_END = 64;

export class RecentIds {
  #sincePrune = 0;
  /**
   * Whether a result has stood with an id of its own since the start, or before it. Those of a stream worker stand with
   * their request: where no other worker is, nobody has to look for one.
   */
  #hasResults = false;

  constructor(
    private readonly ledger: Ledger,
    private readonly window: DedupeWindow,
  ) {}

  open(): void {
    const first = this.ledger.journal.range('ids', { ...under(RESULT_IDS), limit: 1 });
    this.#hasResults = [...first].length > 0;
  }

  /** What is known of the dedupe key of a result by itself. */
  ofResult(idKey: string): IdState | undefined {
    return this.#hasResults ? this.get(idKey) : undefined;
  }

  get(idKey: string): IdState | undefined {
    const bytes = this.ledger.get('ids', idKey);
    if (bytes === undefined) return undefined;
    const stored = this.#parse(idKey, bytes);
    if (stored === undefined) return undefined;
    if ('r' in stored) return { kind: 'pending', recordKey: stored.r, key: stored.k };
    const { e: end, a: at, t: topic, o: results = [] } = stored;
    return { kind: 'ended', end, at, replyTopic: topic && restoreTopic(topic), results };
  }

  pending(idKey: string, recordKey: string, key: MessageKey): Change {
    if (idKey.startsWith(RESULT_IDS)) this.#hasResults = true;
    // Names of the house's grammar and numbers: nothing in it that JSON would write otherwise.
    return { table: 'ids', key: idKey, value: `{"r":"${recordKey}","k":${key}}` };
  }

  /** What records how an id ended, behind its `cause`. `key` tells apart what ended in the same millisecond. */
  ended(
    idKey: string,
    end: InboundEnd | 'result',
    key: MessageKey,
    replyTopic: ReplyTopic | undefined,
    results: readonly string[] = NO_RESULTS,
    cause?: Change,
  ): Change[] {
    const at = this.ledger.clock.now();
    // Here too only what comes from outside is written by JSON.
    const topic = replyTopic && `,"t":${JSON.stringify(storeTopic(replyTopic))}`;
    const own = results.length === 0 ? '' : `,"o":["${results.join('","')}"]`;
    if (end === 'result') this.#hasResults = true;
    const text = `{"e":"${end}","a":${at}${topic ?? ''}${own}}`;
    const known: Change = { table: 'ids', key: idKey, value: topic === undefined ? text : Buffer.from(text) };
    const ended: Change = { table: 'ended', key: `${padded(at)}/${padded(key)}`, value: idKey };
    // One list of the right length: to grow it costs three times as much.
    const changes = cause === undefined ? [known, ended] : [cause, known, ended];
    this.#sincePrune += 1;
    if (this.#sincePrune >= PRUNE_EVERY) {
      this.#sincePrune = 0;
      // By itself: an end is committed later where it fails, and until then an id may be taken up again.
      this.ledger.commitSoon(this.#forgettable(at));
    }
    return changes;
  }

  /** Forgets some of what has left the window; true when that is all. Rejects when the journal fails. */
  async expire(): Promise<boolean> {
    const changes = this.#forgettable(this.ledger.clock.now());
    if (changes.length > 0) await this.ledger.commit(changes);
    return changes.length === 0;
  }

  /** What has left the window, a part at a time, so that no commit grows large because of it. */
  #forgettable(now: number): readonly Change[] {
    const { journal } = this.ledger;
    // Each message that waits has an id too, or none: the window is not cut short by them.
    let tooMany = journal.count('ids') - journal.count('records') - this.window.count;
    const changes: Change[] = [];
    for (const [key, value] of journal.range('ended', { after: '', before: END, limit: 2 * PRUNE_EVERY })) {
      const at = Number.parseInt(key.slice(0, key.indexOf('/')), 36);
      const idKeys = idsIn(value);
      tooMany -= idKeys.length;
      if (tooMany < 0 && at + this.window.age > now) break;
      for (const idKey of idKeys) {
        const endedAt = this.#endOf(idKey);
        // The id may have been taken up again since.
        if (endedAt !== undefined && endedAt <= at)
          changes.push({ table: 'ids', key: idKey, value: undefined, isThere: true });
      }
      changes.push({ table: 'ended', key, value: undefined, isThere: true });
      if (changes.length >= 2 * PRUNE_EVERY) break;
    }
    return changes;
  }

  /** When an id ended; undefined for one that has not, or is unknown. */
  #endOf(idKey: string): number | undefined {
    const bytes = this.ledger.get('ids', idKey);
    if (bytes === undefined) return undefined;
    // All of them are looked at once more, so not as JSON where they stand as `ended` writes them.
    const [, at] = ENDED.exec(bytes.toString('latin1', 0, LONGEST_END)) ?? [];
    if (at !== undefined) return Number(at);
    const stored = this.#parse(idKey, bytes);
    return stored !== undefined && 'e' in stored ? stored.a : undefined;
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
}

type StoredId =
  | { readonly r: string; readonly k: MessageKey }
  | {
      readonly e: InboundEnd | 'result';
      readonly a: number;
      readonly t?: StoredTopic | undefined;
      readonly o?: readonly string[] | undefined;
    };
