/**
 * The journal on LMDB. Commits of one turn of the event loop share a transaction and one fdatasync; the promise of a
 * commit resolves behind that fdatasync (seen with strace on lmdb 3.5.6 with its default `overlappingSync`).
 */
import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Database, RootDatabase } from 'lmdb';
import { crashPoint } from '../crash-point.js';
import { AgentError, errnoOf, errorText } from '../errors.js';
import { END, TABLES, type Change, type Journal, type RangeOptions, type Table } from './journal.js';

export class LmdbJournal implements Journal {
  #root: RootDatabase<Buffer, string> | undefined;
  #tables: Readonly<Record<Table, Database<Buffer, string>>> | undefined;
  /** Resolves once whoever waits for the latest commit was told. */
  #latest: Promise<void> = Promise.resolve();

  /** `path` is the journal's directory, made when it is missing. */
  constructor(private readonly path: string) {}

  async open(): Promise<void> {
    await makePrivateDirectory(this.path);
    const { open } = await import('lmdb');
    try {
      const root = open<Buffer, string>({ path: this.path, encoding: 'binary', maxDbs: TABLES.length });
      const table = (name: Table): Database<Buffer, string> =>
        root.openDB<Buffer, string>(name, { encoding: 'binary' });
      this.#tables = {
        records: table('records'),
        ids: table('ids'),
        ended: table('ended'),
        alarms: table('alarms'),
        dead: table('dead'),
        facts: table('facts'),
      };
      this.#root = root;
      // LMDB makes its files readable for all; the directory keeps others out, but a copy of them would not.
      for (const file of ['data.mdb', 'lock.mdb']) await chmod(join(this.path, file), 0o600);
    } catch (error) {
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

  async close(): Promise<void> {
    const root = this.#root;
    this.#root = undefined;
    this.#tables = undefined;
    await root?.close();
  }

  /**
   * In order: when a turn makes more than some thousand changes, LMDB tells of the later ones of a transaction first
   * (its `batchStartThreshold`), and messages would overtake each other.
   */
  commit(changes: readonly Change[]): Promise<void> {
    const before = this.#latest;
    const committed = this.#write(changes).finally(() => before);
    this.#latest = committed.catch(() => undefined);
    return committed;
  }

  async #write(changes: readonly Change[]): Promise<void> {
    const tables = this.#open();
    try {
      FAULT: crashPoint('journal.before-commit');
      await this.#root?.batch(() => {
        for (const { table, key, value } of changes) {
          // Each put returns the promise of the whole batch; `batch` hands that one out, so these are not awaited.
          if (value === undefined) void tables[table].remove(key);
          else void tables[table].put(key, value);
        }
      });
      FAULT: crashPoint('journal.committed');
    } catch (error) {
      throw new AgentError(
        'journal.write_failed',
        `the journal in ${this.path} cannot be written: ${errorText(error)}. What it holds is kept; see to the disk`,
        { path: this.path },
        { cause: error },
      );
    }
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

  #open(): Readonly<Record<Table, Database<Buffer, string>>> {
    if (this.#tables === undefined)
      throw new AgentError('journal.write_failed', 'the journal is closed', { path: this.path });
    return this.#tables;
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
