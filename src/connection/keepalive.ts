/**
 * Keeps a connection alive and notices when it is dead. Ours instead of the mqtt package's, because that one counts
 * only acknowledgements as life: one large message on a slow line would outlast it, be cut, and come again for ever.
 * Here every byte counts. We send something in every interval [MQTT-3.1.2-20]; a broker that has sent no byte for one
 * and a half intervals is gone. It cannot answer while a large message of ours is on its way to it, so that one is
 * given the time it needs on the slowest line there is to be.
 */
import type { Clock, Millis } from '../time.js';

export interface KeepaliveOptions {
  readonly interval: Millis;
  readonly clock: Clock;
  readonly lastReceived: () => Millis;
  readonly lastSent: () => Millis;
  /** Bytes of the largest publication that the broker has not answered. */
  readonly largestPending: () => number;
  readonly ping: () => void;
  readonly onDead: () => void;
}

/** Bytes a millisecond of a line that still counts as one: 1 kB/s (CONTRACT section 4). */
const SLOWEST_LINE = 1;
/** About when TCP itself gives up what it cannot deliver. */
const LONGEST_ALLOWANCE: Millis = 15 * 60_000;

/** Runs until `scope` ends. An interval of 0 means no keepalive. */
export function keepAlive(options: KeepaliveOptions, scope: AbortSignal): void {
  const { interval, clock } = options;
  if (interval <= 0) return;
  const check = (): void => {
    const now = clock.monotonic();
    const allowance = Math.min(options.largestPending() / SLOWEST_LINE, LONGEST_ALLOWANCE);
    if (now - options.lastReceived() >= interval * 1.5 + allowance) {
      options.onDead();
      return;
    }
    // Half an interval of silence either way asks for a sign of life; the answer has until 1.5 intervals.
    if (now - Math.min(options.lastReceived(), options.lastSent()) >= interval / 2) options.ping();
    clock.after(interval / 4, check, scope);
  };
  clock.after(interval / 4, check, scope);
}
