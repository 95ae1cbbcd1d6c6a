/**
 * The lanes of one direction: each a window over the journal's records under one prefix. Holds the live records in the
 * shared collection and reads more of a lane when its window runs low.
 */
import { AgentError } from '../errors.js';
import type { Content, LiveRecord, MessageKey } from '../message/index.js';
import type { Change } from './journal.js';
import { padded, recordNumber, recordPrefix, under } from './keys.js';
import type { Ledger } from './ledger.js';
import { rejected } from './promises.js';
import type { AnyRecord } from './record-codec.js';
import type { Settler } from './transactions.js';
import type { JournalKeys, LiveMessages } from './live-messages.js';
import { LaneWindow, WINDOW_LIMITS, type Sized, type WindowLimits } from './window.js';

/** What has to be committed for a record to be there, and how much the spool grows by it. */
export interface Prepared {
  readonly changes: readonly Change[];
  readonly growth: number;
}

/**
 * How a new record is committed, in the form in which it is stored, and who is told how that went: it tells the lanes
 * first, by `committed` or `failed`.
 */
export interface Entrance<R extends LiveRecord> extends Settler {
  prepare(stored: R): Prepared;
}

/** A new record, the lane it belongs to, and where the journal will have it. */
export interface Arrival<R extends LiveRecord> {
  readonly prefix: string;
  readonly record: R;
  readonly keys: JournalKeys;
}

export interface LanesOptions<R extends LiveRecord> {
  readonly ledger: Ledger;
  readonly live: LiveMessages;
  /** Narrows what the journal holds to the records of this direction. */
  readonly accepts: (record: AnyRecord | undefined) => R | undefined;
  /** Whether a record read from disk may become live now; one that is set aside comes by its alarm. */
  readonly mayEnter: (record: R) => boolean;
  /** Told of each lane that a commit which failed may have held up. */
  readonly unblocked: (prefix: string) => void;
  /** Told of each record that became live from disk. */
  readonly entered: (record: R) => void;
  /** A record whose bytes cannot be written to their file takes along those behind it in the lane. */
  readonly isStrict?: boolean;
  readonly limits?: WindowLimits;
}

const READ_AGAIN_MS = 1_000;
const NO_KEYS: readonly MessageKey[] = [];

/** Nobody has it in hand: nothing is lost when it leaves memory for a while. */
function isAtRest(record: LiveRecord | undefined): boolean {
  return record === undefined || record.state === 'accepted' || record.state === 'ready' || record.state === 'queued';
}

export class Lanes<R extends LiveRecord> {
  readonly #windows = new Map<string, LaneWindow>();
  /** The last file of a lane that is being written. */
  readonly #storing = new Map<string, Promise<Content>>();
  /** Of a strict lane in which one has failed: what was under way then, up to this key, may not be recorded any more. */
  readonly #barred = new Map<string, MessageKey>();
  #scope: AbortSignal = AbortSignal.abort();

  constructor(private readonly options: LanesOptions<R>) {}

  /** Finds the lanes that have a backlog below `root` (`i/` or `o/`) and reads the first records of each. */
  open(root: string, scope: AbortSignal): void {
    this.#scope = scope;
    this.#windows.clear();
    const { before: end } = under(root);
    let after = root;
    for (;;) {
      const first = [...this.options.ledger.journal.range('records', { after, before: end, limit: 1 })][0];
      if (first === undefined) break;
      const prefix = recordPrefix(first[0]);
      this.#windows.set(prefix, this.#newWindow(true));
      after = under(prefix).before;
    }
    for (const prefix of this.#windows.keys()) this.refill(prefix);
  }

  /** The prefixes of lanes that hold something. */
  get prefixes(): readonly string[] {
    return [...this.#windows.keys()];
  }

  /** How many lanes hold something. */
  get size(): number {
    return this.#windows.size;
  }

  has(prefix: string): boolean {
    return this.#windows.has(prefix);
  }

  /** Live, waiting keys of a lane, in order. */
  keys(prefix: string): readonly MessageKey[] {
    return this.#windows.get(prefix)?.keys ?? NO_KEYS;
  }

  /** What is live of a lane; undefined when it holds nothing. */
  window(prefix: string): Pick<LaneWindow, 'keys' | 'isCommitting'> | undefined {
    return this.#windows.get(prefix);
  }

  /** Puts a new record into its lane and commits it. Settles behind the entrance, when it is on stable storage. */
  add(arrival: Arrival<R>, entrance: Entrance<R>): Promise<void> {
    this.#enter(arrival);
    const { prefix, record } = arrival;
    const { content } = record;
    // In the caller's turn where that is possible, so that commits keep the order of arrival.
    if (
      content.kind === 'inline' &&
      ((this.#storing.size > 0 && this.#storing.has(prefix)) || this.options.ledger.files.isLarge(content.bytes))
    )
      return this.#addStored(arrival, content.bytes, entrance);
    return this.#commit(prefix, record, entrance, entrance);
  }

  async #addStored({ prefix, record }: Arrival<R>, bytes: Buffer, entrance: Entrance<R>): Promise<void> {
    const { ledger, live } = this.options;
    let content: Content;
    try {
      content = await this.#store(prefix, bytes);
    } catch (error) {
      entrance.failed(error);
      throw error;
    }
    const stored: R = { ...record, content };
    if (live.get(record.key) !== undefined) live.put(stored);
    await this.#commit(prefix, stored, entrance, {
      done: () => entrance.done(),
      failed: (error) => {
        ledger.release(content);
        entrance.failed(error);
      },
    });
  }

  #commit(prefix: string, record: R, entrance: Entrance<R>, settler: Settler): Promise<void> {
    const { ledger } = this.options;
    try {
      if (this.#barred.size > 0 && record.key <= (this.#barred.get(prefix) ?? 0))
        throw overtaken(ledger.files.directory);
      const { changes, growth } = entrance.prepare(record);
      return ledger.enlist(changes, growth, settler).durable;
    } catch (error) {
      settler.failed(error);
      return rejected(error);
    }
  }

  /**
   * Puts new records into their lanes by one commit, made in this turn: all are there or none. Not for a strict
   * direction, nor for contents that belong in a file and are in none. The settler tells of each, as an entrance does.
   * `more`: what else goes with them.
   */
  addAll(
    arrivals: readonly Arrival<R>[],
    changes: readonly Change[],
    growth: number,
    settler: Settler,
    more: readonly Change[],
  ): Promise<void> {
    for (const arrival of arrivals) this.#enter(arrival);
    return this.options.ledger.enlist(changes, growth, settler, more).durable;
  }

  /** The commit of a new record is through. */
  committed({ prefix, record, keys }: Arrival<R>): void {
    const { live, mayEnter } = this.options;
    const { key } = record;
    const window = this.#windows.get(prefix);
    // A content that went to a file is not that of this record.
    const mayJoin = window?.isHidden(key) === true && !this.#isLarge(record) && mayEnter(record);
    if (window?.committed(key, mayJoin ? this.#sizeOf(record) : undefined) === true) live.come(record, keys);
    if (this.#barred.size > 0 && key > (this.#barred.get(prefix) ?? 0)) this.#barred.delete(prefix);
    if (window?.isAtRest !== true) this.refill(prefix);
  }

  /** The one commit of new records has failed. */
  failed(arrivals: readonly Arrival<R>[]): void {
    for (const { prefix, record } of arrivals) this.#never(prefix, record.key);
    // What it held up.
    for (const { prefix } of arrivals) {
      this.refill(prefix);
      this.options.unblocked(prefix);
    }
  }

  #enter({ prefix, record, keys }: Arrival<R>): void {
    let window = this.#windows.get(prefix);
    if (window === undefined) this.#windows.set(prefix, (window = this.#newWindow(false)));
    if (window.add(record.key, this.#sizeOf(record))) this.options.live.come(record, keys);
  }

  /** Its commit failed. */
  #never(prefix: string, key: MessageKey): void {
    const window = this.#windows.get(prefix);
    window?.forget(key);
    if (this.options.isStrict === true && window?.lastCommitting !== undefined)
      this.#barred.set(prefix, window.lastCommitting);
    this.options.live.remove(key);
  }

  /** Files are written side by side. In a strict lane nobody is recorded before those that came first. */
  #store(prefix: string, bytes: Buffer): Promise<Content> {
    const { ledger, isStrict = false } = this.options;
    if (!isStrict) return ledger.store(bytes);
    const first = this.#storing.get(prefix);
    const store = async (): Promise<Content> => {
      const stored = await ledger.store(bytes);
      try {
        await first;
      } catch (error) {
        ledger.release(stored);
        throw error;
      }
      return stored;
    };
    const storing = store();
    this.#storing.set(prefix, storing);
    const done = (): void => {
      if (this.#storing.get(prefix) === storing) this.#storing.delete(prefix);
    };
    storing.then(done, done);
    return storing;
  }

  /** The record is in flight, set aside or ended: the next may come up. */
  take(prefix: string, key: MessageKey): void {
    const window = this.#windows.get(prefix);
    if (window === undefined) return;
    window.take(key);
    if (!window.isAtRest) this.refill(prefix);
  }

  /**
   * A record comes back to its place. False when it will be read from disk in its turn. However many come back, the
   * lane stays within its limit: the newest go back to the disk.
   */
  insert(prefix: string, record: R): boolean {
    const { key } = record;
    const window = this.#windows.get(prefix) ?? this.#newWindow(false);
    this.#windows.set(prefix, window);
    return window.insert(key, this.#sizeOf(record)) && this.#keepsRoom(window, key);
  }

  /** A live record has another content now. The lane stays within its limit, as with one that comes back. */
  changed(prefix: string, record: R): void {
    const window = this.#windows.get(prefix);
    window?.resize(record.key, this.#sizeOf(record));
    if (window !== undefined && !this.#keepsRoom(window, record.key)) this.options.live.remove(record.key);
  }

  /** The newest go back to the disk while there are too many. False when `key` is one of them. */
  #keepsRoom(window: LaneWindow, key: MessageKey): boolean {
    const { live } = this.options;
    for (;;) {
      const gone = window.evict((last) => last === key || isAtRest(live.get(last)));
      if (gone === undefined) return true;
      if (gone === key) return false;
      live.remove(gone);
    }
  }

  /** Reads more of a lane when there is more and its window runs low; drops the window of an empty lane. */
  refill(prefix: string): void {
    try {
      while (this.#readMore(prefix));
    } catch (error) {
      if (this.#scope.aborted) return;
      const { log, clock } = this.options.ledger;
      log.error('journal.read_failed', 'a queue cannot be read from the journal; it is tried again', { prefix, error });
      clock.after(READ_AGAIN_MS, () => this.refill(prefix), this.#scope);
    }
  }

  /** True when what was read is of no use now and there may be more. */
  #readMore(prefix: string): boolean {
    const window = this.#windows.get(prefix);
    const wanted = window?.refill();
    if (window === undefined || wanted === undefined) {
      if (window?.isEmpty === true) this.#windows.delete(prefix);
      return false;
    }
    const { ledger, live, accepts, mayEnter, entered } = this.options;
    const bounds = under(prefix);
    const range = {
      after: prefix + padded(wanted.after),
      before: wanted.before === undefined ? bounds.before : prefix + padded(wanted.before),
      limit: wanted.limit,
    };
    const fresh: R[] = [];
    const sized: Sized[] = [];
    let read = 0;
    let bytesRead = 0;
    let last = wanted.after;
    for (const [key, bytes] of ledger.journal.range('records', range)) {
      read += 1;
      const number = recordNumber(key);
      last = number ?? last;
      if (number !== undefined && live.get(number) !== undefined) continue;
      // A commit that is still under way may have changed or ended it.
      const current = ledger.latest('records', key, bytes);
      const record = current && accepts(ledger.decode('records', key, current));
      if (record === undefined || !mayEnter(record)) continue;
      const size = this.#sizeOf(record);
      fresh.push(record);
      sized.push({ key: record.key, size });
      bytesRead += size;
      if (bytesRead >= wanted.bytes) break;
    }
    const isEnd = read < wanted.limit && bytesRead < wanted.bytes;
    window.refilled(sized, last, isEnd);
    for (const record of fresh) live.put(record);
    for (const record of fresh) entered(record);
    if (read === wanted.limit && fresh.length === 0 && last > wanted.after) return true;
    if (window.isEmpty) this.#windows.delete(prefix);
    return false;
  }

  /** What its content takes in memory: none, where that is in a file, or on its way to one. */
  #sizeOf(record: R): number {
    const { content } = record;
    return content.kind === 'file' || this.#isLarge(record) ? 0 : content.bytes.length;
  }

  /** Whether its content has to go to a file. */
  #isLarge({ content }: R): boolean {
    return content.kind === 'inline' && this.options.ledger.files.isLarge(content.bytes);
  }

  #newWindow(hasBacklog: boolean): LaneWindow {
    return new LaneWindow(hasBacklog, this.options.limits ?? WINDOW_LIMITS);
  }
}

function overtaken(path: string): AgentError {
  const text = 'a message that came before it in its queue could not be recorded, and none may overtake it';
  return new AgentError('journal.write_failed', text, { path });
}
