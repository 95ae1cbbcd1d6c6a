/**
 * What becomes of a damaged store at the start (ADR 0006): all that can be read of it goes into a new one, and the old
 * file is kept aside under a name that says so. What the pages still lead to is copied as it is; of the pages that
 * nothing leads to any more, each entry is taken that proves what it is. A store of which nothing is left is refused:
 * an agent that began anew in silence would have lost what it acknowledged.
 */
import { link, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { endianness } from 'node:os';
import { join } from 'node:path';
import type * as Lmdb from 'lmdb';
import { AgentError, errnoOf } from '../errors.js';
import type { Log } from '../log/log.js';
import { directiveKey } from '../message/index.js';
import { TABLES, type Table } from './journal.js';
import { inboundIdKey, inboundPrefix, padded, PAGES, recordKey } from './keys.js';
import { LmdbPages, type Found, type Inspection } from './lmdb-pages.js';
import { openLmdb, type Tables } from './lmdb-store.js';
import { entriesOf } from './past-page.js';
import { PastPages } from './past-pages.js';
import { decodeRecord } from './record-codec.js';

/** Beside the store from its first day: where it is and the store is not, the store was lost. */
const MARK = 'made';
const FILE = 'data.mdb';
const MADE_ANEW = 'salvage';
const BATCH = 512;

export interface SalvageOptions {
  readonly lmdb: typeof Lmdb;
  /** The directory of the store. */
  readonly path: string;
  readonly log: Log;
}

/** Notes that there is a store in this directory. */
export async function writeMark(path: string): Promise<void> {
  await writeFile(join(path, MARK), 'The journal of yggd is beside this file.\n', { mode: 0o600, flag: 'a' });
}

/** Replaces the store in `path` if it is damaged. Throws AgentError `state.corrupt` when nothing of it is left. */
export async function salvage({ lmdb, path, log }: SalvageOptions): Promise<void> {
  const file = join(path, FILE);
  const size = await sizeOf(file);
  if (size === 0) {
    if (await isMarked(path)) throw gone(path);
    return;
  }
  // LMDB's pages are laid out otherwise elsewhere.
  if (endianness() !== 'LE' || !['x64', 'arm64', 'riscv64'].includes(process.arch)) return;
  const pages = new LmdbPages(file);
  try {
    if (!pages.isOurs) return;
    const { problems } = pages.inspect();
    if (problems.length === 0) return;
    log.error('journal.damaged', 'the journal is damaged: what can be read of it is moved into a new one', {
      problems,
    });
    const kept = await copy(lmdb, pages, join(path, MADE_ANEW));
    if (kept.entries === 0) throw gone(path);
    const aside = `${file}.damaged-${Date.now()}`;
    await link(file, aside);
    await rename(join(path, MADE_ANEW, FILE), file);
    await rm(join(path, MADE_ANEW), { recursive: true, force: true });
    const { records, missing, entries } = kept;
    log.error('journal.salvaged', 'the journal was made anew from what could be read; the damaged one is kept aside', {
      records,
      missing,
      entries,
      aside,
    });
  } finally {
    pages.close();
  }
}

interface Kept {
  readonly entries: number;
  /** Messages, live and dead. */
  readonly records: number;
  /** Messages that should be there by the tables’ own count and are not; undefined where that is lost too. */
  readonly missing: number | undefined;
}

/** Copies all that can be read into a new store in `to`. */
async function copy(lmdb: typeof Lmdb, pages: LmdbPages, to: string): Promise<Kept> {
  await rm(to, { recursive: true, force: true });
  await mkdir(to, { mode: 0o700 });
  const { root, tables } = openLmdb(lmdb, to);
  try {
    const writer = new Writer(root, tables);
    const inspection = pages.inspect((found) => {
      // An entry that proves what it is knows better than the page it stands in.
      const known = identified(found);
      if (isTable(found.table))
        writer.put(found.table, known?.table === found.table ? known.key : found.key, found.value);
      else if (known !== undefined) writer.put(known.table, known.key, found.value);
    });
    writer.flush();
    const found = straysIn(pages, inspection, tables);
    for (const { table, key, value } of found.values()) if (table === 'past') writer.put(table, key, value);
    writer.flush();
    for (const { table, key, value } of alive(found, tables)) writer.put(table, key, value);
    writer.flush();
    const records = tables.records.getCount() + tables.dead.getCount();
    const expected = ['records', 'dead'].map((name) => inspection.expected.get(name));
    const sum = expected.reduce((a, b) => (a === undefined || b === undefined ? undefined : a + b), 0);
    return { entries: writer.entries, records, missing: sum === undefined ? undefined : Math.max(0, sum - records) };
  } finally {
    await root.close();
  }
}

class Writer {
  #batch: { readonly table: Table; readonly key: string; readonly value: Buffer }[] = [];
  entries = 0;

  constructor(
    private readonly root: Lmdb.RootDatabase<Buffer, string>,
    private readonly tables: Tables,
  ) {}

  put(table: Table, key: string, value: Buffer): void {
    this.#batch.push({ table, key, value: Buffer.from(value) });
    this.entries += 1;
    if (this.#batch.length >= BATCH) this.flush();
  }

  flush(): void {
    const batch = this.#batch;
    this.#batch = [];
    this.root.transactionSync(() => {
      for (const { table, key, value } of batch) this.tables[table].putSync(key, value);
    });
  }
}

interface Stray {
  readonly table: Table;
  readonly key: string;
  readonly value: Buffer;
  readonly written: bigint;
}

/** What the lost pages hold and the new store does not: of each key the newest. */
function straysIn(pages: LmdbPages, { lost }: Inspection, tables: Tables): ReadonlyMap<string, Stray> {
  const newest = new Map<string, Stray>();
  for (const number of lost) {
    for (const entry of pages.entriesOf(number)) {
      const stray = identified(entry);
      if (stray === undefined || tables[stray.table].doesExist(stray.key)) continue;
      const id = `${stray.table} ${stray.key}`;
      const known = newest.get(id);
      if (known === undefined || known.written < stray.written) newest.set(id, stray);
    }
  }
  return newest;
}

/** Those of them that count, beside `past`: no message that has ended. */
function* alive(found: ReadonlyMap<string, Stray>, tables: Tables): Generator<Stray> {
  const idOf = (key: string): string | undefined => (found.get(`ids ${key}`)?.value ?? tables.ids.get(key))?.toString();
  const past = new PastPages({
    names: () => tables.past.getKeys(),
    read: (name) => tables.past.get(name),
    damaged: () => undefined,
  });
  past.load();
  // One that is dead may have been accepted anew, and each other whose time was over before its page was forgotten.
  const hasEnded = (key: string, arrivedAt = 0): boolean => {
    const [, end, at] = ENDED.exec(past.get(key)?.toString() ?? '') ?? [];
    return end !== undefined && end !== 'dead' && Number(at) >= arrivedAt;
  };
  const arrivalOf = (id: Buffer): number | undefined => {
    const path = PENDING.exec(id.toString())?.[1];
    const bytes = path === undefined ? path : (found.get(`records ${path}`)?.value ?? tables.records.get(path));
    const record = bytes && decodeRecord(bytes, '');
    return record === undefined || record.kind === 'dead' ? undefined : record.arrivedAt;
  };
  for (const stray of found.values()) {
    if (stray.table === 'past' || (stray.table === 'ids' && hasEnded(stray.key, arrivalOf(stray.value)))) continue;
    const record = stray.table === 'records' ? decodeRecord(stray.value, '') : undefined;
    if (record?.kind !== 'inbound') {
      yield stray;
      continue;
    }
    const idKey = inboundIdKey(record.directiveKey, record.messageId);
    const id = idOf(idKey);
    if (hasEnded(idKey, record.arrivedAt) || (id !== undefined && !id.includes(stray.key))) continue;
    yield stray;
    const value = Buffer.from(JSON.stringify({ r: stray.key, k: record.key }));
    if (id === undefined) yield { table: 'ids', key: idKey, value, written: stray.written };
  }
}

/** What is known of an id, as RecentIds writes it. */
const ENDED = /^\{"e":"([a-z]+)","a":(\d+)/;
const PENDING = /^\{"r":"([^"]+)"/;
const NUMBER = '[0-9a-z]{11}';
const RECORD = new RegExp(`^i/[^/]+/\\d/${NUMBER}$`);
const TWO_NUMBERS = new RegExp(`^${NUMBER}/(${NUMBER})$`);
const FACT = /^(owner|command|cancel)\/|^(sequence|sent|format|probe|content-key|results-by-sha256)$/;

/** Where an entry belongs, by its value where that has a checksum, else by its key and the look of its value. */
function identified({ key, value, written }: Found): Stray | undefined {
  const as = (table: Table, own = key): Stray => ({ table, key: own, value, written });
  const record = decodeRecord(value, '');
  switch (record?.kind) {
    case 'dead':
      return as('dead', padded(record.key));
    case 'inbound':
      return as('records', recordKey(inboundPrefix(directiveKey(record.directive), record.priority), record.key));
    case 'outbound':
      return key.startsWith('o/') ? as('records') : undefined;
    case undefined:
  }
  const text = value.toString();
  if (key.startsWith(PAGES)) return entriesOf(value) === undefined ? undefined : as('past');
  if (/^[io]\//.test(key)) return /^\{"[re]":/.test(text) ? as('ids') : undefined;
  const numbers = TWO_NUMBERS.exec(key);
  if (numbers !== null) return RECORD.test(text) && text.endsWith(numbers[1] ?? '') ? as('alarms') : as('ended');
  return FACT.test(key) ? as('facts') : undefined;
}

function isTable(name: string | undefined): name is Table {
  return TABLES.some((table) => table === name);
}

async function sizeOf(file: string): Promise<number> {
  try {
    return (await stat(file)).size;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 0;
    throw error;
  }
}

async function isMarked(path: string): Promise<boolean> {
  try {
    await readFile(join(path, MARK));
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}

function gone(path: string): AgentError {
  return new AgentError(
    'state.corrupt',
    `the journal in ${path} is gone: nothing that it held can be read. Put ${FILE} back from a copy; ` +
      `or, to begin without the messages it held, remove ${path}`,
    { path },
  );
}
