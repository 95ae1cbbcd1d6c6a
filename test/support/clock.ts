/** A clock that moves only when a test says so; wall and monotonic time can be stepped apart. */
import type { Clock, Millis } from '../../src/time.js';

interface Timer {
  readonly at: Millis;
  readonly fn: () => void;
}

export class FakeClock implements Clock {
  #wall: Millis;
  #monotonic: Millis = 0;
  readonly #timers = new Set<Timer>();

  constructor(wall: Millis = Date.parse('2026-01-01T00:00:00Z')) {
    this.#wall = wall;
  }

  now(): Millis {
    return this.#wall;
  }

  monotonic(): Millis {
    return this.#monotonic;
  }

  after(delay: Millis, fn: () => void, scope: AbortSignal): void {
    if (scope.aborted) return;
    const cancel = (): unknown => this.#timers.delete(timer);
    const fire = (): void => {
      scope.removeEventListener('abort', cancel);
      fn();
    };
    const timer: Timer = { at: this.#monotonic + Math.max(0, delay), fn: fire };
    this.#timers.add(timer);
    scope.addEventListener('abort', cancel, { once: true });
  }

  /** Timers that are set. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Delay until the next timer, or undefined when none is set. */
  get nextDelay(): Millis | undefined {
    const next = this.#next();
    return next === undefined ? undefined : next.at - this.#monotonic;
  }

  /** Moves both clocks and fires the timers on the way in order, letting promises settle after each. */
  async advance(span: Millis): Promise<void> {
    const until = this.#monotonic + span;
    for (;;) {
      const next = this.#next();
      if (next === undefined || next.at > until) break;
      this.#move(next.at - this.#monotonic);
      this.#timers.delete(next);
      next.fn();
      await settle();
    }
    this.#move(until - this.#monotonic);
    await settle();
  }

  /** Steps the wall clock alone, as an operator or NTP does. */
  step(span: Millis): void {
    this.#wall += span;
  }

  #next(): Timer | undefined {
    let best: Timer | undefined;
    for (const timer of this.#timers) if (best === undefined || timer.at < best.at) best = timer;
    return best;
  }

  #move(span: Millis): void {
    this.#wall += span;
    this.#monotonic += span;
  }
}

/** Lets what has been resolved run on. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
}
