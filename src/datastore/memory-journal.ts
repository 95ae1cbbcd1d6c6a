/**
 * The journal in memory: for tests and for programs that need no durability. It keeps the port's rule that a commit is
 * seen only once its promise resolves, so that code which reads too early fails here as it would on LMDB.
 */
import { AgentError } from '../errors.js';
import { copyOf, TABLES, type Change, type Journal, type RangeOptions, type Table } from './journal.js';
import { SortedTable } from './sorted-table.js';

export class MemoryJournal implements Journal {
  readonly #tables = new Map<Table, SortedTable<Buffer>>(TABLES.map((table) => [table, new SortedTable()]));
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
    const taken = changes.map((change) => ({ ...change, value: copyOf(change.value) }));
    this.#last = this.#last.then(
      () =>
        new Promise((resolve) =>
          setImmediate(() => {
            for (const { table, key, value } of taken) {
              if (value === undefined) this.#table(table).delete(key);
              else this.#table(table).set(key, value);
            }
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

  *range(table: Table, { after, before, limit }: RangeOptions): Generator<readonly [string, Buffer]> {
    for (const [key, value] of this.#table(table).between(after, before, limit)) yield [key, Buffer.from(value)];
  }

  count(table: Table): number {
    return this.#table(table).size;
  }

  #table(name: Table): SortedTable<Buffer> {
    const table = this.#tables.get(name);
    if (!this.#isOpen || table === undefined) throw closed();
    return table;
  }
}

function closed(): AgentError {
  return new AgentError('journal.write_failed', 'the journal is closed');
}
