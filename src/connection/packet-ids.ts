/**
 * The packet ids of one connection, shared by our publications and what the mqtt package sends by itself: none that
 * waits for its answer is given out a second time [MQTT-2.2.1-3].
 */
import type { IClientOptions } from 'mqtt';

const LARGEST = 65_535;

export class PacketIds implements NonNullable<IClientOptions['messageIdProvider']> {
  readonly #used = new Set<number>();
  #last = 0;

  /** An id that is not in use, the one that was free longest first; null when there is none. */
  allocate(): number | null {
    if (this.#used.size === LARGEST) return null;
    do this.#last = (this.#last % LARGEST) + 1;
    while (this.#used.has(this.#last));
    this.#used.add(this.#last);
    return this.#last;
  }

  getLastAllocated(): number | null {
    return this.#last === 0 ? null : this.#last;
  }

  /** Takes this very id; false when it is in use. */
  register(id: number): boolean {
    if (this.#used.has(id)) return false;
    this.#used.add(id);
    return true;
  }

  deallocate(id: number): void {
    this.#used.delete(id);
  }

  clear(): void {
    this.#used.clear();
  }
}
