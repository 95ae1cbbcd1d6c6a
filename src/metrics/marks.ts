/**
 * When something happened to the last few thousand messages. A ring of plain numbers, found by the message's key, which
 * only grows: no garbage, and no more memory than it begins with, however many messages wait. One that was overwritten
 * is simply not known any more.
 */

export class Marks {
  readonly #keys: Float64Array;
  readonly #times: Float64Array;

  /** `size` is a power of two. */
  constructor(private readonly size: number) {
    this.#keys = new Float64Array(size).fill(-1);
    this.#times = new Float64Array(size);
  }

  set(key: number, at: number): void {
    const slot = key & (this.size - 1);
    this.#keys[slot] = key;
    this.#times[slot] = at;
  }

  get(key: number): number | undefined {
    const slot = key & (this.size - 1);
    return this.#keys[slot] === key ? this.#times[slot] : undefined;
  }
}
