/**
 * What is in flight, by a number that counts up: a tag, the key of a message. A Map would do, but V8 chains the tables
 * that a Map outgrows, and through them keeps everything that ever stood in one until the next full collection: each
 * message that came and went was moved to the old generation, which took a third of the dispatcher's processor time, and
 * half of a worker's. So numbers that count up have a slot each; those that share one go into a Map.
 */

const FEWEST_SLOTS = 16;
const MOST_SLOTS = 8192;
/** Slots for each item, at most: of the numbers that count up not all stay for long. */
const SPREAD = 8;

export class SlotTable<T extends object> {
  #items: (T | undefined)[] = new Array<undefined>(FEWEST_SLOTS).fill(undefined);
  /** Whose slot it is, where there is an item. */
  #numbers = new Float64Array(FEWEST_SLOTS);
  #mask = FEWEST_SLOTS - 1;
  #others: Map<number, T> | undefined;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(number: number): T | undefined {
    const at = number & this.#mask;
    const item = this.#items[at];
    if (item !== undefined && this.#numbers[at] === number) return item;
    return this.#others?.get(number);
  }

  /** The number must be free. */
  add(number: number, item: T): void {
    this.#size += 1;
    while (!this.#put(number, item)) {
      const slots = this.#mask + 1;
      if (slots >= MOST_SLOTS || slots >= this.#size * SPREAD) {
        (this.#others ??= new Map()).set(number, item);
        return;
      }
      this.#grow(slots * 2);
    }
  }

  /** Whether it was there. */
  delete(number: number): boolean {
    const at = number & this.#mask;
    if (this.#items[at] !== undefined && this.#numbers[at] === number) this.#items[at] = undefined;
    else if (this.#others === undefined || !this.#others.delete(number)) return false;
    else if (this.#others.size === 0) this.#others = undefined;
    this.#size -= 1;
    return true;
  }

  /** The first that `isWanted`, in no order. */
  find(isWanted: (item: T) => boolean): T | undefined {
    if (this.#size === 0) return undefined;
    for (const item of this.#items) if (item !== undefined && isWanted(item)) return item;
    if (this.#others !== undefined) for (const item of this.#others.values()) if (isWanted(item)) return item;
    return undefined;
  }

  /** All of them, in the order of their numbers: a list of its own. */
  values(): T[] {
    if (this.#size === 0) return [];
    const found: [number, T][] = [...(this.#others ?? [])];
    for (const [at, item] of this.#items.entries()) if (item !== undefined) found.push([this.#numbers[at] ?? 0, item]);
    return found.sort(([a], [b]) => a - b).map(([, item]) => item);
  }

  /** Nothing is left in it. */
  clear(): void {
    this.#items.fill(undefined);
    this.#others = undefined;
    this.#size = 0;
  }

  /** False when the slot is another's. */
  #put(number: number, item: T): boolean {
    const at = number & this.#mask;
    if (this.#items[at] !== undefined) return false;
    this.#items[at] = item;
    this.#numbers[at] = number;
    return true;
  }

  #grow(slots: number): void {
    const items = this.#items;
    const numbers = this.#numbers;
    this.#items = new Array<undefined>(slots).fill(undefined);
    this.#numbers = new Float64Array(slots);
    this.#mask = slots - 1;
    // Those that had a slot each have one each among twice as many.
    for (const [at, item] of items.entries()) if (item !== undefined) this.#put(numbers[at] ?? 0, item);
  }
}
