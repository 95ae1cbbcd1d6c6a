/**
 * Runs one program for a worker: no shell, its own process group, input and output bounded. When it ends, when its
 * time is over or when the worker stops, nothing of its group is left. Standard output and error are kept up to a
 * limit; what comes after is read and dropped, so that the program does not hang on a full pipe.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { type Clock, type Millis, systemClock } from '../time.js';

export interface ProgramOptions {
  readonly file: string;
  readonly args: readonly string[];
  /** The whole environment; nothing is inherited. */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly input?: Uint8Array;
  /** How long it may run; undefined: as long as it likes. */
  readonly timeout?: Millis;
  /** Bytes kept of standard output, and as many of standard error. */
  readonly outputLimit: number;
  /** End the program as soon as its standard output passes the limit; default: go on, and drop the rest. */
  readonly isLimitFatal?: boolean;
  /** Ends the program: SIGTERM, then SIGKILL. */
  readonly signal?: AbortSignal;
  readonly clock?: Clock;
}

/** How a program ended. Exactly one of `exitCode` and `signal` is null. */
export interface ProgramResult {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  /** Standard output was longer than the limit. */
  readonly isStdoutTruncated: boolean;
  readonly isStderrTruncated: boolean;
  readonly isTimedOut: boolean;
  readonly duration: Millis;
}

/** Between SIGTERM and SIGKILL. */
const GRACE: Millis = 2_000;
/** A process that left the group may hold our pipes open; this long after the end we stop listening to it. */
const LAST_OUTPUT: Millis = 500;

/** Rejects with the error of `spawn` (ENOENT, EACCES, …) where the program cannot be started. */
export async function runProgram(options: ProgramOptions): Promise<ProgramResult> {
  const clock = options.clock ?? systemClock;
  const started = clock.monotonic();
  const done = new AbortController();
  const child = spawn(options.file, [...options.args], {
    cwd: options.cwd,
    env: { ...options.env },
    stdio: 'pipe',
    detached: true, // A group of its own, which one signal reaches as a whole.
  });
  // A signal that comes with its own listener: the exit may come before the awaits below are reached.
  const exited = exitOf(child);
  let isTimedOut = false;
  const end = (): void => {
    signalGroup(child, 'SIGTERM');
    clock.after(GRACE, () => signalGroup(child, 'SIGKILL'), done.signal);
  };
  const stdout = collect(child.stdout, options.outputLimit, options.isLimitFatal === true ? end : undefined);
  const stderr = collect(child.stderr, options.outputLimit);
  child.stdin.on('error', () => undefined); // A program need not read its input: EPIPE is no failure.
  child.stdin.end(options.input ?? new Uint8Array());
  if (options.timeout !== undefined) {
    const expire = (): void => {
      isTimedOut = true;
      end();
    };
    clock.after(options.timeout, expire, done.signal);
  }
  if (options.signal?.aborted === true) end();
  else options.signal?.addEventListener('abort', end, { once: true });
  try {
    const { exitCode, signal } = await exited;
    signalGroup(child, 'SIGKILL'); // What the program left behind in its group.
    clock.after(LAST_OUTPUT, () => destroyPipes(child), done.signal);
    await Promise.all([stdout.ended, stderr.ended]);
    return {
      exitCode,
      signal,
      stdout: Buffer.concat(stdout.chunks),
      stderr: Buffer.concat(stderr.chunks),
      isStdoutTruncated: stdout.isTruncated(),
      isStderrTruncated: stderr.isTruncated(),
      isTimedOut,
      duration: Math.round(clock.monotonic() - started),
    };
  } finally {
    options.signal?.removeEventListener('abort', end);
    done.abort();
  }
}

function exitOf(child: ChildProcess): Promise<{ exitCode: number | null; signal: NodeJS.Signals | null }> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (exitCode, signal) => resolve({ exitCode, signal }));
  });
}

/** The pid of a group's leader is not given to another process while the group has a member. */
function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // ESRCH: the group is empty, which is what was wanted.
  }
}

function destroyPipes(child: ChildProcess): void {
  child.stdout?.destroy();
  child.stderr?.destroy();
}

interface Collected {
  readonly chunks: readonly Buffer[];
  readonly ended: Promise<void>;
  isTruncated(): boolean;
}

function collect(stream: Readable, limit: number, onOverflow?: () => void): Collected {
  const chunks: Buffer[] = [];
  let room = limit;
  let isTruncated = false;
  stream.on('data', (chunk: Buffer) => {
    const kept = chunk.subarray(0, room);
    if (kept.length > 0) chunks.push(kept);
    room -= kept.length;
    if (kept.length === chunk.length || isTruncated) return;
    isTruncated = true;
    onOverflow?.();
  });
  stream.on('error', () => undefined); // 'close' follows, and what came before it is kept.
  const ended = new Promise<void>((resolve) => stream.once('close', () => resolve()));
  return { chunks, ended, isTruncated: () => isTruncated };
}
