/**
 * How long calls may wait for their answer. All of them the same time, so one timer does for those of a server: one for
 * each call, with what ends it, cost more than all else that is done for it here.
 */
import { SlotTable } from '../signal/slot-table.js';
import type { Clock, Millis } from '../time.js';

interface Waiting {
  readonly number: number;
  readonly giveUp: () => void;
  readonly until: Millis;
}

export class Patience {
  /** By number: the oldest first. */
  readonly #waiting = new SlotTable<Waiting>();
  readonly #scope = new AbortController();
  #lastNumber = 0;
  #isTimerSet = false;

  constructor(
    private readonly clock: Clock,
    private readonly within: Millis,
  ) {}

  /** Calls `giveUp` in a while, unless `end` comes before, with the number that this gives. */
  begin(giveUp: () => void): number {
    this.#lastNumber += 1;
    const number = this.#lastNumber;
    this.#waiting.add(number, { number, giveUp, until: this.clock.monotonic() + this.within });
    if (!this.#isTimerSet) this.#setTimer(this.within);
    return number;
  }

  /** False when it was given up already. */
  end(number: number): boolean {
    return this.#waiting.delete(number);
  }

  /** Gives up nothing any more. */
  close(): void {
    this.#scope.abort();
  }

  #setTimer(delay: Millis): void {
    this.#isTimerSet = true;
    const fire = (): void => {
      this.#giveUpLate();
      const [next] = this.#waiting.values();
      this.#isTimerSet = false;
      if (next !== undefined) this.#setTimer(Math.max(0, next.until - this.clock.monotonic()));
    };
    this.clock.after(delay, fire, this.#scope.signal);
  }

  #giveUpLate(): void {
    const now = this.clock.monotonic();
    for (const { number, giveUp, until } of this.#waiting.values()) {
      if (until > now) return;
      if (this.#waiting.delete(number)) giveUp();
    }
  }
}
