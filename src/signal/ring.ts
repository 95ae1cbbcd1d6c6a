/**
 * A ring keeps the newest entries of a flow for whoever comes later, within bounds. A reader holds a position and no
 * entry: one that reads slowly fills no memory, and is told how many entries were gone before it came to them. Nothing
 * happens for readers that are not there.
 */
import { Signal } from './signal.js';

export interface RingLimits {
  readonly entries: number;
  /** The sum of the weights, in the unit that `weigh` counts in. */
  readonly weight: number;
}

/** Some entries in a row. */
export interface Excerpt<T> {
  readonly entries: readonly T[];
  /** Entries between the position asked for and the first of these, which are not kept any more. */
  readonly missed: number;
  /** The position behind the last of them. */
  readonly next: number;
}

/** A ring for those who only read. */
export type RingReader<T> = Pick<Ring<T>, 'end' | 'excerpts' | 'last' | 'read'>;

/** How many a reader gets at once. */
const BATCH = 64;

export class Ring<T> {
  /** What is kept begins at `#from`; what was pushed out before it is cut off now and then. */
  #kept: ({ readonly entry: T; readonly weight: number } | undefined)[] = [];
  #from = 0;
  #weight = 0;
  /** The position of the first that is kept: how many were pushed out. */
  #start = 0;
  readonly #changed = new Signal<void>('ring-changed');
  #isClosed = false;

  constructor(
    private readonly limits: RingLimits,
    private readonly weigh: (entry: T) => number,
  ) {}

  /** Adds an entry; the oldest go when there is no room for it. */
  push(entry: T): void {
    const weight = this.weigh(entry);
    this.#kept.push({ entry, weight });
    this.#weight += weight;
    while (this.size > this.limits.entries || (this.#weight > this.limits.weight && this.size > 1)) this.#pushOut();
    if (this.#from > this.limits.entries) {
      this.#kept = this.#kept.slice(this.#from);
      this.#from = 0;
    }
    this.#changed.emit();
  }

  /** No entry comes any more: those who follow come to their end. Idempotent. */
  close(): void {
    this.#isClosed = true;
    this.#changed.emit();
  }

  get size(): number {
    return this.#kept.length - this.#from;
  }

  /** The position behind the newest. */
  get end(): number {
    return this.#start + this.size;
  }

  /** The position from which on there are `count` entries, or as many as are kept. */
  last(count: number): number {
    return Math.max(this.#start, this.end - count);
  }

  /** What stands at `position` and behind it, `most` at most. */
  read(position: number, most: number): Excerpt<T> {
    const first = Math.max(position, this.#start);
    const from = this.#from + first - this.#start;
    const entries = this.#kept.slice(from, from + most).flatMap((slot) => (slot === undefined ? [] : [slot.entry]));
    return { entries, missed: first - position, next: first + entries.length };
  }

  /**
   * What stands at `position` and behind it, bit by bit. With `isFollowing` it goes on with what comes, until `scope` ends
   * or the ring is closed.
   */
  async *excerpts(position: number, isFollowing: boolean, scope: AbortSignal): AsyncGenerator<Excerpt<T>, void, void> {
    const end = this.end;
    for (let at = position; !scope.aborted;) {
      const excerpt = this.read(at, isFollowing ? BATCH : Math.min(BATCH, Math.max(0, end - at)));
      at = excerpt.next;
      if (excerpt.entries.length > 0) yield excerpt;
      else if (this.#isClosed || !isFollowing) return;
      // Ends with the scope, which is looked at above.
      else await this.#changed.next(scope).catch(() => undefined);
    }
  }

  #pushOut(): void {
    this.#weight -= this.#kept[this.#from]?.weight ?? 0;
    // Its place stays until the list is cut: the entry must not.
    this.#kept[this.#from] = undefined;
    this.#from += 1;
    this.#start += 1;
  }
}
