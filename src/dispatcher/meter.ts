/** Counts what happens, and how much of it did in the last minute, to five seconds. Needs no timer. */
import type { Millis } from '../time.js';

const SLOT: Millis = 5000;
const SLOTS = 12;

export class Meter {
  #total = 0;
  readonly #slots = new Uint32Array(SLOTS);
  /** The number of the newest slot, counted from the clock's zero. */
  #newest = 0;

  /** Since it was made. */
  get total(): number {
    return this.#total;
  }

  /** One more, at this instant of the monotonic clock. */
  count(now: Millis): void {
    this.#advance(now);
    this.#total += 1;
    this.#slots[this.#newest % SLOTS] = (this.#slots[this.#newest % SLOTS] ?? 0) + 1;
  }

  lastMinute(now: Millis): number {
    this.#advance(now);
    return this.#slots.reduce((sum, slot) => sum + slot, 0);
  }

  /** Empties the slots that time has passed. */
  #advance(now: Millis): void {
    const slot = Math.floor(now / SLOT);
    if (slot - this.#newest >= SLOTS) this.#slots.fill(0);
    else for (let each = this.#newest + 1; each <= slot; each++) this.#slots[each % SLOTS] = 0;
    this.#newest = Math.max(this.#newest, slot);
  }
}
