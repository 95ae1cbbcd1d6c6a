/**
 * How long calls may wait for their answer. All of them the same time, so one timer does for those of a server: one for
 * each call, with what ends it, cost more than all else that is done for it here.
 */
import type { Clock, Millis } from '../time.js';

export class Patience {
  /** What gives a call up, and when; the oldest first. */
  readonly #waiting = new Map<() => void, Millis>();
  readonly #scope = new AbortController();
  #isTimerSet = false;

  constructor(
    private readonly clock: Clock,
    private readonly within: Millis,
  ) {}

  /** Calls `giveUp` in a while, unless `end` comes before. */
  begin(giveUp: () => void): void {
    this.#waiting.set(giveUp, this.clock.monotonic() + this.within);
    this.#setTimer();
  }

  /** False when it was given up already. */
  end(giveUp: () => void): boolean {
    return this.#waiting.delete(giveUp);
  }

  /** Gives up nothing any more. */
  close(): void {
    this.#scope.abort();
  }

  #setTimer(): void {
    if (this.#isTimerSet) return;
    const [next] = this.#waiting.values();
    if (next === undefined) return;
    this.#isTimerSet = true;
    const fire = (): void => {
      this.#isTimerSet = false;
      this.#giveUpLate();
      this.#setTimer();
    };
    this.clock.after(Math.max(0, next - this.clock.monotonic()), fire, this.#scope.signal);
  }

  #giveUpLate(): void {
    const now = this.clock.monotonic();
    for (const [giveUp, at] of this.#waiting) {
      if (at > now) return;
      this.#waiting.delete(giveUp);
      giveUp();
    }
  }
}
