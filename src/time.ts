/**
 * Time and chance as ports, so that a test can hold both. Wall time is for what others read (`sent`, `expires`);
 * everything that measures a span uses the monotonic clock, which no operator can step.
 */

/** Milliseconds, the only unit of time inside the agent. */
export type Millis = number;

export interface Clock {
  /** Wall time in milliseconds since the epoch. May jump. */
  now(): Millis;
  /** A clock that only goes forward; its zero means nothing. */
  monotonic(): Millis;
  /** Runs `fn` once after `delay`, unless `scope` ends first. A pending timer keeps no process alive by itself. */
  after(delay: Millis, fn: () => void, scope: AbortSignal): void;
}

/** Uniform in [0, 1). */
export type Random = () => number;

/** setTimeout takes a signed 32-bit number of milliseconds; more would fire at once. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** The machine's own clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(delay, fn, scope) {
    if (scope.aborted) return;
    const fire = (): void => {
      scope.removeEventListener('abort', cancel);
      fn();
    };
    const timer = setTimeout(fire, Math.min(Math.max(0, delay), LONGEST_TIMER));
    timer.unref();
    const cancel = (): void => clearTimeout(timer);
    scope.addEventListener('abort', cancel, { once: true });
  },
};

/**
 * How long until the next beat of `interval`, half to one and a half of it. What is done again and again with nothing to
 * wait for beats together, so that a machine at rest wakes once for all of it.
 */
export function untilBeat(clock: Clock, interval: Millis): Millis {
  const left = interval - (clock.monotonic() % interval);
  return left < interval / 2 ? left + interval : left;
}

/** Resolves after `delay`, or rejects with the scope's reason when the scope ends first. */
export function sleep(clock: Clock, delay: Millis, scope: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const ended = (): void => reject(abortReason(scope));
    if (scope.aborted) {
      ended();
      return;
    }
    scope.addEventListener('abort', ended, { once: true });
    clock.after(
      delay,
      () => {
        scope.removeEventListener('abort', ended);
        resolve();
      },
      scope,
    );
  });
}

/** The reason a scope ended, as an Error. */
export function abortReason(scope: AbortSignal): Error {
  return scope.reason instanceof Error ? scope.reason : new Error('the scope has ended', { cause: scope.reason });
}

/** No back-off is longer, whatever a server asks for: one that seems to be was begun before the wall clock went back. */
export const LONGEST_BACKOFF: Millis = 3_600_000;

export interface Backoff {
  readonly first: Millis;
  readonly cap: Millis;
}

/**
 * Exponential back-off with full jitter: uniform in [0, min(cap, first × 2^failures)), so that a fleet that lost its
 * broker at one moment does not come back at one moment. `failures` counts from 0.
 */
export function fullJitter(backoff: Backoff, failures: number, random: Random): Millis {
  return Math.round(random() * Math.min(backoff.cap, backoff.first * 2 ** Math.min(failures, 30)));
}
