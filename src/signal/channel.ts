/**
 * A channel carries work that can pile up between two tasks: bounded, with a stated policy for a full channel, and
 * gauges that say how deep it is and what it dropped. It is an async iterable for one consumer at a time.
 */

/** What `put` does when the channel is full: waits, drops the oldest entry, or returns false. */
export type FullPolicy = 'block' | 'drop-oldest' | 'reject';

export class Channel<T extends object | string | number> {
  readonly #entries: T[] = [];
  readonly #takers: ((entry: T | undefined) => void)[] = [];
  readonly #putters: (() => void)[] = [];
  #closed = false;
  #dropped = 0;

  constructor(
    readonly capacity: number,
    readonly policy: FullPolicy,
  ) {
    if (!Number.isInteger(capacity) || capacity < 1)
      throw new RangeError('the capacity of a channel is an integer of at least 1');
  }

  /** Entries that wait now. */
  get depth(): number {
    return this.#entries.length;
  }

  /** Entries that were dropped or refused since the start. */
  get dropped(): number {
    return this.#dropped;
  }

  /**
   * Adds an entry. Resolves true when it is in, false when it was refused (policy `reject`, or the channel is
   * closed). With `block` it waits for room.
   */
  async put(entry: T): Promise<boolean> {
    for (;;) {
      if (this.#closed) return false;
      const taker = this.#takers.shift();
      if (taker) {
        taker(entry);
        return true;
      }
      if (this.#entries.length < this.capacity) {
        this.#entries.push(entry);
        return true;
      }
      if (this.policy === 'drop-oldest') {
        this.#entries.shift();
        this.#dropped += 1;
      } else if (this.policy === 'reject') {
        this.#dropped += 1;
        return false;
      } else {
        await new Promise<void>((resolve) => this.#putters.push(resolve));
      }
    }
  }

  /** The next entry, or undefined once the channel is closed and empty. */
  take(): Promise<T | undefined> {
    const entry = this.#entries.shift();
    if (entry !== undefined) {
      this.#putters.shift()?.();
      return Promise.resolve(entry);
    }
    if (this.#closed) return Promise.resolve(undefined);
    return new Promise((resolve) => this.#takers.push(resolve));
  }

  /** No more entries go in; those inside can still be taken. Idempotent. */
  close(): void {
    this.#closed = true;
    for (const taker of this.#takers.splice(0)) taker(undefined);
    for (const putter of this.#putters.splice(0)) putter();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, void> {
    for (;;) {
      const entry = await this.take();
      if (entry === undefined) return;
      yield entry;
    }
  }
}
