/** The limits of the processor and their defaults. Each is a setting of the same name with dashes. */
import type { Millis } from '../time.js';

export interface ProcessorLimits {
  /** Bytes of a fetched body, also after decompression. */
  readonly contentLimit: number;
  /** GETs at once. */
  readonly fetchConcurrency: number;
  /** GETs at once to one host. */
  readonly fetchesPerHost: number;
  /** Failed GETs of one message until it is given up. */
  readonly maxFetches: number;
  /** POSTs at once. */
  readonly postConcurrency: number;
  /** POSTs at once to one host. */
  readonly postsPerHost: number;
  /** How long a result is tried. */
  readonly resultLifetime: Millis;
  /** How long a connection may take to stand. */
  readonly connectTimeout: Millis;
  /** How long an exchange may go without a byte from the other side. */
  readonly stallTimeout: Millis;
  /** How long one exchange may take as a whole, however steadily it drips. */
  readonly transferTimeout: Millis;
  /** The wait after a fault of the journal or the disk. */
  readonly faultDelay: Millis;
}

export const DEFAULT_LIMITS: ProcessorLimits = {
  contentLimit: 256 * 1024 * 1024,
  fetchConcurrency: 8,
  fetchesPerHost: 4,
  maxFetches: 10,
  postConcurrency: 16,
  postsPerHost: 4,
  resultLifetime: 7 * 24 * 3_600_000,
  connectTimeout: 30_000,
  stallTimeout: 30_000,
  transferTimeout: 3_600_000,
  faultDelay: 10_000,
};
