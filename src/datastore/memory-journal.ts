/**
 * The journal in memory: for tests and for programs that need no durability. It keeps the port's rule that a commit is
 * seen only once its promise resolves, so that code which reads too early fails here as it would on LMDB.
 */
import { AgentError } from '../errors.js';
import {
  bytesOf,
  copyOf,
  TABLES,
  type Change,
  type Journal,
  type OrderedTable,
  type PastPage,
  type RangeOptions,
  type Table,
  type Value,
} from './journal.js';
import { PastPages } from './past-pages.js';
import { SortedTable } from './sorted-table.js';

export class MemoryJournal implements Journal {
  /** Of `past` its pages. */
  readonly #tables = new Map<Table, SortedTable<Buffer>>(TABLES.map((table) => [table, new SortedTable()]));
  readonly #past = new PastPages({
    names: () => [],
    read: (name) => this.#table('past').get(name),
    damaged: () => undefined,
  });
  #commits = 0;
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
            for (const change of taken) this.#apply(change);
            this.#storePast();
            resolve();
          }),
        ),
    );
    return this.#last;
  }

  #apply({ table, key, value }: Change): void {
    if (table === 'past' && value !== undefined) this.#past.add(key, value);
    else this.#put(table, key, value);
    if (table === 'past' && value === undefined) this.#past.drop(key);
  }

  #storePast(): void {
    if (this.#past.added.entries === 0) return;
    this.#past.take(++this.#commits);
    const storing = this.#past.storing();
    for (const { table, key, value } of storing.changes) this.#put(table, key, value);
    for (const { table, key, value } of storing.done()) this.#put(table, key, value);
  }

  #put(table: Table, key: string, value: Value | undefined): void {
    if (value === undefined) this.#table(table).delete(key);
    else this.#table(table).set(key, bytesOf(value));
  }

  get(table: Table, key: string): Buffer | undefined {
    const entries = this.#table(table);
    if (table === 'past') return this.#past.get(key);
    const value = entries.get(key);
    return value && Buffer.from(value);
  }

  *range(table: OrderedTable, { after, before, limit }: RangeOptions): Generator<readonly [string, Buffer]> {
    for (const [key, value] of this.#table(table).between(after, before, limit)) yield [key, Buffer.from(value)];
  }

  count(table: Table): number {
    const { size } = this.#table(table);
    return table === 'past' ? this.#past.count : size;
  }

  pages(): Iterable<PastPage> {
    this.#table('past');
    return this.#past.stored();
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
