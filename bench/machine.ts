/** On what it was measured: machine, versions, disk, and how steady the processor was while it ran. */
import { execFile } from 'node:child_process';
import { closeSync, fdatasyncSync, openSync, readFileSync, writeSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from '../test/support/yggd.js';
import { median } from './statistics.js';

const run = promisify(execFile);

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGb: number;
  readonly kernel: string;
  readonly node: string;
  readonly mosquitto: string;
  readonly yggdrasil: string;
  /** The median time of one fdatasync of 4 KiB where the journal is, in milliseconds. */
  readonly syncMs: number;
}

/** Describes this machine; `directory` is on the disk that is used. */
export async function describeMachine(directory: string): Promise<Machine> {
  const [first] = cpus();
  return {
    cpu: first?.model ?? 'unknown',
    cores: cpus().length,
    memoryGb: Math.round(totalmem() / 1e9),
    kernel: release(),
    node: process.version,
    mosquitto: await mosquittoVersion(),
    yggdrasil: await ownVersion(),
    syncMs: syncTime(directory),
  };
}

async function mosquittoVersion(): Promise<string> {
  const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/usr/local/sbin` };
  // It prints its usage and ends with 3.
  const text = await run('mosquitto', ['-h'], { env }).catch((error: unknown) => {
    return error instanceof Error && 'stdout' in error ? { stdout: String(error.stdout) } : { stdout: '' };
  });
  return /mosquitto version (\S+)/.exec(text.stdout)?.[1] ?? 'unknown';
}

async function ownVersion(): Promise<string> {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  const git = await run('git', ['describe', '--always', '--dirty'], { cwd: ROOT }).catch(() => undefined);
  return git === undefined ? version : `${version} (${git.stdout.trim()})`;
}

function syncTime(directory: string): number {
  const file = openSync(join(directory, 'sync'), 'w');
  const block = Buffer.alloc(4_096, 1);
  const times = Array.from({ length: 50 }, (_, index) => {
    writeSync(file, block, 0, block.length, index * block.length);
    const began = performance.now();
    fdatasyncSync(file);
    return performance.now() - began;
  });
  closeSync(file);
  return median(times);
}

/** How fast the processor is now, and how much others want of it. */
export interface Weather {
  /** Milliseconds of processor time that a fixed piece of work took: more of it and every cost below is too high. */
  readonly workMs: number;
  /** Processes that wanted to run, over the last minute. */
  readonly load: number;
}

/** Looks at the weather; takes some hundredths of a second. */
export function observeWeather(): Weather {
  const before = process.cpuUsage();
  let sum = 0;
  for (let index = 0; index < 2e7; index++) sum = (sum + index) | 0;
  const { user, system } = process.cpuUsage(before);
  // The sum is used, lest the loop be left out.
  return { workMs: (user + system) / 1e3 + (sum === 1 ? 1 : 0), load: loadavg()[0] ?? 0 };
}
