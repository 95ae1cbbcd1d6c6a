/**
 * The journal of the agent: a write-ahead log before the tables of LMDB (ADR 0014). A commit is one write to the log,
 * and from then on lies over the tables in memory. What is still there after some seconds, or thousands of changes, goes
 * to the tables in the background: a checkpoint. Of a message that came and went meanwhile that is the memory of its id,
 * a line in a page of many (past-pages.ts).
 *
 * The number of the last commit that is in the tables stands there too (`logged`), written behind all that belongs to
 * it. So a start repeats what comes behind that number, in order; what was in the tables already is set once more to what
 * it is. Where a write to the log fails, nobody can tell how much of it is there: then all that counts goes to the tables
 * with the number of the failed one, and the log begins anew.
 */
import { crashPoint } from '../crash-point.js';
import { AgentError, errorText } from '../errors.js';
import { silentLog, type Log } from '../log/log.js';
import { gathered } from './gather.js';
import {
  MAX_KEY_BYTES,
  type Change,
  type Journal,
  type OrderedTable,
  type PastPage,
  type RangeOptions,
  type Table,
} from './journal.js';
import { Layers } from './layers.js';
import { LmdbTables } from './lmdb-tables.js';
import type { OverlayMeasure } from './overlay.js';
import { deferred, type Deferred } from './promises.js';
import { WriteAheadLog } from './wal.js';
import type { Watch } from './witness.js';

/** When what stands in the log goes to the tables. */
export interface LogMeasure extends OverlayMeasure {
  /** Bytes in a file of the log. */
  readonly file: number;
  /** Milliseconds since the first commit that left something there. */
  readonly after: number;
}

/** What the tables keep of a message is one entry, so that these are thousands of messages: a second of full load. */
const USUAL: LogMeasure = { entries: 8192, bytes: 8 * 2 ** 20, file: 16 * 2 ** 20, after: 2_000 };
/** A checkpoint that failed is tried again. */
const AGAIN_MS = 5_000;
/** How far above its measure the log may grow while the tables are behind: then commits wait for them. */
const FULL = 2;

/** Commits that go together: one promise is that of them all. */
interface Group extends Deferred {
  readonly commits: (readonly Change[])[];
}

export class LmdbJournal implements Journal {
  readonly #tables: LmdbTables;
  readonly #wal: WriteAheadLog;
  /** The tables, and what is not there yet. */
  readonly #layers: Layers;
  #moving: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** It takes commits. */
  #isOpen = false;
  /** It has what `close` has to close. */
  #isUp = false;
  /** The last open or close that was asked for. */
  #turn: Promise<void> = Promise.resolve();
  /** What goes into the next write. */
  #next: Group | undefined;
  #writing: Promise<void> | undefined;
  /** Nothing may be written to the log before all that it holds is in the tables. */
  #isTorn = false;
  /** It was told that the tables are behind: that they still are is no news. */
  #isTold = false;
  /** What the write to the log that is under way belongs to nobody knows before it is done: then this is called. */
  #whenLaid: (() => void) | undefined;
  #isAppending = false;

  /** `path` is the journal's directory, made when it is missing. */
  constructor(
    private readonly path: string,
    private readonly log: Log = silentLog,
    private readonly watch: Watch = {},
    private readonly measure: LogMeasure = USUAL,
  ) {
    this.#tables = new LmdbTables(path, log);
    this.#wal = new WriteAheadLog(path, log, measure.file);
    this.#layers = new Layers(this.#tables, measure, (name) => this.#isDamaged(name));
  }

  /** Throws AgentError state.unwritable, state.corrupt or state.version. */
  open(): Promise<void> {
    return this.#inTurn(() => this.#openAll());
  }

  close(): Promise<void> {
    this.#isOpen = false;
    return this.#inTurn(() => this.#closeAll());
  }

  /** Opens and closes do not meet: each waits for those that were asked for before it. */
  #inTurn(work: () => Promise<void>): Promise<void> {
    return (this.#turn = this.#turn.then(work, work));
  }

  async #openAll(): Promise<void> {
    if (this.#isOpen) return;
    await this.#tables.open();
    try {
      this.#layers.load();
      for (const { changes } of await this.#wal.open(this.#layers.logged)) {
        this.#layers.lay(changes, this.#layers.find(changes));
      }
      this.#isTorn = true;
      await this.#beginAnew().catch((error: unknown) => this.#isBehind(error));
      this.#isOpen = this.#isUp = true;
      if (this.#layers.logged !== this.#wal.last) this.#moveLater(AGAIN_MS);
    } catch (error) {
      await this.#closeFiles(false);
      if (error instanceof AgentError) throw error;
      throw new AgentError(
        'state.unwritable',
        `the write-ahead log in ${this.path} cannot be opened: ${errorText(error)}. Give it to the daemon's user`,
        { path: this.path },
        { cause: error },
      );
    }
  }

  async #closeAll(): Promise<void> {
    if (!this.#isUp) return;
    this.#isOpen = false;
    await this.#writing;
    // What is not in the tables stays in the log: the next start finds it there.
    const isDone = await this.#beginAnew().then(
      () => true,
      (error: unknown) => {
        this.#isBehind(error);
        return false;
      },
    );
    await this.#closeFiles(isDone);
  }

  async #closeFiles(isDone: boolean): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#isUp = false;
    this.#layers.clear();
    this.#isTorn = this.#isTold = false;
    try {
      await this.#wal.close(isDone);
    } finally {
      await this.#tables.close();
    }
  }

  commit(changes: readonly Change[]): Promise<void> {
    if (!this.#isOpen) return Promise.reject(this.#closed());
    const group = (this.#next ??= { commits: [], ...deferred() });
    group.commits.push(changes);
    this.#writing ??= this.#writeAll();
    return group.done;
  }

  /** One write after the other until nobody waits. */
  async #writeAll(): Promise<void> {
    // Whatever else is asked for in one go comes along; whoever gathers for longer has done so already.
    await Promise.resolve();
    for (let group = this.#takeNext(); group !== undefined; group = this.#takeNext()) {
      try {
        await this.#writeWatched(gathered(group.commits));
        group.resolve();
      } catch (error) {
        // Those that gathered behind it meanwhile may depend on it, or must not overtake it.
        const behind = this.#takeNext();
        const failure = error instanceof AgentError ? error : this.#notWritten(error);
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
    if (this.#isTorn) await this.#beginAnew();
    else if (this.#fill >= FULL) await this.#move();
    // The tables would refuse it at each checkpoint, and so all others.
    const unfit = changes.find(({ key }) => key.length > MAX_KEY_BYTES || key === '');
    if (unfit !== undefined) throw this.#notWritten(new Error(`no key has ${unfit.key.length} bytes`));
    FAULT: crashPoint('journal.before-commit');
    this.#isAppending = true;
    try {
      // Read before: behind the write nothing may fail any more, or a part of the commit would be seen.
      const found = this.#layers.find(changes);
      await this.#append(changes);
      FAULT: crashPoint('journal.committed');
      this.#layers.lay(changes, found);
    } finally {
      this.#isAppending = false;
      this.#whenLaid?.();
    }
    // One that has failed is tried again by itself.
    if (this.#fill >= 1 && !this.#layers.isMoving) this.#moveNow();
    else this.#moveLater(this.measure.after);
  }

  async #append(changes: readonly Change[]): Promise<void> {
    try {
      await this.#wal.append(changes);
    } catch (error) {
      this.#isTorn = true;
      // By itself, since nobody may come for a long time: a start before that would repeat it, if it is there as a whole.
      this.#moveNow();
      throw error;
    }
  }

  get #fill(): number {
    return Math.max(this.#wal.fill, this.#layers.fill);
  }

  #moveLater(ms: number): void {
    if (!this.#isOpen) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#moveNow();
    }, ms);
  }

  /** In the background. What comes meanwhile has its turn later. */
  #moveNow(): void {
    if (this.#moving !== undefined) {
      this.#moveLater(this.measure.after);
      return;
    }
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#move().then(
      () => {
        if (this.#layers.logged !== this.#wal.last) this.#moveLater(this.measure.after);
      },
      (error: unknown) => {
        this.#isBehind(error);
        this.#moveLater(AGAIN_MS);
      },
    );
  }

  /** Brings what the log holds to the tables; while that is under way already, waits for it. Rejects as `commit` does. */
  #move(): Promise<void> {
    return (this.#moving ??= this.#moveAll().finally(() => (this.#moving = undefined)));
  }

  async #moveAll(): Promise<void> {
    if (!this.#layers.isMoving) await this.#take();
    await this.#layers.store();
    this.#isTold = false;
  }

  /** From here on the log goes on in its other file, and what it holds until now is a checkpoint. */
  async #take(): Promise<void> {
    while (this.#isAppending) await new Promise<void>((resolve) => (this.#whenLaid = resolve));
    this.#whenLaid = undefined;
    this.#layers.take(this.#wal.last);
    this.#wal.rotate();
  }

  /** All that counts goes to the tables, so that the log holds nothing any more that does. */
  async #beginAnew(): Promise<void> {
    while (this.#layers.isMoving || this.#layers.logged !== this.#wal.last) await this.#move();
    this.#isTorn = false;
  }

  get(table: Table, key: string): Buffer | undefined {
    return this.#read.get(table, key);
  }

  range(table: OrderedTable, options: RangeOptions): Iterable<readonly [string, Buffer]> {
    return this.#read.range(table, options);
  }

  count(table: Table): number {
    return this.#read.count(table);
  }

  pages(): Iterable<PastPage> {
    return this.#read.pages();
  }

  get #read(): Layers {
    if (!this.#isUp) throw this.#closed();
    return this.#layers;
  }

  #isDamaged(name: string): void {
    const text = 'what was known of some message ids cannot be read; they count as new';
    this.log.error('journal.torn', text, { table: 'past', key: name });
  }

  /** The tables are behind the log. Nothing is lost by that: it holds what they do not. */
  #isBehind(error: unknown): void {
    if (this.#isTold) return;
    this.#isTold = true;
    this.log.error('journal.behind', 'what the log of the journal holds cannot be brought into its tables yet', {
      error,
    });
  }

  #notWritten(error: unknown): AgentError {
    return new AgentError(
      'journal.write_failed',
      `the journal in ${this.path} cannot be written: ${errorText(error)}. What it holds is kept; see to the disk`,
      { path: this.path },
      { cause: error },
    );
  }

  #closed(): AgentError {
    return new AgentError('journal.write_failed', 'the journal is closed', { path: this.path });
  }
}
