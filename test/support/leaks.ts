/** What a process holds: a test compares it before and after. What was just closed is gone some turns later. */
import assert from 'node:assert/strict';
import { readdirSync, readlinkSync } from 'node:fs';

const SIGNALS = [
  'SIGTERM',
  'SIGINT',
  'SIGHUP',
  'exit',
  'beforeExit',
  'uncaughtException',
  'unhandledRejection',
  'warning',
];

export interface Held {
  /** Kind → how many: handles and requests that keep the event loop alive. */
  readonly resources: Readonly<Record<string, number>>;
  /** Sockets, pipes and files that are open, by what they are. */
  readonly descriptors: Readonly<Record<string, number>>;
  readonly listeners: Readonly<Record<string, number>>;
}

export function held(): Held {
  return {
    resources: counted(process.getActiveResourcesInfo()),
    descriptors: counted(readdirSync('/proc/self/fd').flatMap(kindOfDescriptor)),
    listeners: Object.fromEntries(SIGNALS.map((name) => [name, process.listenerCount(name)])),
  };
}

function kindOfDescriptor(fd: string): string[] {
  try {
    const target = readlinkSync(`/proc/self/fd/${fd}`);
    // The one that reads the list itself.
    if (/^\/proc\/\d+\/fd$/.test(target)) return [];
    return [target.replace(/\[\d+\]$/, '').replace(/yg-[^/]*/, 'yg-*')];
  } catch {
    return []; // closed between the two calls
  }
}

function counted(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of [...names].sort()) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

/** How many looks, some milliseconds apart, what is being closed (or asked of a name server) may take. */
const LOOKS = 2000;

/** What is held when no file is being read and nothing is being connected or closed any more. */
export async function heldAtRest(): Promise<Held> {
  // The caller may stand in the turn of a timer, which then counts as one.
  await later();
  for (let look = 0; look < LOOKS && /Req|ConnectWrap|TCPSocketWrap/.test(JSON.stringify(held())); look++)
    await later();
  return held();
}

/** Fails when this process holds more of anything than before, however long it is waited. Less is no leak. */
export async function assertNothingMore(before: Held): Promise<void> {
  for (let look = 0; look < LOOKS && growth(before).length > 0; look++) await later();
  assert.deepEqual(growth(before), []);
}

function growth(before: Held): readonly string[] {
  const now = held();
  return (['resources', 'descriptors', 'listeners'] as const).flatMap((part) =>
    Object.entries(now[part])
      .filter(([name, count]) => count > (before[part][name] ?? 0))
      .map(([name, count]) => `${part} ${name}: ${before[part][name] ?? 0} -> ${count}`),
  );
}

function later(): Promise<void> {
  // Behind the timer's own turn, in which it still counts as one.
  return new Promise((resolve) => setTimeout(() => setImmediate(resolve), 5));
}
