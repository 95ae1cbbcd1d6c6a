/**
 * How many messages a second each directive may get: a bucket per directive that fills with time and holds one second's
 * worth. Full buckets are forgotten, so that names nobody uses any more cost nothing.
 */
import type { DirectiveKey } from '../message/index.js';
import type { Millis } from '../time.js';

interface Bucket {
  readonly tokens: number;
  readonly at: Millis;
}

/** Above this many buckets, the full ones are swept out. */
const SWEEP_ABOVE = 1024;

export class RateLimit {
  readonly #buckets = new Map<DirectiveKey, Bucket>();

  constructor(readonly perSecond: number) {}

  /** Whether one more message for `directive` is allowed at the monotonic time `now`; counts it when it is. */
  admits(directive: DirectiveKey, now: Millis): boolean {
    const tokens = this.#tokensOf(this.#buckets.get(directive), now);
    if (tokens < 1) return false;
    if (this.#buckets.size > SWEEP_ABOVE) this.#sweep(now);
    this.#buckets.set(directive, { tokens: tokens - 1, at: now });
    return true;
  }

  /** Directives that are kept in mind. */
  get size(): number {
    return this.#buckets.size;
  }

  #tokensOf(bucket: Bucket | undefined, now: Millis): number {
    const most = Math.max(1, this.perSecond);
    return bucket === undefined ? most : Math.min(most, bucket.tokens + ((now - bucket.at) * this.perSecond) / 1000);
  }

  #sweep(now: Millis): void {
    for (const [directive, bucket] of this.#buckets) {
      if (this.#tokensOf(bucket, now) >= Math.max(1, this.perSecond)) this.#buckets.delete(directive);
    }
  }
}
