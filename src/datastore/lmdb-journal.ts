/**
 * The journal of the agent: a write-ahead log before the tables of LMDB (ADR 0014). A commit is one write to the log,
 * and from then on lies over the tables in memory. What is still there after some seconds, or thousands of changes, goes
 * to the tables in the background: a checkpoint. Of a message that came and went meanwhile that is the memory of its id,
 * one write to a tree instead of six.
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
import { copyOf, MAX_KEY_BYTES, TABLES, type Change, type Journal, type RangeOptions, type Table } from './journal.js';
import { LmdbTables } from './lmdb-tables.js';
import { layered, Overlay, type Entries, type Overlaid, type OverlayMeasure } from './overlay.js';
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
/** Changes of a checkpoint in one turn, and in one transaction of the tables. */
const PART = 1024;
/** How far above its measure the log may grow while the tables are behind: then commits wait for them. */
const FULL = 2;
/** The fact that names the last commit which is in the tables. */
const LOGGED = 'logged';

/** Commits that go together: one promise is that of them all. */
interface Group extends Deferred {
  readonly commits: (readonly Change[])[];
}

/** What is on its way to the tables. */
interface Checkpoint {
  readonly overlay: Overlay;
  /** The last commit that it holds. */
  readonly number: number;
}

export class LmdbJournal implements Journal {
  readonly #tables: LmdbTables;
  readonly #wal: WriteAheadLog;
  /** Lies over the checkpoint, and that over the tables. */
  #overlay: Overlay;
  #checkpoint: Checkpoint | undefined;
  #moving: Promise<void> | undefined;
  /** How many keys each table holds, without what is on its way to it. */
  readonly #counts = new Map<Table, number>();
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
  /** The last commit that is in the tables. */
  #logged = 0;
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
    this.#overlay = new Overlay(measure);
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
      this.#count();
      const logged = Number(this.#tables.get('facts', LOGGED)?.toString() ?? '0');
      this.#logged = Number.isSafeInteger(logged) ? logged : 0;
      for (const { changes } of await this.#wal.open(this.#logged)) this.#lay(changes, this.#find(changes));
      this.#isTorn = true;
      await this.#beginAnew().catch((error: unknown) => this.#isBehind(error));
      this.#isOpen = this.#isUp = true;
      if (this.#logged !== this.#wal.last) this.#moveLater(AGAIN_MS);
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
    this.#isOpen = this.#isUp = false;
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
    this.#overlay = new Overlay(this.measure);
    this.#checkpoint = undefined;
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
      const found = this.#find(changes);
      await this.#append(changes);
      FAULT: crashPoint('journal.committed');
      this.#lay(changes, found);
    } finally {
      this.#isAppending = false;
      this.#whenLaid?.();
    }
    // One that has failed is tried again by itself.
    if (this.#fill >= 1 && this.#checkpoint === undefined) this.#moveNow();
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
    return Math.max(this.#wal.fill, this.#overlay.fill);
  }

  #lay(changes: readonly Change[], found: readonly (Overlaid | boolean)[]): void {
    let at = 0;
    for (const change of changes) this.#overlay.set(change, found[at++] ?? false);
  }

  /** Of each change what the overlay knows of its key; where that is nothing, whether the key stands in what lies below. */
  #find(changes: readonly Change[]): (Overlaid | boolean)[] {
    return changes.map(({ table, key, isThere }) => {
      const known = this.#overlay.get(table, key);
      if (known !== undefined) return known;
      const moving = this.#checkpoint?.overlay.get(table, key);
      if (moving !== undefined) return moving.value !== undefined;
      return isThere ?? (this.#counts.get(table) !== 0 && this.#tables.has(table, key));
    });
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
        if (this.#logged !== this.#wal.last) this.#moveLater(this.measure.after);
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
    const { overlay, number } = this.#checkpoint ?? (await this.#takeOverlay());
    FAULT: crashPoint('checkpoint.begun');
    const changes = overlay.changes();
    for (let at = 0; at < changes.length; at += PART) {
      await this.#tables.write(changes.slice(at, at + PART));
      FAULT: crashPoint('checkpoint.part');
    }
    await this.#tables.write([{ table: 'facts', key: LOGGED, value: String(number) }]);
    FAULT: crashPoint('checkpoint.done');
    this.#logged = number;
    this.#checkpoint = undefined;
    this.#isTold = false;
    this.#count();
  }

  /** From here on the log goes on in its other file, and what it holds until now is a checkpoint. */
  async #takeOverlay(): Promise<Checkpoint> {
    while (this.#isAppending) await new Promise<void>((resolve) => (this.#whenLaid = resolve));
    this.#whenLaid = undefined;
    const taken = { overlay: this.#overlay, number: this.#wal.last };
    // In one go, so that no reader finds it nowhere.
    this.#checkpoint = taken;
    this.#overlay = new Overlay(this.measure);
    this.#wal.rotate();
    return taken;
  }

  /** All that counts goes to the tables, so that the log holds nothing any more that does. */
  async #beginAnew(): Promise<void> {
    while (this.#checkpoint !== undefined || this.#logged !== this.#wal.last) await this.#move();
    this.#isTorn = false;
  }

  #count(): void {
    for (const table of TABLES) this.#counts.set(table, this.#tables.count(table));
  }

  get(table: Table, key: string): Buffer | undefined {
    const known = this.#overlay.get(table, key) ?? this.#checkpoint?.overlay.get(table, key);
    if (known === undefined) return this.#tables.get(table, key);
    return copyOf(known.value);
  }

  *range(table: Table, { after, before, limit = Infinity }: RangeOptions): Generator<readonly [string, Buffer]> {
    let entries: Entries = this.#tables.range(table, { after, before });
    for (const overlay of [this.#checkpoint?.overlay, this.#overlay])
      if (overlay?.has(table) === true) entries = layered(overlay.range(table, after, before), entries);
    let left = limit;
    for (const [key, value] of entries) {
      if (left <= 0) return;
      if (value === undefined) continue;
      left -= 1;
      yield [key, copyOf(value)];
    }
  }

  count(table: Table): number {
    if (!this.#isOpen) throw this.#closed();
    const moving = this.#checkpoint?.overlay.growth(table) ?? 0;
    return (this.#counts.get(table) ?? 0) + moving + this.#overlay.growth(table);
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
