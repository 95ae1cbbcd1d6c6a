/**
 * The limits of time of one exchange: a span without a byte, and a span for all of it. Ends its own signal, with an
 * error that says which; the signal also ends with the scope it stands in, and leaves no listener there.
 */
import { abortReason, type Clock, type Millis } from '../time.js';

export interface Watch extends Disposable {
  readonly signal: AbortSignal;
  /** A byte has moved: the span without one starts anew. */
  progress(): void;
}

export interface TimeLimits {
  /** The longest span without a byte. */
  readonly stall: Millis;
  /** The longest span of the whole exchange. */
  readonly total: Millis;
}

export function startWatch(clock: Clock, limits: TimeLimits, scope: AbortSignal): Watch {
  const exchange = new AbortController();
  const timers = new AbortController();
  const startedAt = clock.monotonic();
  let movedAt = startedAt;
  const giveUp = (reason: Error): void => {
    timers.abort();
    scope.removeEventListener('abort', scopeEnded);
    exchange.abort(reason);
  };
  const scopeEnded = (): void => giveUp(abortReason(scope));
  const look = (): void => {
    const stalledAt = movedAt + limits.stall;
    const overdueAt = startedAt + limits.total;
    const left = Math.min(stalledAt, overdueAt) - clock.monotonic();
    // A timer may fire a fraction of a millisecond early.
    if (left > 1) clock.after(left, look, timers.signal);
    else if (overdueAt <= stalledAt) giveUp(new Error(`not done after ${limits.total / 1000} s`));
    else giveUp(new Error(`nothing came for ${limits.stall / 1000} s`));
  };
  if (scope.aborted) scopeEnded();
  else {
    scope.addEventListener('abort', scopeEnded, { once: true });
    look();
  }
  return {
    signal: exchange.signal,
    progress: () => {
      movedAt = clock.monotonic();
    },
    [Symbol.dispose]: () => {
      timers.abort();
      scope.removeEventListener('abort', scopeEnded);
    },
  };
}
