/**
 * A bounded number of tasks at once, and of one host's at once, so that a slow host cannot take all places. Hosts that
 * wait take turns; tasks of one host keep their order. What waits is bounded by the live records, one task each.
 */
import { abortReason } from '../time.js';

interface Waiter {
  readonly begin: () => void;
}

export class Slots {
  readonly #waiting = new Map<string, Set<Waiter>>();
  readonly #runningAt = new Map<string, number>();
  #running = 0;

  constructor(
    private readonly total: number,
    private readonly perHost: number,
  ) {}

  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    let count = 0;
    for (const waiters of this.#waiting.values()) count += waiters.size;
    return count;
  }

  /** Runs `task` when there is a place for `host`; rejects with the scope's reason when it ends before that. */
  async run<T>(host: string, task: () => Promise<T>, scope: AbortSignal): Promise<T> {
    await this.#enter(host, scope);
    try {
      return await task();
    } finally {
      this.#leave(host);
    }
  }

  #enter(host: string, scope: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (scope.aborted) {
        reject(abortReason(scope));
        return;
      }
      const waiters = this.#waiting.get(host) ?? new Set<Waiter>();
      const waiter: Waiter = {
        begin: () => {
          scope.removeEventListener('abort', giveUp);
          resolve();
        },
      };
      const giveUp = (): void => {
        waiters.delete(waiter);
        if (waiters.size === 0 && this.#waiting.get(host) === waiters) this.#waiting.delete(host);
        reject(abortReason(scope));
      };
      scope.addEventListener('abort', giveUp, { once: true });
      waiters.add(waiter);
      this.#waiting.set(host, waiters);
      this.#fill();
    });
  }

  #leave(host: string): void {
    this.#running -= 1;
    const left = (this.#runningAt.get(host) ?? 1) - 1;
    if (left === 0) this.#runningAt.delete(host);
    else this.#runningAt.set(host, left);
    this.#fill();
  }

  #fill(): void {
    while (this.#running < this.total) {
      const next = this.#nextHost();
      if (next === undefined) return;
      const [host, waiters] = next;
      const [waiter] = waiters;
      // To the end of the line: the next place is another host's.
      this.#waiting.delete(host);
      if (waiter === undefined) continue;
      waiters.delete(waiter);
      if (waiters.size > 0) this.#waiting.set(host, waiters);
      this.#running += 1;
      this.#runningAt.set(host, (this.#runningAt.get(host) ?? 0) + 1);
      waiter.begin();
    }
  }

  #nextHost(): [string, Set<Waiter>] | undefined {
    for (const entry of this.#waiting) if ((this.#runningAt.get(entry[0]) ?? 0) < this.perHost) return entry;
    return undefined;
  }
}
