/**
 * The journal on LMDB. Commits that are asked for in one go share a transaction; while it is being synced, those that
 * come gather for the next one. A promise resolves when its transaction is on stable storage, and reads see it no
 * earlier: LMDB writes and syncs the pages, and only then the meta page that makes them count (ADR 0006).
 */
import { chmod, mkdir, open as openFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type * as Lmdb from 'lmdb';
import type { RootDatabase } from 'lmdb';
import { crashPoint } from '../crash-point.js';
import { AgentError, errnoOf, errorText } from '../errors.js';
import { silentLog, type Log } from '../log/log.js';
import { gathered } from './gather.js';
import { END, type Change, type Journal, type RangeOptions, type Table } from './journal.js';
import { openLmdb, type Tables } from './lmdb-store.js';
import { deferred, nextTurn, type Deferred } from './promises.js';
import { salvage, writeMark } from './salvage.js';
import type { Watch } from './witness.js';

/** Commits that go together: one promise is that of them all. */
interface Group extends Deferred {
  readonly changes: Change[];
}

export class LmdbJournal implements Journal {
  #root: RootDatabase<Buffer, string> | undefined;
  #tables: Tables | undefined;
  /** Of the package, which is loaded when it is first needed. */
  #lmdb: typeof Lmdb | undefined;
  #isOpen = false;
  /** What goes into the next transaction. */
  #next: Group | undefined;
  #writing: Promise<void> | undefined;
  /** A transaction has failed since the store was opened. */
  #hasFailed = false;

  /** `path` is the journal's directory, made when it is missing. */
  constructor(
    private readonly path: string,
    private readonly log: Log = silentLog,
    private readonly watch: Watch = {},
  ) {}

  async open(): Promise<void> {
    await makePrivateDirectory(this.path);
    this.#lmdb ??= await import('lmdb');
    try {
      await salvage({ lmdb: this.#lmdb, path: this.path, log: this.log });
      this.#openStore(this.#lmdb);
      // LMDB makes its files readable for all; the directory keeps others out, but a copy of them would not.
      for (const file of ['data.mdb', 'lock.mdb']) await chmod(join(this.path, file), 0o600);
      // LMDB syncs its file, but not the names that lead to it.
      for (const directory of [this.path, dirname(this.path)]) await syncDirectory(directory);
      this.#isOpen = true;
      await writeMark(this.path);
    } catch (error) {
      if (error instanceof AgentError) throw error;
      throw new AgentError(
        errnoOf(error) === 'EACCES' || /permission|read-only/i.test(errorText(error))
          ? 'state.unwritable'
          : 'state.corrupt',
        `the journal in ${this.path} cannot be opened: ${errorText(error)}`,
        { path: this.path },
        { cause: error },
      );
    }
  }

  #openStore(lmdb: typeof Lmdb): void {
    const { root, tables } = openLmdb(lmdb, this.path);
    this.#root = root;
    this.#tables = tables;
  }

  async close(): Promise<void> {
    this.#isOpen = false;
    await this.#writing;
    await this.#closeStore();
  }

  async #closeStore(): Promise<void> {
    const root = this.#root;
    this.#root = undefined;
    this.#tables = undefined;
    await root?.close();
  }

  commit(changes: readonly Change[]): Promise<void> {
    if (!this.#isOpen) return Promise.reject(this.#closed());
    const group = (this.#next ??= { changes: [], ...deferred() });
    for (const change of changes) group.changes.push(change);
    this.#writing ??= this.#writeAll();
    return group.done;
  }

  /** One transaction after the other until nobody waits. */
  async #writeAll(): Promise<void> {
    // Whatever else is asked for in one go comes along; whoever gathers for longer has done so already.
    await Promise.resolve();
    for (let group = this.#takeNext(); group !== undefined; group = this.#takeNext()) {
      try {
        await this.#writeWatched(group.changes);
        group.resolve();
      } catch (error) {
        this.#hasFailed = true;
        const failure = new AgentError(
          'journal.write_failed',
          `the journal in ${this.path} cannot be written: ${errorText(error)}. What it holds is kept; see to the disk`,
          { path: this.path },
          { cause: error },
        );
        // Those that gathered behind it meanwhile may depend on it, or must not overtake it.
        const behind = this.#takeNext();
        group.reject(failure);
        behind?.reject(failure);
      }
    }
    this.#writing = undefined;
  }

  #takeNext(): Group | undefined {
    const group = this.#next;
    this.#next = undefined;
    return group;
  }

  #writeWatched(changes: readonly Change[]): Promise<void> {
    const { witness } = this.watch;
    if (witness === undefined) return this.#write(changes);
    const begun = performance.now();
    return this.#write(changes).then(
      () => witness.committed(changes.length, performance.now() - begun, true),
      (error: unknown) => {
        witness.committed(changes.length, performance.now() - begun, false);
        throw error;
      },
    );
  }

  async #write(changes: readonly Change[]): Promise<void> {
    if (this.#hasFailed) await this.#reopen();
    const tables = this.#open();
    FAULT: crashPoint('journal.before-commit');
    try {
      await this.#storeOf().batch(() => {
        for (const { table, key, value } of gathered(changes)) {
          // Within a batch these have no promise of their own: `batch` has that of them all.
          if (value === undefined) void tables[table].remove(key);
          else void tables[table].put(key, value);
        }
      });
      FAULT: crashPoint('journal.committed');
    } catch (error) {
      throw await reasonOf(error);
    }
  }

  /**
   * Once its meta page could not be written, LMDB takes no transaction any more, and lmdb-js never tells those who wait
   * for one; opened anew it does. In a turn of its own, so that nobody reads in between.
   */
  async #reopen(): Promise<void> {
    await nextTurn();
    await this.#closeStore();
    if (this.#lmdb !== undefined) this.#openStore(this.#lmdb);
    this.#hasFailed = false;
  }

  get(table: Table, key: string): Buffer | undefined {
    return this.#open()[table].get(key);
  }

  *range(table: Table, { after, before, limit }: RangeOptions): Generator<readonly [string, Buffer]> {
    const entries = this.#open()[table].getRange({
      start: after,
      exclusiveStart: true,
      ...(before === END ? {} : { end: before }),
      ...(limit === undefined ? {} : { limit }),
    });
    for (const { key, value } of entries) yield [key, value];
  }

  count(table: Table): number {
    // LMDB keeps the count itself; lmdb-js types its statistics as an open object.
    const stats: unknown = this.#open()[table].getStats();
    return typeof stats === 'object' && stats !== null && 'entryCount' in stats ? Number(stats.entryCount) : 0;
  }

  #open(): Tables {
    if (this.#tables === undefined) throw this.#closed();
    return this.#tables;
  }

  #storeOf(): RootDatabase<Buffer, string> {
    if (this.#root === undefined) throw this.#closed();
    return this.#root;
  }

  #closed(): AgentError {
    return new AgentError('journal.write_failed', 'the journal is closed', { path: this.path });
  }
}

/** Why a transaction failed: lmdb-js hides it in a promise of its error, which is settled in the same turn. */
async function reasonOf(error: unknown): Promise<unknown> {
  if (!(error instanceof Error) || !('commitError' in error)) return error;
  const { commitError } = error;
  const hidden = Promise.resolve(commitError).catch((reason: unknown) => reason);
  return (await Promise.race([hidden, nextTurn()])) ?? error;
}

/** Makes the names in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await openFile(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Tells what is wrong with the way to a directory: who else could change it. Undefined when it is safe. */
export type WayCheck = (directory: string) => Promise<string | undefined>;

/**
 * Makes `path` a directory of mode 0700 that can be written; throws AgentError `state.unwritable` with what to do, or
 * `state.untrusted` where `wayProblem` finds something: then nothing in it was touched.
 */
export async function makePrivateDirectory(path: string, wayProblem?: WayCheck): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    const problem = await wayProblem?.(path);
    if (problem !== undefined)
      throw new AgentError('state.untrusted', `cannot keep messages in ${path}: ${problem}`, { path });
    await chmod(path, 0o700);
  } catch (error) {
    if (error instanceof AgentError) throw error;
    throw new AgentError(
      'state.unwritable',
      `the directory ${path} cannot be made: ${errorText(error)}. Give the daemon's user a state-dir it can write`,
      { path },
      { cause: error },
    );
  }
}
