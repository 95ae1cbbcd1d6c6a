/**
 * Keeps a connection alive and notices when it is dead. Ours instead of the mqtt package's, because that one counts
 * only acknowledgements as life: one large message on a slow line would outlast it, be cut, and come again for ever.
 * Here every byte counts. We send something in every interval [MQTT-3.1.2-20]; a broker that has sent no byte for one
 * and a half intervals is gone.
 */
import type { Clock, Millis } from '../time.js';

export interface KeepaliveOptions {
  readonly interval: Millis;
  readonly clock: Clock;
  readonly lastReceived: () => Millis;
  readonly lastSent: () => Millis;
  readonly ping: () => void;
  readonly onDead: () => void;
}

/** Runs until `scope` ends. An interval of 0 means no keepalive. */
export function keepAlive(options: KeepaliveOptions, scope: AbortSignal): void {
  const { interval, clock } = options;
  if (interval <= 0) return;
  const check = (): void => {
    const now = clock.monotonic();
    if (now - options.lastReceived() >= interval * 1.5) {
      options.onDead();
      return;
    }
    // Half an interval of silence either way asks for a sign of life; the answer has until 1.5 intervals.
    if (now - Math.min(options.lastReceived(), options.lastSent()) >= interval / 2) options.ping();
    clock.after(interval / 4, check, scope);
  };
  clock.after(interval / 4, check, scope);
}
