/**
 * The journal is what survives: ordered tables of bytes, changed by atomic commits. This file is the port; a write-ahead log and
 * LMDB stand behind it in the agent, memory in tests, and one contract suite holds for both. It knows nothing of messages.
 *
 * Keys are text, ordered by their bytes. A commit becomes visible to reads when its promise has resolved, in the order
 * of the calls; until then a reader sees the state before it. One that fails takes along what was asked for behind it
 * before its caller could know: what comes later is never there without what came first.
 */

/**
 * `records` live messages by queue and arrival; `ids` the record that is pending under an id; `ended` ids that an older
 * version knew to have ended, which stand in `ids` still, in the order in which they may be forgotten; `alarms` wall times
 * at which a record wants attention; `dead` messages given up; `facts` small things that must survive; `torn` the bytes of
 * records that could not be read, for a person to look at; `files` which record names a content file; `past` what is known
 * of ids that have ended. Their order stands on disk (wal-frames.ts): new ones go to the end.
 */
export const TABLES = ['records', 'ids', 'ended', 'alarms', 'dead', 'facts', 'torn', 'files', 'past'] as const;
export type Table = (typeof TABLES)[number];

/** Those whose entries are changed and removed one by one, and read in the order of their keys. */
export type OrderedTable = Exclude<Table, 'past'>;

/** Text stands for the bytes that are its characters (latin1): what is short and comes with every message needs no Buffer. */
export type Value = Buffer | string;

/** Sets a key, or removes it when there is no value. Of `past` a whole page is removed, by its name (`Journal.pages`). */
export interface Change {
  readonly table: Table;
  readonly key: string;
  readonly value: Value | undefined;
  /** The value begins with the CRC-32 of all that is behind it, as a record does: it need not be summed once more. */
  readonly isSummed?: boolean;
  /** Whether its key stands in the journal, where whoever hands it in knows that: nobody need look. */
  readonly isThere?: boolean;
}

export interface RangeOptions {
  /** First key, exclusive. */
  readonly after: string;
  /** Last key, exclusive. */
  readonly before: string;
  readonly limit?: number;
}

export interface Journal {
  /** Opens or makes the store. Throws AgentError state.unwritable or state.corrupt. */
  open(): Promise<void>;
  /** Waits for commits under way, then closes. Idempotent. */
  close(): Promise<void>;
  /**
   * All changes or none, on stable storage when the promise resolves. The list is the journal's from then on. Throws
   * AgentError journal.write_failed.
   */
  commit(changes: readonly Change[]): Promise<void>;
  /** A copy of the value. */
  get(table: Table, key: string): Buffer | undefined;
  /** Entries with after < key < before, in order of keys. Values are copies. */
  range(table: OrderedTable, options: RangeOptions): Iterable<readonly [string, Buffer]>;
  /** How many keys a table holds; of `past`, how often one was set. */
  count(table: Table): number;
  /**
   * What of `past` may be forgotten, the oldest first. What was set together stands together, or with what came before it;
   * what was set in the last seconds may be in no page yet.
   */
  pages(): Iterable<PastPage>;
}

/** A part of `past`, which goes as a whole. */
export interface PastPage {
  readonly name: string;
  readonly count: number;
  /** The value that was set last; empty when it cannot be read. */
  readonly newest: Buffer;
  /** All values, in the order they were set; none when it cannot be read. */
  values(): Iterable<Buffer>;
}

/** The bytes of a value. */
export function bytesOf(value: Value): Buffer;
export function bytesOf(value: Value | undefined): Buffer | undefined;
export function bytesOf(value: Value | undefined): Buffer | undefined {
  return typeof value === 'string' ? Buffer.from(value, 'latin1') : value;
}

/** The bytes of a value, that nobody else has. */
export function copyOf(value: Value): Buffer;
export function copyOf(value: Value | undefined): Buffer | undefined;
export function copyOf(value: Value | undefined): Buffer | undefined {
  return Buffer.isBuffer(value) ? Buffer.from(value) : bytesOf(value);
}

/** The greatest key a range can name: no key of ours starts with this letter. */
export const END = '\u{10ffff}';

/** Longest key, in bytes: LMDB's limit is 1978. */
export const MAX_KEY_BYTES = 1024;
