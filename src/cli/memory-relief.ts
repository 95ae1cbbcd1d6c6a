/**
 * Gives memory back to the machine after a flood, and in a long one. What large messages leave behind is freed, but
 * glibc keeps it in pieces of its own: 360 MB after 1 GB in messages of 1 MiB, of which 85 are left when it is told to
 * give back (measured, docs/performance.md). malloc_trim(3) is called through koffi, an optional dependency: without it
 * nothing is done. What nobody needs any more is freed when V8 next collects, and an agent at rest gives it no reason to:
 * so it is asked.
 */
import { runInNewContext } from 'node:vm';
import type { Clock, Millis } from '../time.js';

const MIB = 1024 * 1024;
const LOOK_EVERY: Millis = 500;
/** The work is over after so many looks without any: a second at least. */
const LOOKS_UNTIL_QUIET = 2;
/** In the midst of work memory is needed again at once: only where there is much of it, and not often. */
const BUSY_ABOVE = 192 * MIB;
const BUSY_EVERY: Millis = 5_000;
/** An agent at rest has some 65 MB, after work some 80. */
const QUIET_ABOVE = 90 * MIB;
/** A collection holds everything up for 20 ms: only behind the work, where there is much to gain, and not often. */
const COLLECT_ABOVE = 128 * MIB;
const COLLECT_EVERY: Millis = 30_000;

export interface MemoryReliefOptions {
  readonly clock: Clock;
  /** Resident bytes of this process. */
  readonly resident: () => number;
  /** Frees what nobody needs any more. */
  readonly collect: () => void;
  /** Gives back what is free, and what can be read again. */
  readonly trim: () => void;
}

/** Looks at the memory while there is work and once after it; at rest it has no timer. */
export class MemoryRelief {
  #isBusy = false;
  #idleLooks = 0;
  #isTimerSet = false;
  #trimmedAt = -Infinity;
  #collectedAt = -Infinity;

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
    const { clock, resident, collect, trim } = this.options;
    this.#idleLooks = this.#isBusy ? 0 : this.#idleLooks + 1;
    this.#isBusy = false;
    const now = clock.monotonic();
    const isOver = this.#idleLooks >= LOOKS_UNTIL_QUIET;
    if (!isOver) this.#lookLater();
    if (!isOver && now - this.#trimmedAt < BUSY_EVERY) return;
    const bytes = resident();
    if (bytes <= (isOver ? QUIET_ABOVE : BUSY_ABOVE)) return;
    if (isOver && bytes > COLLECT_ABOVE && now - this.#collectedAt >= COLLECT_EVERY) {
      this.#collectedAt = now;
      collect();
      // V8 frees much of it in threads of its own, a moment later.
      this.#lookLater();
    }
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

/** V8's collector; undefined where it is not exposed, as the program loader does. */
export function openCollector(): (() => void) | undefined {
  // Only a context that was made behind the flag has it, and ours has not.
  return runInNewContext('globalThis.gc') as (() => void) | undefined;
}
