/** One run of the built daemon from its start to its end by itself: its exit code and all it said. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { ROOT, type Home } from './yggd.js';

export interface Run {
  readonly code: number | null;
  readonly stdout: string;
  /** The lines of standard error. */
  readonly told: readonly string[];
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly uid?: number;
  /** Default: the flags of the home come before the arguments. */
  readonly isBare?: boolean;
}

/** A daemon that should have ended by itself is killed after this long, and its code is then null. */
const PATIENCE_MS = 30_000;

/** Runs `yggd` with these arguments in the home until it ends. */
export async function runYggd(home: Home, args: readonly string[], options: RunOptions = {}): Promise<Run> {
  const { env = {}, uid, isBare = false } = options;
  const all = isBare ? args : [...home.flags, ...args];
  const child = spawn(process.env['YGG_TEST_NODE'] ?? process.execPath, [join(ROOT, 'dist/yggd.js'), ...all], {
    stdio: ['ignore', 'pipe', 'pipe'],
    // Another user cannot write where the coverage of this one is kept; Node hands the variable on unless it is set.
    env: { PATH: process.env['PATH'], ...(uid === undefined ? {} : { NODE_V8_COVERAGE: '' }), ...env },
    timeout: PATIENCE_MS,
    killSignal: 'SIGKILL',
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  return { code: child.exitCode, stdout, told: stderr.split('\n').filter((line) => line !== '') };
}
