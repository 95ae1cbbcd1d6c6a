/**
 * The packet ids of one connection, shared by our publications and what the mqtt package sends by itself: none that
 * waits for its answer is given out a second time [MQTT-2.2.1-3].
 */
import type { IClientOptions } from 'mqtt';

const LARGEST = 65_535;

export class PacketIds implements NonNullable<IClientOptions['messageIdProvider']> {
  /** A bit for each id. A set of numbers that come and go would rehash for ever (see signal/slot-table.ts). */
  readonly #used = new Uint32Array(2 ** 11);
  #count = 0;
  #last = 0;

  /** An id that is not in use, the one that was free longest first; null when there is none. */
  allocate(): number | null {
    if (this.#count === LARGEST) return null;
    do this.#last = (this.#last % LARGEST) + 1;
    while (!this.register(this.#last));
    return this.#last;
  }

  getLastAllocated(): number | null {
    return this.#last === 0 ? null : this.#last;
  }

  /** Takes this very id; false when it is in use. */
  register(id: number): boolean {
    if (this.#isUsed(id)) return false;
    this.#turn(id);
    this.#count += 1;
    return true;
  }

  deallocate(id: number): void {
    if (!this.#isUsed(id)) return;
    this.#turn(id);
    this.#count -= 1;
  }

  clear(): void {
    this.#used.fill(0);
    this.#count = 0;
  }

  #isUsed(id: number): boolean {
    return ((this.#used[id >> 5] as number) & (1 << (id & 31))) !== 0;
  }

  #turn(id: number): void {
    this.#used[id >> 5] = (this.#used[id >> 5] as number) ^ (1 << (id & 31));
  }
}
