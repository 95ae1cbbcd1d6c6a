/**
 * The newest lines that each worker wrote, for an operator who asks: over restarts of the worker, until its executable is
 * gone. Bounded for each worker, and nothing is kept of one that writes nothing.
 */
import type { WorkerName } from '../message/index.js';
import { Ring, type RingLimits } from '../signal/index.js';
import type { Millis } from '../time.js';

export interface WorkerLine {
  /** Wall time. */
  readonly at: Millis;
  readonly pid: number;
  readonly stream: 'stdout' | 'stderr';
  /** As it was written, control characters too. */
  readonly text: string;
}

export type OutputRing = Ring<WorkerLine>;

/** Of one worker: lines, and characters of memory. */
const LIMITS: RingLimits = { entries: 1000, weight: 128 * 1024 };
/** What a line takes beside its text. */
const LINE_OVERHEAD = 64;

export class OutputRings {
  readonly #rings = new Map<WorkerName, OutputRing>();

  /** That of a worker; empty when it has written nothing. */
  of(name: WorkerName): OutputRing {
    const present = this.#rings.get(name);
    if (present !== undefined) return present;
    const ring: OutputRing = new Ring(LIMITS, ({ text }) => text.length + LINE_OVERHEAD);
    this.#rings.set(name, ring);
    return ring;
  }

  /** The worker is gone for good, and those who follow come to their end. */
  forget(name: WorkerName): void {
    this.#rings.get(name)?.close();
    this.#rings.delete(name);
  }
}
