/**
 * Asks one incarnation of a worker how it is, again and again, until it says that it has no such service or is found
 * unhealthy. A worker that is busy with a message may be silent: only an idle one is blamed for it.
 */
import type { Clock, Millis } from '../time.js';
import { afterCheck, type Health } from './plan.js';

export interface HealthOptions {
  readonly clock: Clock;
  readonly interval: Millis;
  readonly timeout: Millis;
  readonly check: (timeout: Millis) => Promise<Health>;
  readonly isIdle: () => boolean;
  /** Called once, with a reason for a person. */
  readonly onUnhealthy: (reason: string) => void;
}

/** Watches until `scope` ends. */
export function watchHealth(options: HealthOptions, scope: AbortSignal): void {
  const { clock, interval, timeout } = options;
  let failures = 0;
  const later = (): void => clock.after(interval, () => void ask(), scope);
  const ask = async (): Promise<void> => {
    const wasIdle = options.isIdle();
    const health = await options.check(timeout);
    if (scope.aborted) return;
    const isExcused = health === 'silence' && !(wasIdle && options.isIdle());
    const next = afterCheck(failures, isExcused ? 'unknown' : health);
    if (next === 'ask-no-more') return;
    if (next === 'unhealthy') {
      options.onUnhealthy(
        health === 'silence' ? `no answer to a health check within ${timeout} ms` : 'it says that it is not serving',
      );
      return;
    }
    failures = next;
    later();
  };
  later();
}
