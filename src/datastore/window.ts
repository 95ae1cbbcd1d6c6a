/**
 * The live part of one lane: the oldest records in memory, in the order of arrival, while the rest waits on disk. A
 * record joins at once only when nothing of its lane is left on disk, else it is read back in its turn; so memory is
 * bounded and order holds whatever the length of the backlog. Bookkeeping only: it neither reads nor writes.
 */
import type { MessageKey } from '../message/index.js';

export interface WindowLimits {
  /** Records in memory per lane. */
  readonly records: number;
  /** Bytes of contents in memory per lane, and one content more. */
  readonly bytes: number;
  /** At this many and below, and a quarter of the bytes, more are read from disk. */
  readonly refill: number;
  /** Records that are read in one go: of 100 bytes each they take 2 ms. */
  readonly part: number;
}

/**
 * What flows at full load stays in memory: what was on disk once is read from there until a lane has caught up, which it
 * has when no more wait in it than `refill` and `part` together.
 */
export const WINDOW_LIMITS: WindowLimits = { records: 1024, bytes: 4 * 2 ** 20, refill: 512, part: 512 };

/** What is to be read from disk. */
export interface Refill {
  readonly after: number;
  readonly before: number | undefined;
  readonly limit: number;
  readonly bytes: number;
}

/** A record as the window sees it. */
export interface Sized {
  readonly key: MessageKey;
  /** Bytes of its content in memory. */
  readonly size: number;
}

export class LaneWindow {
  /** Live keys in order, and the size of each. */
  readonly #keys: MessageKey[] = [];
  readonly #sizes: number[] = [];
  #bytes = 0;
  /** Keys whose commit is under way, in order; almost always the first is the first to be through. */
  readonly #committing: MessageKey[] = [];
  /** The newest key that was ever committed here, or is being. */
  #newest = 0;
  /** The greatest key that was ever live here; what lies on disk beyond it has not been seen. */
  #seen = 0;
  #hasMore: boolean;

  constructor(
    hasBacklog: boolean,
    private readonly limits: WindowLimits = WINDOW_LIMITS,
  ) {
    this.#hasMore = hasBacklog;
  }

  /** Live keys in order, without those that were taken out. */
  get keys(): readonly MessageKey[] {
    return this.#keys;
  }

  get isEmpty(): boolean {
    return this.#keys.length === 0 && !this.#hasMore && this.#committing.length === 0;
  }

  /** Nothing of it is on disk, and it is not empty: there is nothing to read, and it stays. */
  get isAtRest(): boolean {
    return !this.#hasMore && (this.#keys.length > 0 || this.#committing.length > 0);
  }

  /** The newest record whose commit is under way. */
  get lastCommitting(): MessageKey | undefined {
    return this.#committing.at(-1);
  }

  isCommitting(key: MessageKey): boolean {
    // Asked of each that is handed out, and almost always it is older than all of them.
    const first = this.#committing[0];
    return first !== undefined && key >= first && this.#committing.includes(key);
  }

  /** Of a record that is being committed: whether it is not live yet. */
  isHidden(key: MessageKey): boolean {
    return key > this.#seen;
  }

  /**
   * A new record is being committed. True when it is live from the start. Keys count up, and a record comes in the turn in
   * which it is given its own: all here depends on that.
   */
  add(key: MessageKey, size: number): boolean {
    if (key <= this.#newest) throw new RangeError(`key ${key} came behind ${this.#newest}`);
    const isLive = !this.#hasMore && !this.#isFull && !this.#hasHidden;
    this.#committing.push(key);
    this.#newest = key;
    if (isLive) this.#append(key, size);
    return isLive;
  }

  /**
   * The commit is through. True when it is live from now on, though it was not from the start: it is the next of all, and
   * there is room. Otherwise what was not live waits on disk, as does what has no `size` to come in with.
   */
  committed(key: MessageKey, size: number | undefined): boolean {
    remove(this.#committing, key);
    if (key <= this.#seen) return false;
    if (size !== undefined && !this.#hasMore && !this.#isFull && (this.#firstHidden ?? key) >= key) {
      this.#append(key, size);
      return true;
    }
    this.#hasMore = true;
    return false;
  }

  /** The commit failed: the record never was. What a refill had to leave out because of it is read now. */
  forget(key: MessageKey): void {
    remove(this.#committing, key);
    this.#newest = this.lastCommitting ?? 0;
    this.#hasMore = true;
    this.take(key);
  }

  /**
   * What to read from disk now: records after `after`, before `before` (a commit under way), at most `limit`, and no more
   * once they have `bytes`; or undefined when there is no need.
   */
  refill(): Refill | undefined {
    const { records, bytes, refill, part } = this.limits;
    if (!this.#hasMore || this.#keys.length > refill || this.#bytes > bytes / 4) return undefined;
    const limit = Math.min(records - this.#keys.length, part);
    return { after: this.#seen, before: this.#firstHidden, limit, bytes: bytes - this.#bytes };
  }

  /** What a refill found, in order, up to key `lastRead`; `isEnd` when the disk held no more. */
  refilled(records: readonly Sized[], lastRead: number, isEnd: boolean): void {
    for (const { key, size } of records) this.#append(key, size);
    this.#seen = Math.max(this.#seen, lastRead);
    if (isEnd) this.#hasMore = false;
  }

  /** A record that had left comes back to its place. False when it will be read from disk in its turn anyway. */
  insert(key: MessageKey, size: number): boolean {
    if (this.#hasMore && key > this.#seen) return false;
    let index = this.#keys.length;
    while (index > 0 && (this.#keys[index - 1] ?? 0) > key) index -= 1;
    if (this.#keys[index - 1] !== key) {
      this.#keys.splice(index, 0, key);
      this.#sizes.splice(index, 0, size);
      this.#bytes += size;
    }
    this.#seen = Math.max(this.#seen, key);
    return true;
  }

  /**
   * Gives the newest record back to the disk while there are more than the limits; it is read again in its turn.
   * Undefined when there are not, or when `mayGo` says that it is needed.
   */
  evict(mayGo: (key: MessageKey) => boolean): MessageKey | undefined {
    const last = this.#keys.at(-1);
    const { records, bytes } = this.limits;
    const hasRoom = this.#keys.length <= records && (this.#bytes <= bytes || this.#keys.length === 1);
    if (last === undefined || hasRoom || !mayGo(last)) return undefined;
    this.#keys.pop();
    this.#bytes -= this.#sizes.pop() ?? 0;
    // What lies between it and the one before is in flight or set aside, and comes back by itself.
    this.#seen = last - 1;
    this.#hasMore = true;
    return last;
  }

  /** Takes a record out: it is in flight, set aside for a while, or ended. */
  take(key: MessageKey): void {
    const index = indexOf(this.#keys, key);
    if (index < 0) return;
    this.#bytes -= this.#sizes[index] ?? 0;
    removeAt(this.#keys, index);
    removeAt(this.#sizes, index);
  }

  /** A record has another content now. */
  resize(key: MessageKey, size: number): void {
    const index = indexOf(this.#keys, key);
    if (index < 0) return;
    this.#bytes += size - (this.#sizes[index] ?? 0);
    this.#sizes[index] = size;
  }

  get #isFull(): boolean {
    return this.#keys.length >= this.limits.records || this.#bytes >= this.limits.bytes;
  }

  #append(key: MessageKey, size: number): void {
    this.#keys.push(key);
    this.#sizes.push(size);
    this.#bytes += size;
    this.#seen = Math.max(this.#seen, key);
  }

  /** The first record that is being committed and is not live. */
  get #firstHidden(): MessageKey | undefined {
    for (const key of this.#committing) if (key > this.#seen) return key;
    return undefined;
  }

  /** Whether a record is being committed that will have to be read from disk; of one that was committed `#hasMore` tells. */
  get #hasHidden(): boolean {
    return this.#newest > this.#seen;
  }
}

function remove(keys: MessageKey[], key: MessageKey): void {
  const index = indexOf(keys, key);
  if (index >= 0) removeAt(keys, index);
}

/** Almost always it is the head. */
function indexOf(keys: readonly MessageKey[], key: MessageKey): number {
  return keys[0] === key ? 0 : keys.indexOf(key);
}

function removeAt(list: number[], index: number): void {
  if (index === 0) list.shift();
  else list.splice(index, 1);
}
