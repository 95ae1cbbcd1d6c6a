/**
 * What the write-ahead log holds and the tables on disk do not: the latest change of each key. A key that came and went
 * in the meantime leaves nothing here, and the tables never hear of it.
 */
import { END, TABLES, type Change, type Table, type Value } from './journal.js';
import { SortedTable } from './sorted-table.js';

/** What became of a key; commits change it in place. */
export interface Overlaid {
  /** Undefined: it is removed. */
  value: Value | undefined;
  /** Whether it stands below, in what this lies over. */
  readonly isBelow: boolean;
}

/** Of a range often no more than the beginning is asked for. */
const FIRST_PART = 64;
const NEXT_PARTS = 1024;

/** What it should hold at most. */
export interface OverlayMeasure {
  readonly entries: number;
  /** Bytes of values. */
  readonly bytes: number;
}

export class Overlay {
  /** What is known of ids stays until it goes to the tables, and is never asked for in order: the others are sorted. */
  readonly #ids = new Map<string, Overlaid>();
  readonly #others = new Map<Table, SortedTable<Overlaid>>();
  readonly #growth = new Map<Table, number>();
  #size = 0;
  #bytes = 0;

  constructor(private readonly measure: OverlayMeasure) {}

  get isEmpty(): boolean {
    return this.#size === 0;
  }

  /** How full it is: at 1 it should go to the tables. */
  get fill(): number {
    return Math.max(this.#size / this.measure.entries, this.#bytes / this.measure.bytes);
  }

  get(table: Table, key: string): Overlaid | undefined {
    return table === 'ids' ? this.#ids.get(key) : this.#others.get(table)?.get(key);
  }

  /** How many keys a table has more because of this; negative when it has fewer. */
  growth(table: Table): number {
    return this.#growth.get(table) ?? 0;
  }

  /** `below`: whether the key stands in what this lies over. */
  set({ table, key, value }: Change, below: boolean): void {
    const known = this.get(table, key);
    this.#bytes += (value?.length ?? 0) - (known?.value?.length ?? 0);
    const was = known === undefined ? below : known.value !== undefined;
    const grown = Number(value !== undefined) - Number(was);
    if (grown !== 0) this.#growth.set(table, this.growth(table) + grown);
    if (value === undefined && !below) {
      if (known !== undefined) this.#remove(table, key);
    } else if (known !== undefined) {
      known.value = value;
    } else {
      this.#size += 1;
      if (table === 'ids') this.#ids.set(key, { value, isBelow: below });
      else this.#sorted(table).set(key, { value, isBelow: below });
    }
  }

  /** Whether it says anything about a table. */
  has(table: Table): boolean {
    return table === 'ids' ? this.#ids.size > 0 : (this.#others.get(table)?.size ?? 0) > 0;
  }

  /** Entries of a table with after < key < before, in order of keys. They may be changed by commits while they are read. */
  *range(table: Table, after: string, before: string): Generator<readonly [string, Value | undefined]> {
    for (let from = after, part = FIRST_PART; ; part = NEXT_PARTS) {
      const entries = this.#between(table, from, before, part);
      for (const [key, { value }] of entries) yield [key, value];
      const last = entries.at(-1);
      if (last === undefined || entries.length < part) return;
      from = last[0];
    }
  }

  /** All of it, in order of tables and keys: what is near on disk is written together. */
  changes(): readonly Change[] {
    return TABLES.flatMap((table) =>
      this.#between(table, '', END, Infinity).map(([key, { value }]): Change => ({ table, key, value })),
    );
  }

  #between(table: Table, after: string, before: string, limit: number): readonly (readonly [string, Overlaid])[] {
    if (table !== 'ids') return this.#others.get(table)?.between(after, before, limit) ?? [];
    return [...this.#ids]
      .filter(([key]) => key > after && key < before)
      .sort(byKey)
      .slice(0, limit);
  }

  #remove(table: Table, key: string): void {
    this.#size -= 1;
    if (table === 'ids') this.#ids.delete(key);
    else this.#others.get(table)?.delete(key);
  }

  #sorted(table: Table): SortedTable<Overlaid> {
    let sorted = this.#others.get(table);
    if (sorted === undefined) this.#others.set(table, (sorted = new SortedTable<Overlaid>()));
    return sorted;
  }
}

/** Entries in order of keys; undefined stands for a key that is removed. */
export type Layer = Iterable<readonly [string, Value | undefined]>;

/** Two layers as one: where both know a key, the upper one is right. */
export function* layered(upper: Layer, lower: Layer): Generator<readonly [string, Value | undefined]> {
  const above = upper[Symbol.iterator]();
  let top = above.next();
  for (const entry of lower) {
    for (; top.done !== true && top.value[0] < entry[0]; top = above.next()) yield top.value;
    if (top.done === true || top.value[0] !== entry[0]) yield entry;
  }
  for (; top.done !== true; top = above.next()) yield top.value;
}

/** Keys are ASCII: no locale has a say in their order. */
function byKey([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number {
  return a < b ? -1 : 1;
}
