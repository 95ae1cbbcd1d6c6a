/**
 * Which keys a table on disk does not hold, told without asking the disk: a Bloom filter of those it does.
 *
 * The keys are read a part at a time, with the writes to the table: so that a start does not wait for them, and an agent
 * that has nothing to do reads none. Until they are all read, nothing is told. Keys that leave the table stay in the
 * filter; once it holds more than it was made for, another is filled beside it.
 */

/** Keys read in one part: a millisecond. */
const PART = 1024;
/** A filter is made for so many times the keys that are there, and for so many at least: to fill the next one costs more. */
const ROOM = 8;
const FEWEST = 2 ** 18;
/** Of 1,000 keys that are not there, a full filter does not tell of 30 (k = 3). */
const BITS_PER_KEY = 8;
/** The ends of keys differ: they are ids, or hashes. */
const TAIL = 32;

/** The table whose keys these are. */
export interface KeySource {
  count(): number;
  /** The first `limit` keys behind `after`, in order. */
  keys(after: string, limit: number): Iterable<string>;
}

export class AbsentKeys {
  #filter: KeyFilter | undefined;
  /** The one that is being filled, and the last key that was read for it. */
  #next: { readonly filter: KeyFilter; after: string } | undefined;

  constructor(private readonly table: KeySource) {}

  /** True only for a key that is not in the table. */
  has(key: string): boolean {
    return this.#filter !== undefined && !this.#filter.mayHold(key);
  }

  /** Before each write to the table, with no other under way: reads some of what it holds, if there is need. */
  read(): void {
    if (this.#filter?.isFull !== false) this.#next ??= { filter: new KeyFilter(ROOM * this.table.count()), after: '' };
    const next = this.#next;
    if (next === undefined) return;
    let read = 0;
    for (const key of this.table.keys(next.after, PART)) {
      next.filter.add(key);
      next.after = key;
      read += 1;
    }
    if (read === PART) return;
    this.#filter = next.filter;
    this.#next = undefined;
  }

  /** Behind `read`, before it is written. */
  add(key: string): void {
    this.#filter?.add(key);
    this.#next?.filter.add(key);
  }
}

class KeyFilter {
  readonly #words: Uint32Array;
  readonly #mask: number;
  #left: number;

  constructor(keys: number) {
    this.#left = Math.max(FEWEST, keys);
    const bits = 2 ** Math.ceil(Math.log2(this.#left * BITS_PER_KEY));
    this.#words = new Uint32Array(bits / 32);
    this.#mask = bits - 1;
  }

  get isFull(): boolean {
    return this.#left <= 0;
  }

  add(key: string): void {
    this.#left -= 1;
    const first = hashOf(key);
    const step = stepOf(first);
    for (const hash of [first, first + step, first + 2 * step]) {
      const bit = hash & this.#mask;
      this.#words[bit >>> 5] = (this.#words[bit >>> 5] ?? 0) | (1 << (bit & 31));
    }
  }

  mayHold(key: string): boolean {
    const first = hashOf(key);
    const step = stepOf(first);
    return this.#has(first) && this.#has(first + step) && this.#has(first + 2 * step);
  }

  #has(hash: number): boolean {
    const bit = hash & this.#mask;
    return (((this.#words[bit >>> 5] ?? 0) >>> (bit & 31)) & 1) === 1;
  }
}

/** FNV-1a of the end of a key, 32 bits. */
function hashOf(key: string): number {
  let hash = 0x811c9dc5 ^ key.length;
  for (let at = Math.max(0, key.length - TAIL); at < key.length; at++)
    hash = Math.imul(hash ^ key.charCodeAt(at), 0x01000193);
  return hash;
}

/** A second number out of the first, odd, so that all bits are reached. */
function stepOf(hash: number): number {
  return Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d) | 1;
}
