/** Events for whoever watches. While nobody does there is nothing here, and nothing is made. */
import { Ring, type RingReader } from '../signal/index.js';

/** Kept for watchers that read slowly. */
const MOST = 4096;

export class EventFeed<E> {
  #events: Ring<E> | undefined;
  #watchers = 0;

  get isWatched(): boolean {
    return this.#events !== undefined;
  }

  push(event: E): void {
    this.#events?.push(event);
  }

  /** What happens from now on, until `scope` ends. All who watch share one ring, which goes with the last of them. */
  watch(scope: AbortSignal): RingReader<E> {
    const events = this.#events ?? new Ring<E>({ entries: MOST, weight: MOST }, () => 1);
    if (scope.aborted) return events;
    this.#events = events;
    this.#watchers += 1;
    const leave = (): void => {
      this.#watchers -= 1;
      if (this.#watchers === 0) this.#events = undefined;
    };
    scope.addEventListener('abort', leave, { once: true });
    return events;
  }
}
