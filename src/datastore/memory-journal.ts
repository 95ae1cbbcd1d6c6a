/**
 * The journal in memory: for tests and for programs that need no durability. It keeps the port's rule that a commit is
 * seen only once its promise resolves, so that code which reads too early fails here as it would on LMDB.
 */
import { AgentError } from '../errors.js';
import { END, TABLES, type Change, type Journal, type RangeOptions, type Table } from './journal.js';

export class MemoryJournal implements Journal {
  readonly #tables = new Map<Table, SortedTable>(TABLES.map((table) => [table, new SortedTable()]));
  #isOpen = false;
  #last: Promise<void> = Promise.resolve();

  open(): Promise<void> {
    this.#isOpen = true;
    return Promise.resolve();
  }

  async close(): Promise<void> {
    await this.#last;
    this.#isOpen = false;
  }

  commit(changes: readonly Change[]): Promise<void> {
    if (!this.#isOpen) return Promise.reject(closed());
    // The bytes are taken now: the caller may reuse them afterwards, as with a real store.
    const taken = changes.map((change) => ({ ...change, value: change.value && Buffer.from(change.value) }));
    this.#last = this.#last.then(
      () =>
        new Promise((resolve) =>
          setImmediate(() => {
            for (const { table, key, value } of taken) this.#table(table).set(key, value);
            resolve();
          }),
        ),
    );
    return this.#last;
  }

  get(table: Table, key: string): Buffer | undefined {
    const value = this.#table(table).get(key);
    return value && Buffer.from(value);
  }

  *range(table: Table, { after, before, limit = Infinity }: RangeOptions): Generator<readonly [string, Buffer]> {
    let left = limit;
    for (const [key, value] of this.#table(table).between(after, before)) {
      if (left <= 0) return;
      left -= 1;
      yield [key, Buffer.from(value)];
    }
  }

  count(table: Table): number {
    return this.#table(table).size;
  }

  #table(name: Table): SortedTable {
    const table = this.#tables.get(name);
    if (!this.#isOpen || table === undefined) throw closed();
    return table;
  }
}

function closed(): AgentError {
  return new AgentError('journal.write_failed', 'the journal is closed');
}

/** A map with its keys in order. Keys are ASCII, so the order of UTF-16 units is that of their bytes. */
class SortedTable {
  readonly #values = new Map<string, Buffer>();
  #keys: string[] = [];

  get size(): number {
    return this.#values.size;
  }

  get(key: string): Buffer | undefined {
    return this.#values.get(key);
  }

  set(key: string, value: Buffer | undefined): void {
    const isNew = !this.#values.has(key);
    if (value === undefined) {
      if (!isNew) this.#keys.splice(this.#indexOf(key), 1);
      this.#values.delete(key);
    } else {
      if (isNew) this.#keys.splice(this.#indexOf(key), 0, key);
      this.#values.set(key, value);
    }
  }

  *between(after: string, before: string): Generator<readonly [string, Buffer]> {
    let index = this.#indexOf(after);
    if (this.#keys[index] === after) index += 1;
    // A snapshot: the reader may change the table while it reads.
    const keys = this.#keys.slice(index, before === END ? undefined : this.#indexOf(before));
    for (const key of keys) {
      const value = this.#values.get(key);
      if (value !== undefined) yield [key, value];
    }
  }

  /** The first index whose key is not below `key`. */
  #indexOf(key: string): number {
    let low = 0;
    let high = this.#keys.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#keys[middle] ?? END) < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
