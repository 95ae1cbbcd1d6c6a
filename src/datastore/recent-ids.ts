/**
 * What is known of a message id: the record that is pending under it, or the end it came to, for a window of time and
 * number (CONTRACT 1.3). Each change comes as journal changes, to be committed together with what caused it.
 */
import type { InboundEnd, MessageKey, ReplyTopic } from '../message/index.js';
import { END, type Change, type PastPage, type Table } from './journal.js';
import { RESULT_IDS, under } from './keys.js';
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
/** Ids of pages that are looked at, or forgotten, in one turn. */
const FORGOTTEN_AT_ONCE = 8192;
const NO_RESULTS: readonly string[] = [];
/** Between the ids of one entry of `ended`, as older versions wrote it. */
const SEPARATOR = '\n';

export class RecentIds {
  #sincePrune = 0;
  /**
   * Whether a result may have stood with an id of its own since the start, or before it. Those of a stream worker stand
   * with their request: where no other worker is, nobody has to look for one.
   */
  #hasResults = false;

  constructor(
    private readonly ledger: Ledger,
    private readonly window: DedupeWindow,
  ) {}

  open(): void {
    const { journal } = this.ledger;
    const first = journal.range('ids', { ...under(RESULT_IDS), limit: 1 });
    this.#hasResults = journal.count('past') > 0 || [...first].length > 0;
  }

  /** What is known of the dedupe key of a result by itself. */
  ofResult(idKey: string): IdState | undefined {
    return this.#hasResults ? this.get(idKey) : undefined;
  }

  /** Whoever takes in a message or a result knows of those whose commit is under way: of them nothing is said here. */
  get(idKey: string): IdState | undefined {
    const { ledger } = this;
    // An end that is under way takes out what is there: otherwise there is none, and nobody need look for it.
    const isThere = ledger.journal.get('ids', idKey) !== undefined;
    const known = isThere ? ledger.get('ids', idKey) : undefined;
    const stored =
      known === undefined
        ? this.#inPast(idKey, (isThere ? ledger : ledger.journal).get('past', idKey))
        : this.#parse('ids', idKey, known);
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

  /** What records how an id ended, behind its `cause`. */
  ended(
    idKey: string,
    end: InboundEnd | 'result',
    replyTopic: ReplyTopic | undefined,
    results: readonly string[] = NO_RESULTS,
    cause?: Change,
  ): Change[] {
    const at = this.ledger.clock.now();
    // Here too only what comes from outside is written by JSON.
    const topic = replyTopic && `,"t":${JSON.stringify(storeTopic(replyTopic))}`;
    const own = results.length === 0 ? '' : `,"o":["${results.join('","')}"]`;
    const text = `{"e":"${end}","a":${at}${topic ?? ''}${own}}`;
    const past: Change = { table: 'past', key: idKey, value: topic === undefined ? text : Buffer.from(text) };
    const removal: Change = { table: 'ids', key: idKey, value: undefined };
    // One list of the right length: to grow it costs three times as much.
    const changes = cause === undefined ? [removal, past] : [cause, removal, past];
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
    const past = journal.count('past');
    const isOlder = journal.count('ended') > 0;
    // Each message that waits has an id too, or none: the window is not cut short by them.
    const older = isOlder ? journal.count('ids') - journal.count('records') : 0;
    const changes = isOlder ? this.#forgettableOlder(now, past + older - this.window.count) : [];
    if (changes.length > 0) return changes;
    // None of a page is too many while one is known that came before.
    let tooMany = isOlder ? -Infinity : past - this.window.count;
    let forgotten = 0;
    for (const page of journal.pages()) {
      tooMany -= page.count;
      if (tooMany < 0 && !this.#isOver(page, now)) break;
      changes.push({ table: 'past', key: page.name, value: undefined });
      forgotten += page.count;
      if (changes.length >= PRUNE_EVERY || forgotten >= FORGOTTEN_AT_ONCE) break;
    }
    return changes;
  }

  /** Whether the time of all its ids is over: where the clock was wrong for a while, that of the last tells little. */
  #isOver(page: PastPage, now: number): boolean {
    const isOver = (value: Buffer): boolean => endIn(value) + this.window.age <= now;
    return isOver(page.newest) && [...page.values()].every(isOver);
  }

  /** The same of those that versions up to format 5 left among `ids`, in the order of `ended`. */
  #forgettableOlder(now: number, known: number): Change[] {
    const changes: Change[] = [];
    let tooMany = known;
    const { journal } = this.ledger;
    for (const [key, value] of journal.range('ended', { after: '', before: END, limit: 2 * PRUNE_EVERY })) {
      const at = Number.parseInt(key.slice(0, key.indexOf('/')), 36);
      const idKeys = value.toString().split(SEPARATOR);
      tooMany -= idKeys.length;
      if (tooMany < 0 && at + this.window.age > now) break;
      for (const idKey of idKeys) {
        const bytes = this.ledger.get('ids', idKey);
        // The id may have been taken up again since.
        if (bytes !== undefined && endIn(bytes) <= at) changes.push({ table: 'ids', key: idKey, value: undefined });
      }
      changes.push({ table: 'ended', key, value: undefined, isThere: true });
      if (changes.length >= 2 * PRUNE_EVERY) break;
    }
    return changes;
  }

  /** An id that has ended. Those of a page are forgotten together: until then some are known that should not be. */
  #inPast(idKey: string, bytes: Buffer | undefined): EndedId | undefined {
    const stored = bytes && this.#parse('past', idKey, bytes);
    const isKnown = stored !== undefined && 'e' in stored && stored.a + this.window.age > this.ledger.clock.now();
    return isKnown ? stored : undefined;
  }

  /** Undefined for bytes that are torn: then nothing is known, and what comes again is taken anew. */
  #parse(table: Table, idKey: string, bytes: Buffer): PendingId | EndedId | undefined {
    const stored = parsed(bytes);
    if (stored === undefined) {
      const text = 'what was known of a message id cannot be read; it counts as new';
      this.ledger.log.error('journal.torn', text, { table, key: idKey });
    }
    return stored;
  }
}

interface PendingId {
  readonly r: string;
  readonly k: MessageKey;
}

interface EndedId {
  readonly e: InboundEnd | 'result';
  readonly a: number;
  readonly t?: StoredTopic | undefined;
  readonly o?: readonly string[] | undefined;
}

function parsed(bytes: Buffer): PendingId | EndedId | undefined {
  try {
    const stored: unknown = JSON.parse(bytes.toString());
    if (typeof stored === 'object' && stored !== null && ('r' in stored || 'e' in stored))
      return stored as PendingId | EndedId;
  } catch {
    // As any other damage.
  }
  return undefined;
}

/** When an id ended; long ago where that cannot be read, and never while it is pending. */
function endIn(bytes: Buffer): number {
  const stored = parsed(bytes);
  if (stored === undefined) return -Infinity;
  return 'e' in stored ? stored.a : Infinity;
}
