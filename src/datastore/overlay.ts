/**
 * What the write-ahead log holds and the tables on disk do not: the latest change of each key. A key that came and went
 * in the meantime leaves nothing here, and the tables never hear of it.
 */
import { END, TABLES, type Change, type Table, type Value } from './journal.js';
import { SortedTable } from './sorted-table.js';
import { UnderWay } from './under-way.js';

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

/** What is known of one table. */
interface Layer {
  /** Ids have no order of which anybody asks: the others are sorted. */
  readonly entries: UnderWay<Overlaid> | SortedTable<Overlaid>;
  /** How many keys the table has more because of this. */
  growth: number;
}

export class Overlay {
  /** Those that each message changes stand by themselves: to find a layer by its name takes V8 longer. */
  readonly #records = sorted();
  readonly #ids: Layer = { entries: new UnderWay<Overlaid>(), growth: 0 };
  readonly #others: Readonly<Record<Exclude<Table, 'records' | 'ids'>, Layer>> = {
    ended: sorted(),
    alarms: sorted(),
    dead: sorted(),
    facts: sorted(),
    torn: sorted(),
    files: sorted(),
    // What is set there stands in pages (past-pages.ts): here are those that are removed.
    past: sorted(),
  };
  #size = 0;
  #bytes = 0;

  constructor(private readonly measure: OverlayMeasure) {}

  /** How full it is: at 1 it should go to the tables. */
  get fill(): number {
    return Math.max(this.#size / this.measure.entries, this.#bytes / this.measure.bytes);
  }

  get(table: Table, key: string): Overlaid | undefined {
    return this.#layer(table).entries.get(key);
  }

  /** How many keys a table has more because of this; negative when it has fewer. */
  growth(table: Table): number {
    return this.#layer(table).growth;
  }

  /** `found`: what `get` gave for its key; where that was nothing, whether the key stands in what this lies over. */
  set({ table, key, value, isThere }: Change, found: Overlaid | boolean): void {
    const layer = this.#layer(table);
    if (isThere === false && value !== undefined) {
      this.#size += 1;
      this.#bytes += value.length;
      layer.growth += 1;
      layer.entries.set(key, { value, isBelow: false });
      return;
    }
    // Of two changes of a key in one commit the second finds what the first has left.
    const known = typeof found === 'boolean' || hasLeft(found) ? layer.entries.get(key) : found;
    const below = typeof found === 'boolean' ? (known?.isBelow ?? found) : found.isBelow;
    this.#bytes += (value?.length ?? 0) - (known?.value?.length ?? 0);
    const was = known === undefined ? below : known.value !== undefined;
    layer.growth += Number(value !== undefined) - Number(was);
    if (value === undefined && !below) {
      if (known === undefined) return;
      known.value = undefined;
      this.#size -= 1;
      layer.entries.delete(key);
    } else if (known !== undefined) {
      known.value = value;
    } else {
      this.#size += 1;
      layer.entries.set(key, { value, isBelow: below });
    }
  }

  /** Whether it says anything about a table. */
  has(table: Table): boolean {
    return this.#layer(table).entries.size > 0;
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

  #layer(table: Table): Layer {
    if (table === 'records') return this.#records;
    return table === 'ids' ? this.#ids : this.#others[table];
  }

  #between(table: Table, after: string, before: string, limit: number): readonly (readonly [string, Overlaid])[] {
    const { entries } = this.#layer(table);
    if (entries instanceof SortedTable) return entries.between(after, before, limit);
    const keys = [...entries.keys()].filter((key) => key > after && key < before).sort();
    const found: (readonly [string, Overlaid])[] = [];
    for (const key of keys) {
      const entry = entries.get(key);
      if (entry !== undefined && found.length < limit) found.push([key, entry]);
    }
    return found;
  }
}

/** It came and went: the entry stands nowhere any more. */
function hasLeft({ value, isBelow }: Overlaid): boolean {
  return value === undefined && !isBelow;
}

function sorted(): Layer {
  return { entries: new SortedTable<Overlaid>(), growth: 0 };
}

/** Entries in order of keys; undefined stands for a key that is removed. */
export type Entries = Iterable<readonly [string, Value | undefined]>;

/** Two layers as one: where both know a key, the upper one is right. */
export function* layered(upper: Entries, lower: Entries): Generator<readonly [string, Value | undefined]> {
  const above = upper[Symbol.iterator]();
  let top = above.next();
  for (const entry of lower) {
    for (; top.done !== true && top.value[0] < entry[0]; top = above.next()) yield top.value;
    if (top.done === true || top.value[0] !== entry[0]) yield entry;
  }
  for (; top.done !== true; top = above.next()) yield top.value;
}
