/**
 * The journal as the queues use it: commits that read their own writes, the sequence of keys, the space that messages
 * take, and the records themselves. One commit may hold changes of several queues; all of them happen or none.
 */
import { statfs } from 'node:fs/promises';
import type { Log } from '../log/log.js';
import { messageKey, type Content, type LiveRecord, type MessageKey } from '../message/index.js';
import { Signal } from '../signal/index.js';
import { untilBeat, type Clock } from '../time.js';
import type { ContentFiles } from './content-files.js';
import { Inventory } from './inventory.js';
import { bytesOf, type Change, type Journal, type Table } from './journal.js';
import { decodeRecord, RecordEncoder, type AnyRecord } from './record-codec.js';
import { TornRecords } from './torn-records.js';
import { Transactions, type Settler, type Transaction } from './transactions.js';
import type { Watch } from './witness.js';

export interface SpoolLimits {
  /** Bytes that records and content files may take together. */
  readonly limit: number;
  /** Bytes of the disk that stay free. */
  readonly reserve: number;
}

/** The share of the spool that intake may fill; the rest is for results (CONTRACT 1.13). */
const INTAKE_SHARE = 0.75;
const KEYS_PER_RESERVATION = 4096;
const SEQUENCE = 'sequence';
const NO_CHANGES: readonly Change[] = [];
/** The free disk space is looked up this often. */
const DISK_CHECK_MS = 5_000;

/** Entries of the inventory in one commit. */
const STOCK_BATCH = 256;

/** What the start found out about the journal. */
export interface Findings {
  /** Bytes that dead messages take. */
  readonly deadBytes: number;
  /** Records whose content file is missing or has another size. */
  readonly damaged: readonly LiveRecord[];
}

/** For what waits for the promise, or is put right elsewhere when it fails. */
const NOBODY: Settler = { done: () => undefined, failed: () => undefined };

export class Ledger {
  /** The intake may go on: there is room again. */
  readonly room = new Signal<undefined>('room');
  readonly torn: TornRecords;
  /** Writes the records of messages. */
  readonly encoder = new RecordEncoder();
  readonly #inventory: Inventory;
  readonly #transactions: Transactions;
  #next = 1;
  /** Keys below this one are never given out by a later run: so much is on stable storage. */
  #reserved = 1;
  #bytes = 0;
  /** Bytes on their way to a content file, whose commit is still to come. */
  #held = 0;
  #isDiskLow = false;
  #wasFull = false;

  constructor(
    readonly journal: Journal,
    readonly files: ContentFiles,
    readonly clock: Clock,
    readonly log: Log,
    private readonly spool: SpoolLimits,
    readonly watch: Watch = {},
  ) {
    this.#inventory = new Inventory(journal, files.directory);
    this.#transactions = new Transactions({
      write: (transaction) => this.#write(transaction),
      done: (transaction) => {
        this.#noteReserved(transaction);
        if (transaction.isFreeing) this.#announceRoom();
      },
      failed: ({ growth }) => {
        this.#inventory.forget();
        this.#bytes -= growth;
      },
      misled: (error) =>
        log.error('journal.misled', 'a change is recorded, but what follows from it failed', { error }),
    });
    this.torn = new TornRecords(journal, (changes) => this.commit(changes), clock, log);
  }

  /** Takes stock: the sequence, the space taken, torn records, and content files that nobody names, which go. */
  async open(scope: AbortSignal): Promise<Findings> {
    const { bytes, deadBytes, lastKey, files, torn, changes } = this.#inventory.take();
    this.#bytes = bytes;
    const reserved = Number(this.journal.get('facts', SEQUENCE)?.toString() ?? '1');
    // A sequence that was torn must not make new messages take the places of those that are there.
    const isSound = Number.isSafeInteger(reserved) && reserved > 0;
    this.#next = Math.max(isSound ? reserved : 1, (lastKey ?? (isSound ? 0 : this.#inventory.lastKey())) + 1);
    this.#reserved = this.#next;
    if (await this.torn.moveAll(torn)) await this.#writeDown(changes);
    await this.files.sweep(files);
    await this.#watchDisk(scope);
    return { deadBytes, damaged: await this.#damaged([...files.values()]) };
  }

  /** A disk that takes nothing keeps no start from what it holds: then the next one counts again. */
  async #writeDown(changes: readonly Change[]): Promise<void> {
    try {
      for (let at = 0; at < changes.length; at += STOCK_BATCH)
        await this.journal.commit(changes.slice(at, at + STOCK_BATCH));
    } catch (error) {
      this.log.error('journal.write_failed', 'the inventory of the journal could not be written', { error });
    }
  }

  async #damaged(records: readonly (LiveRecord | undefined)[]): Promise<readonly LiveRecord[]> {
    const damaged: LiveRecord[] = [];
    for (const record of records) {
      if (record !== undefined && !(await this.files.isWhole(record.content))) damaged.push(record);
    }
    return damaged;
  }

  /** Bytes that live records and their files take. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whether the intake has to wait (CONTRACT 1.13). */
  get isIntakeFull(): boolean {
    return (this.#wasFull = this.#isDiskLow || this.#bytes + this.#held >= this.spool.limit * INTAKE_SHARE);
  }

  /** Whether even results have no room. */
  get isFull(): boolean {
    return this.#isDiskLow || this.#bytes + this.#held >= this.spool.limit;
  }

  /** Stores a content that is too large for a record; its bytes count from the start. */
  async store(bytes: Buffer): Promise<Content> {
    this.#held += bytes.length;
    try {
      return await this.files.store(bytes);
    } finally {
      this.#held -= bytes.length;
    }
  }

  /** Keeps room for bytes that are on their way, until what it gives is called; undefined when there is none. */
  reserve(bytes: number): (() => void) | undefined {
    if (this.isFull) return undefined;
    let held = bytes;
    this.#held += held;
    return () => {
      this.#held -= held;
      const freed = held;
      held = 0;
      if (freed > 0) this.#announceRoom();
    };
  }

  /** What a commit added is gone with a record that ended meanwhile. */
  shrink(bytes: number): void {
    this.#bytes -= bytes;
  }

  /**
   * The next key; the changes, where there are any, belong to the commit that first uses it. Each commit carries the
   * reservation until one of them is through: were it lost with a commit that failed, keys would be given out twice.
   */
  nextKey(): { key: MessageKey; changes: readonly Change[] } {
    const key = messageKey(this.#next++);
    if (key < this.#reserved) return { key, changes: NO_CHANGES };
    return { key, changes: [{ table: 'facts', key: SEQUENCE, value: String(key + KEYS_PER_RESERVATION) }] };
  }

  /** Commits; until then `get` already answers with the new values. `growth` is what the spool takes more or less. */
  commit(changes: readonly Change[], growth = 0): Promise<void> {
    return this.enlist(changes, growth, NOBODY).durable;
  }

  /** As `commit`, with `more`, for those that come with every message: `settler` is told how it went, before the promise. */
  enlist(changes: readonly Change[], growth: number, settler: Settler, more?: readonly Change[]): Transaction {
    this.#bytes += growth;
    return this.#transactions.add(changes, growth, settler, more);
  }

  /**
   * As `enlist`, for what nobody waits for: the end of a message. It rides with the next commit, or goes by itself a
   * moment later; so each message costs two syncs instead of four. A crash in that moment does the work once more.
   */
  enlistSoon(changes: readonly Change[], growth: number, settler: Settler): Transaction {
    this.#bytes += growth;
    return this.#transactions.addSoon(changes, growth, settler);
  }

  /** As `enlistSoon`, for what is asked for again later where it fails. */
  commitSoon(changes: readonly Change[]): void {
    if (changes.length > 0) this.enlistSoon(changes, 0, NOBODY);
  }

  /** Commits all there is. Whoever handed it in is told how that went. */
  flush(): Promise<void> {
    return this.#transactions.flush();
  }

  #write({ changes }: Transaction): Promise<void> {
    for (const change of this.#inventory.changesFor(changes, this.#bytes)) changes.push(change);
    return this.journal.commit(changes);
  }

  #noteReserved({ changes }: Transaction): void {
    for (const { key, value } of changes) {
      if (key === SEQUENCE && value !== undefined) this.#reserved = Math.max(this.#reserved, Number(value.toString()));
    }
  }

  #announceRoom(): void {
    if (this.#wasFull && !this.isIntakeFull) this.room.emit(undefined);
  }

  get(table: Table, key: string): Buffer | undefined {
    const change = this.#transactions.find(table, key);
    return change === undefined ? this.journal.get(table, key) : bytesOf(change.value);
  }

  /** `committed`, or what a commit under way has made of it. */
  latest(table: Table, key: string, committed: Buffer): Buffer | undefined {
    const change = this.#transactions.find(table, key);
    return change === undefined ? committed : bytesOf(change.value);
  }

  /** The record behind a key; one that is torn is put aside. */
  decode(table: 'records' | 'dead', key: string, bytes: Buffer): AnyRecord | undefined {
    const record = decodeRecord(bytes, this.files.directory);
    if (record === undefined) this.torn.met(table, key, bytes, table === 'records' ? [this.#inventory.distrust()] : []);
    return record;
  }

  read(key: string): AnyRecord | undefined {
    const bytes = this.get('records', key);
    return bytes && this.decode('records', key, bytes);
  }

  /** Deletes the file of a content whose record is gone; one that cannot be deleted goes at the next start. */
  release(content: Content): void {
    if (content.kind !== 'file') return;
    // What stays in the inventory is put right at the next start.
    this.enlistSoon([this.#inventory.released(content.path)], 0, NOBODY);
    this.files.remove(content.path).catch((error: unknown) => {
      this.log.warn('content.left', 'a content file could not be deleted; it goes at the next start', { error });
    });
  }

  async #watchDisk(scope: AbortSignal): Promise<void> {
    if (this.spool.reserve <= 0 || this.files.directory === '') return;
    try {
      const { bavail, bsize } = await statfs(this.files.directory);
      const isLow = bavail * bsize < this.spool.reserve;
      if (isLow && !this.#isDiskLow) {
        this.log.error('spool.disk_low', 'the disk is nearly full: messages wait at the broker until there is room', {
          free: bavail * bsize,
          reserve: this.spool.reserve,
        });
      }
      this.#isDiskLow = isLow;
      this.#announceRoom();
    } catch (error) {
      this.log.warn('spool.disk_unknown', 'the free space of the disk cannot be read', { error });
    }
    this.clock.after(untilBeat(this.clock, DISK_CHECK_MS), () => void this.#watchDisk(scope), scope);
  }
}
