/**
 * Gives memory back to the machine after a flood. What large messages leave behind is freed, but glibc keeps it in pieces
 * of its own: 360 MB after 1 GB in messages of 1 MiB, of which 85 are left when it is told to give back (measured,
 * docs/performance.md). malloc_trim(3) is called through koffi, an optional dependency: without it nothing is done.
 */
import type { Clock, Millis } from '../time.js';

const MIB = 1024 * 1024;
const LOOK_EVERY: Millis = 1_000;
/** In the midst of work memory is needed again at once: only where there is much of it, and not often. */
const BUSY_ABOVE = 192 * MIB;
const BUSY_EVERY: Millis = 5_000;
/** An agent at rest has some 65 MB, after work some 80. */
const QUIET_ABOVE = 90 * MIB;

export interface MemoryReliefOptions {
  readonly clock: Clock;
  /** Resident bytes of this process. */
  readonly resident: () => number;
  /** Gives back what is free. */
  readonly trim: () => void;
}

/** Looks at the memory while there is work and once after it; at rest it has no timer. */
export class MemoryRelief {
  #isBusy = false;
  #isTimerSet = false;
  #trimmedAt = -Infinity;

  constructor(
    private readonly options: MemoryReliefOptions,
    private readonly scope: AbortSignal,
  ) {}

  /** There is work. Called with each message. */
  touch(): void {
    this.#isBusy = true;
    if (!this.#isTimerSet) this.#lookLater();
  }

  #lookLater(): void {
    this.#isTimerSet = true;
    this.options.clock.after(LOOK_EVERY, () => this.#look(), this.scope);
  }

  #look(): void {
    this.#isTimerSet = false;
    const { clock, resident, trim } = this.options;
    const wasBusy = this.#isBusy;
    this.#isBusy = false;
    const now = clock.monotonic();
    if (wasBusy) this.#lookLater();
    if (wasBusy && now - this.#trimmedAt < BUSY_EVERY) return;
    if (resident() <= (wasBusy ? BUSY_ABOVE : QUIET_ABOVE)) return;
    this.#trimmedAt = now;
    trim();
  }
}

/** malloc_trim in a thread of its own, one call at a time; undefined where there is no koffi or no glibc. */
export async function openTrim(): Promise<(() => void) | undefined> {
  try {
    const { load } = (await import('koffi')).default;
    const mallocTrim = load(null).func('int malloc_trim(size_t pad)');
    let isUnderWay = false;
    return () => {
      if (isUnderWay) return;
      isUnderWay = true;
      mallocTrim.async(0, () => {
        isUnderWay = false;
      });
    };
  } catch {
    // An optional package, and another C library has no such function: memory stays as it is.
    return undefined;
  }
}
