/**
 * A LokiJS collection of what is alive: entries found by id through a map of our own, and by anything else through
 * `find`. Loki's unique index never forgets a key (117 MB per million messages), so it is not used.
 */
import Loki from 'lokijs';
import { Signal } from '../signal/index.js';

/** What Loki stores: the entry's fields stand under `entry`, so that Loki's own marks never mix with ours. */
interface Row<E> {
  /** Undefined in a row that waits for the next entry. */
  entry: E | undefined;
}

/**
 * Rows that are kept for the next entries: to take one out of Loki and put another in costs more than all else here,
 * and every message does it twice. As many as are in flight at once; those of a burst go.
 */
const MOST_FREE = 1024;

/** Where an entry's row is found. */
interface RowIndex<Id, R> {
  readonly size: number;
  get(id: Id): R | undefined;
  /** The id must be free. */
  add(id: Id, row: R): void;
  delete(id: Id): boolean;
  values(): Iterable<R>;
  clear(): void;
}

class MapIndex<Id, R> extends Map<Id, R> implements RowIndex<Id, R> {
  add(id: Id, row: R): void {
    this.set(id, row);
  }
}

export class LiveCollection<Id extends string | number, E extends object> {
  readonly #rows: RowIndex<Id, Row<E> & LokiObj>;
  readonly #free: (Row<E> & LokiObj)[] = [];
  readonly #collection: Collection<Row<E>>;
  /** The id of an entry that was put or removed. */
  readonly changed: Signal<Id>;

  /** @internal */
  constructor(
    database: Loki,
    name: string,
    private readonly idOf: (entry: E) => Id,
    rows: RowIndex<Id, Row<E> & LokiObj> = new MapIndex(),
  ) {
    this.#rows = rows;
    this.#collection = database.addCollection<Row<E>>(name, { disableMeta: true });
    this.changed = new Signal(`${name}-changed`);
  }

  get size(): number {
    return this.#rows.size;
  }

  get(id: Id): E | undefined {
    return this.#rows.get(id)?.entry;
  }

  /** Adds the entry, or puts it in the place of the one with its id. */
  put(entry: E): void {
    const id = this.idOf(entry);
    const row = this.#rows.get(id);
    // The row stays the one that Loki holds, and it has no index over what is in it: an update would do nothing else.
    if (row !== undefined) row.entry = entry;
    else this.#rows.add(id, this.#rowFor(entry));
    if (this.changed.size > 0) this.changed.emit(id);
  }

  remove(id: Id): void {
    const row = this.#rows.get(id);
    if (row === undefined) return;
    this.#rows.delete(id);
    row.entry = undefined;
    if (this.#free.length < MOST_FREE) this.#free.push(row);
    else this.#collection.remove(row);
    if (this.changed.size > 0) this.changed.emit(id);
  }

  #rowFor(entry: E): Row<E> & LokiObj {
    const free = this.#free.pop();
    if (free !== undefined) {
      free.entry = entry;
      return free;
    }
    const row: Row<E> = { entry };
    this.#collection.insert(row);
    // Loki does not copy: what it holds is this row, with its marks.
    return row as Row<E> & LokiObj;
  }

  all(): readonly E[] {
    return entriesOf(this.#rows.values());
  }

  /** The entries whose fields equal those of `fields`, by Loki's query. */
  find(fields: Partial<E>): readonly E[] {
    const query: Record<string, unknown> = {};
    for (const [name, value] of Object.entries(fields)) query[`entry.${name}`] = value;
    return entriesOf(this.#collection.find(query));
  }

  clear(): void {
    this.#rows.clear();
    this.#free.length = 0;
    this.#collection.clear();
  }
}

function entriesOf<E>(rows: Iterable<Row<E>>): readonly E[] {
  const entries: E[] = [];
  for (const { entry } of rows) if (entry !== undefined) entries.push(entry);
  return entries;
}

/**
 * A database in memory; nothing of it is ever saved by Loki.
 * @internal
 */
export function liveDatabase(): Loki {
  return new Loki('live', { adapter: new Loki.LokiMemoryAdapter(), autosave: false, autoload: false });
}
