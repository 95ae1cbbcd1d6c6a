/**
 * What is under way, by text: a Map, made anew after so many have left it. V8 chains the tables that a Map outgrows, and
 * through them keeps what ever stood in one (signal/slot-table.ts); so no more is kept than came in between.
 */

/** With many under way, as many have to leave: to carry them over must not cost more than they do themselves. */
const FEWEST_GONE = 512;

export class UnderWay<T> {
  #items = new Map<string, T>();
  /** How many left it since it was made. */
  #gone = 0;

  get size(): number {
    return this.#items.size;
  }

  /** In the order they came. */
  keys(): Iterable<string> {
    return this.#items.keys();
  }

  get(text: string): T | undefined {
    return this.#items.get(text);
  }

  has(text: string): boolean {
    return this.#items.has(text);
  }

  set(text: string, item: T): void {
    this.#items.set(text, item);
  }

  delete(text: string): void {
    if (!this.#items.delete(text)) return;
    this.#gone += 1;
    if (this.#gone < FEWEST_GONE || this.#gone < 4 * this.#items.size) return;
    this.#items = new Map(this.#items);
    this.#gone = 0;
  }
}
