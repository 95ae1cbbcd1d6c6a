/**
 * A LokiJS collection of what is alive: entries found by id through a map of our own, and by anything else through
 * `find`. Loki's unique index never forgets a key (117 MB per million messages), so it is not used.
 */
import Loki from 'lokijs';
import { Signal } from '../signal/index.js';

/** What Loki stores: the entry's fields stand under `entry`, so that Loki's own marks never mix with ours. */
interface Row<Id, E> {
  readonly id: Id;
  entry: E;
}

export class LiveCollection<Id extends string | number, E extends object> {
  readonly #rows = new Map<Id, Row<Id, E> & LokiObj>();
  readonly #collection: Collection<Row<Id, E>>;
  /** The id of an entry that was put or removed. */
  readonly changed: Signal<Id>;

  /** @internal */
  constructor(
    database: Loki,
    name: string,
    private readonly idOf: (entry: E) => Id,
  ) {
    this.#collection = database.addCollection<Row<Id, E>>(name, { disableMeta: true });
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
    if (row === undefined) {
      const inserted = this.#collection.insert({ id, entry });
      if (inserted !== undefined) this.#rows.set(id, inserted as Row<Id, E> & LokiObj);
    } else {
      // The row stays the one that Loki holds, and it has no index over what is in it: an update would do nothing else.
      row.entry = entry;
    }
    this.changed.emit(id);
  }

  remove(id: Id): void {
    const row = this.#rows.get(id);
    if (row === undefined) return;
    this.#rows.delete(id);
    this.#collection.remove(row);
    this.changed.emit(id);
  }

  all(): readonly E[] {
    return Array.from(this.#rows.values(), (row) => row.entry);
  }

  /** The entries whose fields equal those of `fields`, by Loki's query. */
  find(fields: Partial<E>): readonly E[] {
    const query: Record<string, unknown> = {};
    for (const [name, value] of Object.entries(fields)) query[`entry.${name}`] = value;
    return this.#collection.find(query).map((row) => row.entry);
  }

  clear(): void {
    this.#rows.clear();
    this.#collection.clear();
  }
}

/**
 * A database in memory; nothing of it is ever saved by Loki.
 * @internal
 */
export function liveDatabase(): Loki {
  return new Loki('live', { adapter: new Loki.LokiMemoryAdapter(), autosave: false, autoload: false });
}
