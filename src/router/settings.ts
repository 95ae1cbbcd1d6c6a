/**
 * What an operator or a test may change about the router. Durations in milliseconds, sizes in bytes.
 */
import { DEFAULT_DECODE_LIMITS, type DecodeLimits } from '../message/index.js';
import type { Backoff, Millis } from '../time.js';

export interface RouterSettings {
  /** Whether connection-status and will are retained (`mqtt-retain-status`). */
  readonly retainStatus: boolean;
  /** Whether an empty message goes to `data/out` at each connect (`mqtt-prime-topics`). */
  readonly primeTopics: boolean;
  /** How often the status is told while nothing changes; 0: never. */
  readonly statusInterval: Millis;
  /** How long after a connect the status is told once more, lest a late will of ours had the last word; 0: never. */
  readonly repeatOnlineAfter: Millis;
  /** How long a clean stop waits for the PUBACK of its offline status. */
  readonly offlineTimeout: Millis;
  /** Filters of the topics a request may name for its replies; undefined: those under the agent's own. */
  readonly responseTopics: readonly string[] | undefined;
  /** Directives that are taken, `-` and `_` alike; undefined: all. */
  readonly allowedDirectives: readonly string[] | undefined;
  /** Messages a second that one directive may get; undefined: any number. */
  readonly rateLimit: number | undefined;
  readonly decodeLimits: DecodeLimits;
  readonly maxMessageSize: number;
  /** Messages from the broker that may wait in memory for room in the store. */
  readonly receiveMaximum: number;
  /** Publications that may be unacknowledged at once, whatever the broker allows. */
  readonly publishWindow: number;
  /** How many of them are kept free for control. */
  readonly controlSlots: number;
  /** How often room in the store is asked for while messages wait. */
  readonly roomInterval: Millis;
  /** Waits after the broker answered that its quota is exceeded. */
  readonly quotaBackoff: Backoff;
}

export const DEFAULT_ROUTER_SETTINGS: RouterSettings = {
  retainStatus: true,
  primeTopics: false,
  statusInterval: 3_600_000,
  repeatOnlineAfter: 10_000,
  offlineTimeout: 2_000,
  responseTopics: undefined,
  allowedDirectives: undefined,
  rateLimit: undefined,
  decodeLimits: DEFAULT_DECODE_LIMITS,
  maxMessageSize: 16 * 1024 * 1024,
  receiveMaximum: 256,
  publishWindow: 1_000,
  controlSlots: 4,
  roomInterval: 1_000,
  quotaBackoff: { first: 1_000, cap: 60_000 },
};
