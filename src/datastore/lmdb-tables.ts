/**
 * The tables of the journal on LMDB. Each call of `write` is one transaction, one at a time; it is on stable storage when
 * the promise resolves, and reads see it no earlier: LMDB writes and syncs the pages, and only then the meta page that
 * makes them count (ADR 0006).
 */
import { chmod } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type * as Lmdb from 'lmdb';
import type { RootDatabase } from 'lmdb';
import { AgentError, errnoOf, errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import { AbsentKeys, type KeySource } from './absent-keys.js';
import { makePrivateDirectory, syncDirectory } from './directories.js';
import { bytesOf, END, type Change, type RangeOptions, type Table } from './journal.js';
import { openLmdb, type Tables } from './lmdb-store.js';
import { nextTurn } from './promises.js';
import { salvage, writeMark } from './salvage.js';

/** Each message looks whether its id is known, and whether its records stand here: nearly none does. */
const ASKED = ['ids', 'records'] as const;

export class LmdbTables {
  #root: RootDatabase<Buffer, string> | undefined;
  #tables: Tables | undefined;
  /** Of the package, which is loaded when it is first needed. */
  #lmdb: typeof Lmdb | undefined;
  /** A transaction has failed since the store was opened. */
  #hasFailed = false;
  /** Of the tables that each message asks for keys which are not there. */
  #absent = new Map<Table, AbsentKeys>();

  /** `path` is the journal's directory, made when it is missing. */
  constructor(
    private readonly path: string,
    private readonly log: Log,
  ) {}

  /** Throws AgentError state.unwritable or state.corrupt. */
  async open(): Promise<void> {
    await makePrivateDirectory(this.path);
    this.#lmdb ??= await import('lmdb');
    try {
      await salvage({ lmdb: this.#lmdb, path: this.path, log: this.log });
      this.#openStore(this.#lmdb);
      this.#absent = new Map(ASKED.map((table) => [table, new AbsentKeys(this.#keysOf(table))]));
      // LMDB makes its files readable for all; the directory keeps others out, but a copy of them would not.
      for (const file of ['data.mdb', 'lock.mdb']) await chmod(join(this.path, file), 0o600);
      // LMDB syncs its file, but not the names that lead to it.
      for (const directory of [this.path, dirname(this.path)]) await syncDirectory(directory);
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
    const root = this.#root;
    this.#root = undefined;
    this.#tables = undefined;
    await root?.close();
  }

  /** All changes or none. Not while another call is under way. Throws AgentError journal.write_failed. */
  async write(changes: readonly Change[]): Promise<void> {
    try {
      if (this.#hasFailed) await this.#reopen();
      await this.#transact(changes);
    } catch (error) {
      this.#hasFailed = true;
      throw new AgentError(
        'journal.write_failed',
        `the journal in ${this.path} cannot be written: ${errorText(error)}. What it holds is kept; see to the disk`,
        { path: this.path },
        { cause: error },
      );
    }
  }

  async #transact(changes: readonly Change[]): Promise<void> {
    const tables = this.#open();
    this.#readKeys();
    try {
      await this.#storeOf().batch(() => {
        for (const { table, key, value } of changes) {
          if (value !== undefined) this.#absent.get(table)?.add(key);
          // Within a batch these have no promise of their own: `batch` has that of them all.
          if (value === undefined) void tables[table].remove(key);
          else void tables[table].put(key, bytesOf(value));
        }
      });
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
    await this.close();
    if (this.#lmdb !== undefined) this.#openStore(this.#lmdb);
    this.#hasFailed = false;
  }

  /** A copy of the value. */
  get(table: Table, key: string): Buffer | undefined {
    const entries = this.#open()[table];
    return this.#absent.get(table)?.has(key) === true ? undefined : entries.get(key);
  }

  has(table: Table, key: string): boolean {
    return this.#absent.get(table)?.has(key) !== true && this.#open()[table].doesExist(key);
  }

  #readKeys(): void {
    for (const [table, absent] of this.#absent) {
      try {
        absent.read();
      } catch {
        // A page that cannot be read is no reason not to write others: from now on the table itself is asked.
        this.#absent.delete(table);
      }
    }
  }

  #keysOf(table: Table): KeySource {
    return {
      count: () => this.count(table),
      keys: (after, limit) => this.keys(table, after, limit),
    };
  }

  /** The keys of a table behind `after`, in order. */
  keys(table: Table, after: string, limit?: number): Iterable<string> {
    return this.#open()[table].getKeys({ start: after, exclusiveStart: true, ...(limit !== undefined && { limit }) });
  }

  /** Entries with after < key < before, in order of keys. Values are copies. */
  *range(table: Table, { after, before, limit }: RangeOptions): Generator<readonly [string, Buffer]> {
    const entries = this.#open()[table].getRange({
      start: after,
      exclusiveStart: true,
      ...(before === END ? {} : { end: before }),
      ...(limit === undefined ? {} : { limit }),
    });
    for (const { key, value } of entries) yield [key, value];
  }

  /** How many keys a table holds. */
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
