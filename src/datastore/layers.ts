/**
 * What a reader of the journal sees: what the log holds, in memory, over what is on its way to the tables, over these. Of
 * what has ended there is one layer (past-pages.ts), which tells by itself what of it is in the tables.
 */
import { crashPoint } from '../crash-point.js';
import { AgentError } from '../errors.js';
import {
  copyOf,
  TABLES,
  type Change,
  type OrderedTable,
  type PastPage,
  type RangeOptions,
  type Table,
} from './journal.js';
import type { LmdbTables } from './lmdb-tables.js';
import { layered, Overlay, type Entries, type Overlaid, type OverlayMeasure } from './overlay.js';
import { PastPages } from './past-pages.js';

/** Changes of a checkpoint in one turn, and in one transaction of the tables. */
const PART = 1024;
/** The fact that names the last commit which is in the tables. */
const LOGGED = 'logged';

/** What was found of a change's key: what the overlay knows; where that is nothing, whether it stands below. */
export type Found = Overlaid | boolean;

/** What is on its way to the tables. */
interface Checkpoint {
  readonly overlay: Overlay;
  /** The last commit that it holds. */
  readonly number: number;
  /** The removal of pages that others stand for by now, until it is written. */
  replaced: readonly Change[];
}

export class Layers {
  /** Lies over the checkpoint, and that over the tables. */
  #overlay: Overlay;
  #checkpoint: Checkpoint | undefined;
  /** How many keys each table holds, without what is on its way to it. */
  readonly #counts = new Map<Table, number>();
  readonly #past: PastPages;
  #logged = 0;

  /** `damaged` is told of a page that cannot be read. */
  constructor(
    private readonly tables: LmdbTables,
    private readonly measure: OverlayMeasure,
    damaged: (name: string) => void,
  ) {
    this.#overlay = new Overlay(measure);
    this.#past = new PastPages({
      names: () => tables.keys('past', ''),
      read: (name) => this.#page(name),
      damaged,
    });
  }

  /** Takes stock of the tables. */
  load(): void {
    this.#count();
    this.#past.load();
    const logged = Number(this.tables.get('facts', LOGGED)?.toString() ?? '0');
    this.#logged = Number.isSafeInteger(logged) ? logged : 0;
  }

  clear(): void {
    this.#overlay = new Overlay(this.measure);
    this.#checkpoint = undefined;
    this.#counts.clear();
    this.#past.clear();
  }

  /** The last commit that is in the tables. */
  get logged(): number {
    return this.#logged;
  }

  /** Something is on its way to the tables. */
  get isMoving(): boolean {
    return this.#checkpoint !== undefined;
  }

  /** How full the uppermost layer is: at 1 it should go to the tables. */
  get fill(): number {
    const { entries, bytes } = this.#past.added;
    return Math.max(this.#overlay.fill, entries / this.measure.entries, bytes / this.measure.bytes);
  }

  find(changes: readonly Change[]): Found[] {
    const found: Found[] = [];
    for (const change of changes) found.push(this.#findOne(change));
    return found;
  }

  #findOne({ table, key, value, isThere }: Change): Found {
    // Only pages have names that lie below, and only those are removed.
    if (table === 'past') return value === undefined;
    if (isThere === false) return false;
    const known = this.#overlay.get(table, key);
    if (known !== undefined) return known;
    const moving = this.#checkpoint?.overlay.get(table, key);
    if (moving !== undefined) return moving.value !== undefined;
    return isThere ?? (this.#counts.get(table) !== 0 && this.tables.has(table, key));
  }

  /** Readers see it from now on. `found`: what `find` gave, with no other commit in between. */
  lay(changes: readonly Change[], found: readonly Found[]): void {
    let at = 0;
    for (const change of changes) {
      const below = found[at++] ?? false;
      const { table, key, value } = change;
      if (table === 'past' && value !== undefined) {
        this.#past.add(key, value);
        continue;
      }
      if (table === 'past') this.#past.drop(key);
      this.#overlay.set(change, below);
    }
  }

  /** What was laid until now is a checkpoint. Only when nothing is moving. `number`: of the last commit in it. */
  take(number: number): void {
    // In one go, so that no reader finds it nowhere.
    this.#checkpoint = { overlay: this.#overlay, number, replaced: [] };
    this.#overlay = new Overlay(this.measure);
    this.#past.take(number);
  }

  /** Writes the checkpoint into the tables, its number last. Once more where it fails. Throws AgentError journal.write_failed. */
  async store(): Promise<void> {
    const checkpoint = this.#checkpoint;
    if (checkpoint === undefined) return;
    const { overlay, number } = checkpoint;
    FAULT: crashPoint('checkpoint.begun');
    const changes = overlay.changes();
    for (let at = 0; at < changes.length; at += PART) {
      await this.tables.write(changes.slice(at, at + PART));
      FAULT: crashPoint('checkpoint.part');
    }
    const pages = this.#past.storing();
    if (pages.changes.length > 0) await this.tables.write(pages.changes);
    FAULT: crashPoint('checkpoint.part');
    // Kept for where the next write fails: the pages know nothing of it any more.
    checkpoint.replaced = [...checkpoint.replaced, ...pages.done()];
    await this.tables.write([...checkpoint.replaced, { table: 'facts', key: LOGGED, value: String(number) }]);
    FAULT: crashPoint('checkpoint.done');
    this.#logged = number;
    this.#checkpoint = undefined;
    this.#count();
  }

  #count(): void {
    for (const table of TABLES) this.#counts.set(table, this.tables.count(table));
  }

  get(table: Table, key: string): Buffer | undefined {
    if (table === 'past') return this.#past.get(key);
    const known = this.#overlay.get(table, key) ?? this.#checkpoint?.overlay.get(table, key);
    if (known !== undefined) return copyOf(known.value);
    return this.#counts.get(table) === 0 ? undefined : this.tables.get(table, key);
  }

  *range(table: OrderedTable, { after, before, limit = Infinity }: RangeOptions): Generator<readonly [string, Buffer]> {
    let entries: Entries = this.tables.range(table, { after, before });
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
    if (table === 'past') return this.#past.count;
    const moving = this.#checkpoint?.overlay.growth(table) ?? 0;
    return (this.#counts.get(table) ?? 0) + moving + this.#overlay.growth(table);
  }

  /** One that LMDB cannot read is as one that is damaged: a checkpoint that comes by it must not fail for ever. */
  #page(name: string): Buffer | undefined {
    try {
      return this.tables.get('past', name);
    } catch (error) {
      if (error instanceof AgentError) throw error;
      return undefined;
    }
  }

  pages(): Iterable<PastPage> {
    return this.#past.stored();
  }
}
