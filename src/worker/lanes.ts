/**
 * What waits for a handler: one queue for each priority, each in the order of arrival. Pure state. Priority 9 goes
 * first; every eighth turn is the oldest one's, so that a flood of urgent messages starves nobody (CONTRACT 1.4). The
 * first of a lane that is not ready holds up its lane and no other.
 */

/** A queue whose `shift` costs the same however long it is. */
class Lane<T> {
  #items: T[] = [];
  #head = 0;

  get first(): T | undefined {
    return this.#items[this.#head];
  }

  push(item: T): void {
    this.#items.push(item);
  }

  shift(): void {
    this.#head += 1;
    if (this.#head === this.#items.length) {
      this.#items = [];
      this.#head = 0;
    }
  }

  /** Takes out what `isGone` names. */
  prune(isGone: (item: T) => boolean): void {
    this.#items = this.#items.slice(this.#head).filter((item) => !isGone(item));
    this.#head = 0;
  }
}

interface Waiting<T> {
  readonly item: T;
  /** Counts up: the smaller one came earlier. */
  readonly order: number;
}

const PRIORITIES = 10;
const OLDEST_EACH = 8;

export class Lanes<T> {
  readonly #lanes = Array.from({ length: PRIORITIES }, () => new Lane<Waiting<T>>());
  #order = 0;
  #turn = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** `priority` is taken into 0 to 9. */
  add(priority: number, item: T): void {
    const lane = this.#lanes[Math.min(Math.max(0, Math.trunc(priority)), PRIORITIES - 1)];
    lane?.push({ item, order: this.#order++ });
    this.#size += 1;
  }

  /** Takes out the next one whose turn it is and that is ready; undefined where there is none. */
  take(isReady: (item: T) => boolean): T | undefined {
    if (this.#size === 0) return undefined;
    const isOldest = (this.#turn + 1) % OLDEST_EACH === 0;
    let chosen: { lane: Lane<Waiting<T>>; first: Waiting<T> } | undefined;
    for (let priority = PRIORITIES - 1; priority >= 0; priority--) {
      const lane = this.#lanes[priority];
      const first = lane?.first;
      if (lane === undefined || first === undefined || !isReady(first.item)) continue;
      if (chosen === undefined || first.order < chosen.first.order) chosen = { lane, first };
      if (!isOldest) break;
    }
    if (chosen === undefined) return undefined;
    this.#turn = (this.#turn + 1) % OLDEST_EACH;
    this.#size -= 1;
    chosen.lane.shift();
    return chosen.first.item;
  }

  /** Takes out what `isGone` names, whether its turn has come or not. */
  prune(isGone: (item: T) => boolean): void {
    for (const lane of this.#lanes) {
      lane.prune(({ item }) => {
        const gone = isGone(item);
        if (gone) this.#size -= 1;
        return gone;
      });
    }
  }
}
