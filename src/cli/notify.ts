/**
 * Tells systemd how the daemon fares: sd_notify(3) and the watchdog. Without NOTIFY_SOCKET or without koffi each call
 * does nothing, and `isAvailable` says so. What the receiver has no room for waits, one value per variable, and is sent
 * when there is room; so nothing piles up and no READY is lost.
 */
import type { Log } from '../log/log.js';
import { sleep, type Clock, type Millis } from '../time.js';
import { openDatagramSocket, type DatagramSocket } from './notify-socket.js';

/** How long to wait until a full socket is tried again. */
const RETRY: Millis = 50;
/** Ticks per watchdog interval: several, so that one slow check of health does not end the daemon. */
const TICKS = 4;

export interface NotifierOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** The daemon's own pid; WATCHDOG_PID may name another process. */
  readonly pid: number;
}

export interface Notifier {
  /** Whether somebody listens. */
  readonly isAvailable: boolean;
  /** The watchdog's interval in milliseconds, where the service manager set one for this process. */
  readonly watchdogInterval: Millis | undefined;
  /** Start-up is done, or a reload is. */
  ready(): void;
  /** One line for `systemctl status`. */
  status(text: string): void;
  /** A reload has begun; `ready` ends it. */
  reloading(): void;
  /** The daemon is about to end. */
  stopping(): void;
  /**
   * Sends the watchdog's tick several times per interval until the scope ends: from a timer, so only while the event
   * loop lives, and only when `isHealthy` says so (the journal can be written). A check that hangs, fails or says no
   * sends nothing, and systemd ends the daemon when its interval has passed.
   */
  watchdog(isHealthy: () => boolean | Promise<boolean>, scope: AbortSignal): void;
  /** Releases the socket. */
  close(): void;
}

/** Opens the way to the service manager that `env` names. Never throws; what is wrong is logged once. */
export async function createNotifier(
  env: Readonly<Record<string, string | undefined>>,
  options: NotifierOptions,
): Promise<Notifier> {
  const address = env['NOTIFY_SOCKET'];
  const watchdogInterval = watchdogIntervalOf(env, options.pid);
  if (address === undefined || address === '') return notifier(undefined, undefined, options);
  const opened = await openDatagramSocket(address);
  if (opened.kind === 'open') return notifier(opened.socket, watchdogInterval, options);
  options.log.warn('notify.unavailable', 'systemd waits for word that cannot be sent: use the unit with Type=exec', {
    reason: opened.reason,
  });
  return notifier(undefined, undefined, options);
}

/** sd_watchdog_enabled(3): WATCHDOG_USEC, unless WATCHDOG_PID names another process. */
function watchdogIntervalOf(env: Readonly<Record<string, string | undefined>>, pid: number): Millis | undefined {
  const interval = Number(env['WATCHDOG_USEC'] ?? '') / 1000;
  const isOurs = env['WATCHDOG_PID'] === undefined || env['WATCHDOG_PID'] === String(pid);
  return isOurs && Number.isFinite(interval) && interval > 0 ? interval : undefined;
}

function notifier(
  socket: DatagramSocket | undefined,
  watchdogInterval: Millis | undefined,
  { clock, log }: NotifierOptions,
): Notifier {
  const closed = new AbortController();
  const pending = new Map<string, string>();
  let isWaiting = false;
  let hasWarned = false;

  const flush = (): void => {
    isWaiting = false;
    if (socket === undefined || closed.signal.aborted || pending.size === 0) return;
    const outcome = socket.send([...pending].map(([name, value]) => `${name}=${value}`).join('\n'));
    if (outcome.kind === 'busy') {
      isWaiting = true;
      clock.after(RETRY, flush, closed.signal);
      return;
    }
    pending.clear();
    if (outcome.kind === 'sent' || hasWarned) return;
    hasWarned = true;
    log.warn('notify.failed', 'the service manager could not be told', { errno: outcome.errno });
  };
  const tell = (name: string, value: string): void => {
    if (socket === undefined) return;
    // The newest stands last, so that READY after RELOADING also arrives in that order.
    pending.delete(name);
    pending.set(name, value);
    if (!isWaiting) flush();
  };

  return {
    isAvailable: socket !== undefined,
    watchdogInterval,
    ready: () => tell('READY', '1'),
    status: (text) => tell('STATUS', text.replace(/\s+/g, ' ')),
    reloading() {
      // Both in one datagram: systemd takes the time with the word.
      pending.set('MONOTONIC_USEC', String(process.hrtime.bigint() / 1000n));
      tell('RELOADING', '1');
    },
    stopping: () => tell('STOPPING', '1'),
    watchdog(isHealthy, scope) {
      if (socket === undefined || watchdogInterval === undefined) return;
      const life = AbortSignal.any([scope, closed.signal]);
      const tick = async (): Promise<void> => {
        for (;;) {
          await sleep(clock, watchdogInterval / TICKS, life);
          if (await isWell(isHealthy, log)) tell('WATCHDOG', '1');
        }
      };
      tick().catch(() => {
        // The scope has ended: that is how this loop ends.
      });
    },
    close() {
      if (closed.signal.aborted) return;
      closed.abort();
      socket?.close();
    },
  };
}

async function isWell(isHealthy: () => boolean | Promise<boolean>, log: Log): Promise<boolean> {
  try {
    if (await isHealthy()) return true;
    log.error('notify.unhealthy', 'the daemon is not well: the watchdog is not told that it lives');
  } catch (error) {
    log.error('notify.unhealthy', 'the daemon is not well: the watchdog is not told that it lives', { error });
  }
  return false;
}
