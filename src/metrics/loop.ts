/**
 * How late the event loop is, and how busy. The kernel of it is Node's own histogram, filled in native code 50 times a
 * second while it is enabled; it is enabled only while somebody wants metrics.
 */
import { monitorEventLoopDelay, performance, type IntervalHistogram } from 'node:perf_hooks';
import type { Clock, Millis } from '../time.js';
import { METRICS } from './catalogue.js';
import type { Registry, Summary } from './instruments.js';

const RESOLUTION: Millis = 20;
/** Two scrapers share the quantiles: neither shall empty them for the other. */
const WINDOW: Millis = 10_000;
const QUANTILES = [0.5, 0.9, 0.99, 1];
const NANOS = 1e9;

export class LoopWatch {
  #delay: IntervalHistogram | undefined;
  #since = 0;
  /** Of windows that are over. */
  #past = { count: 0, sum: 0 };
  #quantiles: Summary['quantiles'] = [];

  constructor(
    private readonly registry: Registry,
    private readonly clock: Pick<Clock, 'monotonic'>,
  ) {}

  start(): void {
    this.#since = this.clock.monotonic();
    // Not earlier: one that was never enabled counts as a handle that is in use.
    this.#delay = monitorEventLoopDelay({ resolution: RESOLUTION });
    this.#delay.enable();
  }

  /** Idempotent. */
  stop(): void {
    this.#delay?.disable();
    this.#delay = undefined;
  }

  /** Writes down how it is now. */
  collect(): void {
    const delay = this.#delay;
    if (delay === undefined) return;
    const present = delay.count === 0 ? 0 : late(delay.mean) * delay.count;
    const count = this.#past.count + delay.count;
    const sum = this.#past.sum + present;
    const now = this.clock.monotonic();
    const isOver = now - this.#since >= WINDOW && delay.count > 0;
    if (isOver || (this.#past.count === 0 && delay.count > 0)) {
      this.#quantiles = QUANTILES.map((quantile) => [quantile, late(delay.percentile(quantile * 100))]);
    }
    if (isOver) {
      this.#past = { count, sum };
      this.#since = now;
      delay.reset();
    }
    this.registry.summary(METRICS.loopDelay).put({ labels: [], quantiles: this.#quantiles, count, sum });
    this.registry.count(METRICS.loopActive).with().value = performance.eventLoopUtilization().active / 1000;
  }
}

/** Node tells the time between two looks, which is the resolution when nothing is late. */
function late(nanoseconds: number): number {
  return Math.max(0, nanoseconds / NANOS - RESOLUTION / 1000);
}
