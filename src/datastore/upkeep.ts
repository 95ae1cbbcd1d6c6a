/**
 * What must not wait for something new to come: cancels, commands, dead messages and known ids that grow too old. A
 * little of each is looked at from time to time, so that no turn and no commit grows with what is there.
 */
import type { Log } from '../log/log.js';
import type { Clock, Millis } from '../time.js';

/** Sees to a part; true when there is no more to do for now. Rejects when the journal fails. */
export type Task = () => Promise<boolean>;

const INTERVAL_MS: Millis = 10 * 60_000;
/** Between two parts of one task. */
const NEXT_PART_MS: Millis = 1_000;

export class Upkeep {
  constructor(
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly tasks: readonly Task[],
  ) {}

  start(scope: AbortSignal): void {
    void this.#run(scope);
  }

  async #run(scope: AbortSignal): Promise<void> {
    let isDone = true;
    try {
      for (const task of this.tasks) isDone = (await task()) && isDone;
    } catch (error) {
      this.log.warn('journal.upkeep', 'what is too old could not be removed yet', { error });
    }
    this.clock.after(isDone ? INTERVAL_MS : NEXT_PART_MS, () => void this.#run(scope), scope);
  }
}
