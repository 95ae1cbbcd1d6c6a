/**
 * The lanes of one direction: each a window over the journal's records under one prefix. Holds the live records in the
 * shared collection and reads more of a lane when its window runs low.
 */
import type { InboundRecord, MessageKey, OutboundRecord } from '../message/index.js';
import type { Change } from './journal.js';
import { padded, splitRecordKey, under } from './keys.js';
import type { Ledger } from './ledger.js';
import type { LiveCollection } from './live-collection.js';
import { LaneWindow, WINDOW_LIMITS, type WindowLimits } from './window.js';

export type LiveRecord = InboundRecord | OutboundRecord;
export type LiveMessages = LiveCollection<MessageKey, LiveRecord>;

/** What has to be committed for a record to be there, and how much the spool grows by it. */
export interface Prepared {
  readonly changes: readonly Change[];
  readonly growth: number;
}

export interface LanesOptions<R extends LiveRecord> {
  readonly ledger: Ledger;
  readonly live: LiveMessages;
  /** Narrows what the journal holds to the records of this direction. */
  readonly accepts: (record: unknown) => R | undefined;
  /** Whether a record read from disk may become live now; one that is set aside comes by its alarm. */
  readonly mayEnter: (record: R) => boolean;
  /** Told of each record that became live from disk. */
  readonly entered: (record: R) => void;
  readonly limits?: WindowLimits;
}

export class Lanes<R extends LiveRecord> {
  readonly #windows = new Map<string, LaneWindow>();

  constructor(private readonly options: LanesOptions<R>) {}

  /** Finds the lanes that have a backlog below `root` (`i/` or `o/`) and reads the first records of each. */
  open(root: string): void {
    const { before: end } = under(root);
    let after = root;
    for (;;) {
      const first = [...this.options.ledger.journal.range('records', { after, before: end, limit: 1 })][0];
      if (first === undefined) break;
      const { prefix } = splitRecordKey(first[0]);
      this.#windows.set(prefix, this.#window(true));
      after = under(prefix).before;
    }
    for (const prefix of this.#windows.keys()) this.refill(prefix);
  }

  /** The prefixes of lanes that hold something. */
  get prefixes(): readonly string[] {
    return [...this.#windows.keys()];
  }

  /** Live, waiting keys of a lane, in order. */
  keys(prefix: string): readonly MessageKey[] {
    return this.#windows.get(prefix)?.keys ?? [];
  }

  isCommitting(prefix: string, key: MessageKey): boolean {
    return this.#windows.get(prefix)?.isCommitting(key) ?? false;
  }

  /** Puts a new record into its lane and commits it; resolves when it is on stable storage. */
  async add(prefix: string, record: R, prepare: () => Prepared | Promise<Prepared>): Promise<void> {
    const window = this.#windows.get(prefix) ?? this.#window(false);
    this.#windows.set(prefix, window);
    if (window.add(record.key)) this.options.live.put(record);
    try {
      const prepared = prepare();
      // In the caller's turn where that is possible, so that commits keep the order of arrival.
      const { changes, growth } = prepared instanceof Promise ? await prepared : prepared;
      await this.options.ledger.commit(changes, growth);
    } catch (error) {
      window.forget(record.key);
      this.options.live.remove(record.key);
      throw error;
    }
    window.committed(record.key);
    this.refill(prefix);
  }

  /** The record is in flight, set aside or ended: the next may come up. */
  take(prefix: string, key: MessageKey): void {
    const window = this.#windows.get(prefix);
    if (window === undefined) return;
    window.take(key);
    this.refill(prefix);
  }

  /** A record comes back to its place. False when it will be read from disk in its turn. */
  insert(prefix: string, key: MessageKey): boolean {
    const window = this.#windows.get(prefix) ?? this.#window(false);
    this.#windows.set(prefix, window);
    return window.insert(key);
  }

  /** Reads more of a lane when there is more and its window runs low; drops the window of an empty lane. */
  refill(prefix: string): void {
    const window = this.#windows.get(prefix);
    const wanted = window?.refill();
    if (window === undefined || wanted === undefined) {
      if (window?.isEmpty === true) this.#windows.delete(prefix);
      return;
    }
    const { ledger, live, accepts, mayEnter, entered } = this.options;
    const bounds = under(prefix);
    const range = {
      after: prefix + padded(wanted.after),
      before: wanted.before === undefined ? bounds.before : prefix + padded(wanted.before),
      limit: wanted.limit,
    };
    const fresh: R[] = [];
    let read = 0;
    let last = wanted.after;
    for (const [key, bytes] of ledger.journal.range('records', range)) {
      read += 1;
      last = splitRecordKey(key).key;
      // Ended by a commit that is still under way.
      if (ledger.get('records', key) === undefined) continue;
      const record = accepts(ledger.decode(key, bytes));
      if (record === undefined || live.get(record.key) !== undefined || !mayEnter(record)) continue;
      fresh.push(record);
    }
    window.refilled(
      fresh.map((record) => record.key),
      last,
      read < wanted.limit,
    );
    for (const record of fresh) live.put(record);
    for (const record of fresh) entered(record);
    if (read === wanted.limit && fresh.length === 0) this.refill(prefix);
    else if (window.isEmpty) this.#windows.delete(prefix);
  }

  #window(hasBacklog: boolean): LaneWindow {
    return new LaneWindow(hasBacklog, this.options.limits ?? WINDOW_LIMITS);
  }
}
