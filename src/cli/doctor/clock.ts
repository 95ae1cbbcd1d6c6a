/**
 * The clock of this machine: certificates, lifetimes and the order of a fleet's states hang on it. Whether it agrees
 * with the broker's cannot be known, since MQTT tells no time.
 */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from './command.js';
import { checkOf, type Finding } from './finding.js';
import { day } from './words.js';

export interface ClockLook {
  readonly now: number;
  /** When the files of this program were made: no clock that is right is before that. */
  readonly built: number | undefined;
  /** The latest time that a file of the agent was written at; a clock before that went back. */
  readonly lastWritten: number | undefined;
  readonly sync: SyncLook;
}

export type SyncLook =
  | { readonly kind: 'known'; readonly isSynchronized: boolean; readonly isWanted: boolean; readonly source: string }
  | { readonly kind: 'unknown' };

export async function lookAtClock(stateDir: string | undefined, scope: AbortSignal): Promise<ClockLook> {
  const own = await stat(fileURLToPath(import.meta.url)).catch(() => undefined);
  return {
    now: Date.now(),
    built: own?.mtimeMs,
    lastWritten: stateDir === undefined ? undefined : await latestIn(stateDir),
    sync: (await askTimedatectl(scope)) ?? (await askKernel()) ?? { kind: 'unknown' },
  };
}

async function latestIn(stateDir: string): Promise<number | undefined> {
  const times: number[] = [];
  for (const directory of [stateDir, join(stateDir, 'journal')])
    for (const name of await readdir(directory).catch(() => []))
      times.push((await stat(join(directory, name)).catch(() => undefined))?.mtimeMs ?? 0);
  return times.length === 0 ? undefined : Math.max(...times);
}

async function askTimedatectl(scope: AbortSignal): Promise<SyncLook | undefined> {
  const ran = await run('timedatectl', ['show', '--property=NTP', '--property=NTPSynchronized'], scope);
  if (ran.kind !== 'ran' || ran.code !== 0 || !/^NTPSynchronized=/m.test(ran.stdout)) return undefined;
  const isYes = (name: string): boolean => new RegExp(`^${name}=yes$`, 'm').test(ran.stdout);
  return { kind: 'known', isSynchronized: isYes('NTPSynchronized'), isWanted: isYes('NTP'), source: 'timedatectl' };
}

/** adjtimex(2) with nothing to change: 5 is a clock that nobody keeps right. */
const TIME_ERROR = 5;
const TIMEX_BYTES = 512;

async function askKernel(): Promise<SyncLook | undefined> {
  try {
    const { default: koffi } = await import('koffi');
    const adjtimex = koffi.load('libc.so.6').func('int adjtimex(_Inout_ uint8_t *buf)');
    const state = Number(adjtimex(Buffer.alloc(TIMEX_BYTES)));
    if (state < 0) return undefined;
    return { kind: 'known', isSynchronized: state !== TIME_ERROR, isWanted: true, source: 'the kernel' };
  } catch {
    // No koffi, or another libc: nothing is known then.
    return undefined;
  }
}

const LONGEST_LAG_MS = 5 * 60_000;
const LATEST_YEAR = 2100;

export function judgeClock({ now, built, lastWritten, sync }: ClockLook): readonly Finding[] {
  const time = checkOf('clock.time');
  const findings: Finding[] = [];
  const mend = 'set the clock: `timedatectl set-ntp true`, or `date -s`';
  if (built !== undefined && now < built - 86_400_000)
    findings.push(time.failed(`it says ${day(now)}, before this program was installed (${day(built)})`, mend));
  else if (new Date(now).getUTCFullYear() >= LATEST_YEAR)
    findings.push(time.failed(`it says ${day(now)}: no certificate is valid then`, mend));
  else if (lastWritten !== undefined && lastWritten > now + LONGEST_LAG_MS)
    findings.push(
      time.warning(
        `it says ${day(now)}, but the agent wrote files at ${day(lastWritten)}: it went back`,
        'see that it is right now; what the agent keeps goes on, with times from before',
      ),
    );
  else findings.push(time.ok(`${day(now)}; how far it is off the broker’s cannot be asked over MQTT`));
  const kept = checkOf('clock.sync');
  if (sync.kind === 'unknown')
    findings.push(
      kept.skipped('neither timedatectl nor the kernel tells whether it is kept right', 'look at your NTP service'),
    );
  else if (sync.isSynchronized) findings.push(kept.ok(`kept right, as ${sync.source} says`));
  else
    findings.push(
      kept.warning(
        `nobody keeps it right, as ${sync.source} says${sync.isWanted ? '' : ': NTP is off'}`,
        sync.isWanted
          ? 'see why the time servers do not answer: `timedatectl timesync-status`, or `chronyc sources`'
          : 'turn it on: `timedatectl set-ntp true`, or run chrony',
      ),
    );
  return findings;
}
