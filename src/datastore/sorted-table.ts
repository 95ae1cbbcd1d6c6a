/**
 * A map with its keys in order, in two arrays: what comes and goes with every message leaves nothing behind in them, as
 * it would in a Map, whose outgrown tables V8 chains (signal/slot-table.ts). A key is found in some ten comparisons; to
 * put one in front of many moves these, which is quick for some thousands. Keys are ASCII, so that the order of UTF-16
 * units is that of their bytes.
 */
import { END } from './journal.js';

export class SortedTable<V> {
  readonly #keys: string[] = [];
  readonly #values: V[] = [];

  get size(): number {
    return this.#keys.length;
  }

  get(key: string): V | undefined {
    const at = this.#indexOf(key);
    return this.#keys[at] === key ? this.#values[at] : undefined;
  }

  set(key: string, value: V): void {
    const at = this.#indexOf(key);
    if (this.#keys[at] === key) {
      this.#values[at] = value;
    } else if (at === this.#keys.length) {
      this.#keys.push(key);
      this.#values.push(value);
    } else {
      this.#keys.splice(at, 0, key);
      this.#values.splice(at, 0, value);
    }
  }

  delete(key: string): void {
    const at = this.#indexOf(key);
    if (this.#keys[at] !== key) return;
    this.#keys.splice(at, 1);
    this.#values.splice(at, 1);
  }

  /** The first `limit` entries with after < key < before, in order, as they are now. */
  between(after: string, before: string, limit = Infinity): readonly (readonly [string, V])[] {
    let from = this.#indexOf(after);
    if (this.#keys[from] === after) from += 1;
    const to = before === END ? this.#keys.length : this.#indexOf(before);
    const values = this.#values.slice(from, Math.min(to, from + limit));
    return values.map((value, n) => [this.#keys[from + n] ?? '', value]);
  }

  /** The first index whose key is not below `key`. */
  #indexOf(key: string): number {
    const keys = this.#keys;
    let low = 0;
    let high = keys.length;
    // Most keys are new and the greatest of all.
    if (high > 0 && (keys[high - 1] ?? END) < key) return high;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((keys[middle] ?? END) < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
