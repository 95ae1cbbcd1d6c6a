/**
 * A map with its keys in order, in two arrays: what comes and goes with every message leaves nothing behind in them, as
 * it would in a Map, whose outgrown tables V8 chains (signal/slot-table.ts). Messages come and go in order, so most keys
 * are the next behind the last one that was set, or taken; any other is found in some ten comparisons. What is deleted
 * stays as a gap until gaps are most of it, and a key that comes between others takes the gap that is there: to move all
 * that are behind is for those that find none. Keys are ASCII, so that the order of UTF-16 units is that of their bytes.
 */
import { END } from './journal.js';

/** Fewer gaps than that are worth no tidying. */
const FEW_GAPS = 64;

export class SortedTable<V extends object> {
  /** In order, those of gaps as well. */
  #keys: string[] = [];
  /** Undefined in a gap. */
  #values: (V | undefined)[] = [];
  #gaps = 0;
  /** Where the last key stood that was set, and the last that was asked for or deleted. No more than a guess. */
  #lastSet = 0;
  #lastTaken = 0;

  get size(): number {
    return this.#keys.length - this.#gaps;
  }

  get(key: string): V | undefined {
    const at = (this.#lastTaken = this.#indexOf(key, this.#lastTaken));
    return this.#keys[at] === key ? this.#values[at] : undefined;
  }

  set(key: string, value: V): void {
    const at = (this.#lastSet = this.#indexOf(key, this.#lastSet));
    if (at === this.#keys.length) {
      this.#keys.push(key);
      this.#values.push(value);
      return;
    }
    const isGap = this.#values[at] === undefined;
    if (!isGap && this.#keys[at] !== key) {
      this.#keys.splice(at, 0, key);
      this.#values.splice(at, 0, value);
      return;
    }
    // Its own place, or a gap in front of which it belongs: those behind are greater.
    this.#keys[at] = key;
    this.#values[at] = value;
    if (isGap) this.#gaps -= 1;
  }

  delete(key: string): void {
    const at = (this.#lastTaken = this.#indexOf(key, this.#lastTaken));
    if (this.#keys[at] !== key || this.#values[at] === undefined) return;
    this.#values[at] = undefined;
    this.#gaps += 1;
    if (this.#gaps > FEW_GAPS && this.#gaps > this.size) this.#tidy();
  }

  /** The first `limit` entries with after < key < before, in order, as they are now. */
  between(after: string, before: string, limit = Infinity): readonly (readonly [string, V])[] {
    const entries: (readonly [string, V])[] = [];
    const to = before === END ? this.#keys.length : this.#indexOf(before);
    for (let at = this.#indexOf(after); at < to && entries.length < limit; at++) {
      const key = this.#keys[at] ?? '';
      const value = this.#values[at];
      if (value !== undefined && key !== after) entries.push([key, value]);
    }
    return entries;
  }

  #tidy(): void {
    const values = this.#values;
    this.#keys = this.#keys.filter((_, at) => values[at] !== undefined);
    this.#values = values.filter((value) => value !== undefined);
    this.#gaps = 0;
  }

  /** The first index whose key is not below `key`; looked for at `near` and behind it first. */
  #indexOf(key: string, near = 0): number {
    const keys = this.#keys;
    let low = 0;
    let high = keys.length;
    for (let at = near; at < near + 2 && at < high; at++) {
      if ((keys[at] ?? END) < key) low = at + 1;
      else high = at;
    }
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((keys[middle] ?? END) < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
