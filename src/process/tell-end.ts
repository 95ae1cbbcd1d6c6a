/** What the log is told when a worker's process has ended. */
import type { Log } from '../log/log.js';
import type { WorkerName } from '../message/index.js';
import type { Millis } from '../time.js';
import type { LifeEnd, WorkerState } from './state.js';

interface Ended {
  readonly name: WorkerName;
  readonly end: LifeEnd;
  /** What comes after; undefined: it is started again at once, or is not wanted. */
  readonly next: WorkerState | undefined;
  /** Of the monotonic clock. */
  readonly now: Millis;
}

export function tellEnd(log: Log, { name, end, next, now }: Ended): void {
  const fields = { worker: name };
  const goesOn =
    next?.kind === 'backoff'
      ? `; it is started again in ${((next.until - now) / 1000).toFixed(1)} s`
      : next?.kind === 'stopped'
        ? '; it stays stopped (restart = "never" in its file)'
        : '';
  switch (end.kind) {
    case 'cancelled':
      return;
    case 'invalid': {
      const text = `worker ${name} waits until its file is mended: ${end.problems.join('; ')}`;
      log.error('worker.config_invalid', text, fields);
      return;
    }
    case 'failed':
      log.error('worker.start_failed', `${end.reason}${goesOn}`, fields);
      return;
    case 'died':
      log.warn('worker.died', `worker ${name} died: ${end.reason}${goesOn}`, fields);
      return;
    case 'stopped': {
      const text = `worker ${name} was stopped: ${end.reason}${goesOn}`;
      if (next === undefined) log.info('worker.stopped', text, fields);
      else log.warn('worker.stopped', text, fields);
    }
  }
}
