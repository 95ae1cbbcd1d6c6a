/** What a scenario gets and what it gives back. */
import type { Flags } from '../flags.js';
import type { Ground } from '../subject.js';

/** One figure of a scenario. */
export interface Measure {
  readonly name: string;
  readonly unit: 'ms' | 's' | 'MB' | 'msg/s' | 'µs' | 'MB/s' | '1/s' | 'KB' | '%' | 'messages';
  readonly value: number;
}

export interface Stage {
  readonly ground: Ground;
  readonly flags: Flags;
}

/** Resolves after so many seconds, or rejects when the scope ends. */
export function wait(seconds: number, scope: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      scope.removeEventListener('abort', stop);
      resolve();
    }, seconds * 1_000);
    const stop = (): void => {
      clearTimeout(timer);
      reject(new Error('interrupted', { cause: scope.reason }));
    };
    if (scope.aborted) stop();
    else scope.addEventListener('abort', stop, { once: true });
  });
}
