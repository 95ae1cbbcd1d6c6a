/** A journal whose commits fail while a test says so, as on a disk that is full. */
import { AgentError } from '../../src/errors.js';
import { MemoryJournal, type Change, type Journal, type RangeOptions, type Table } from '../../src/datastore/index.js';
import type { OrderedTable, PastPage } from '../../src/datastore/journal.js';

export class FaultyJournal implements Journal {
  /** Asked at each commit. */
  fails: (changes: readonly Change[]) => boolean = () => false;
  /** Asked at each read of a range. */
  cannotRead: () => boolean = () => false;

  /** Commits that have failed, and whose callers do not know it yet. */
  #failing = 0;

  constructor(readonly inner: Journal = new MemoryJournal()) {}

  open(): Promise<void> {
    return this.inner.open();
  }

  close(): Promise<void> {
    return this.inner.close();
  }

  async commit(changes: readonly Change[]): Promise<void> {
    if (this.fails(changes) || this.#failing > 0) {
      this.#failing += 1;
      await new Promise((resolve) => setImmediate(resolve));
      this.#failing -= 1;
      throw new AgentError('journal.write_failed', 'there is no space left on the disk');
    }
    await this.inner.commit(changes);
  }

  get(table: Table, key: string): Buffer | undefined {
    return this.inner.get(table, key);
  }

  range(table: OrderedTable, options: RangeOptions): Iterable<readonly [string, Buffer]> {
    if (this.cannotRead()) throw new Error('MDB_CORRUPTED: the page cannot be read');
    return this.inner.range(table, options);
  }

  count(table: Table): number {
    return this.inner.count(table);
  }

  pages(): Iterable<PastPage> {
    return this.inner.pages();
  }
}
