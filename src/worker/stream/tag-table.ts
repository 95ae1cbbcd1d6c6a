/**
 * What is in flight, by its tag. A Map would do, but V8 chains the tables that a Map outgrows, and through them keeps
 * everything that ever stood in one until the next full collection: half of the processor time of a busy worker went
 * there. So tags that count up, as every agent's do, have a slot each; those that share one go into a Map.
 */
export class TagTable<T> {
  readonly #slots: ({ readonly tag: number; readonly item: T } | undefined)[];
  readonly #others = new Map<number, T>();
  readonly #mask: number;
  #size = 0;

  /** Best for up to `most` items at once; more are no fault. */
  constructor(most: number) {
    const slots = 2 ** Math.ceil(Math.log2(Math.min(Math.max(most, 1), MOST_SLOTS) * 2));
    this.#mask = slots - 1;
    this.#slots = new Array<undefined>(slots).fill(undefined);
  }

  get size(): number {
    return this.#size;
  }

  get(tag: number): T | undefined {
    const slot = this.#slots[tag & this.#mask];
    if (slot?.tag === tag) return slot.item;
    return this.#others.size === 0 ? undefined : this.#others.get(tag);
  }

  /** The tag must be free. */
  add(tag: number, item: T): void {
    const at = tag & this.#mask;
    if (this.#slots[at] === undefined) this.#slots[at] = { tag, item };
    else this.#others.set(tag, item);
    this.#size += 1;
  }

  /** Whether it was there. */
  delete(tag: number): boolean {
    const at = tag & this.#mask;
    if (this.#slots[at]?.tag === tag) this.#slots[at] = undefined;
    else if (!this.#others.delete(tag)) return false;
    this.#size -= 1;
    return true;
  }

  /** All of them, and none is left. */
  clear(): T[] {
    const items = this.#slots.flatMap((slot) => (slot === undefined ? [] : [slot.item]));
    items.push(...this.#others.values());
    this.#slots.fill(undefined);
    this.#others.clear();
    this.#size = 0;
    return items;
  }
}

const MOST_SLOTS = 65_536;
