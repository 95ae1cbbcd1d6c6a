/**
 * Spawns one worker: a session and process group of its own, cwd /, nothing on stdin, and says in words why it could
 * not. What runs is what was examined: the file is looked at once more in the turns before and after the spawn.
 */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { statSync, type BigIntStats } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { errnoOf, errorText } from '../errors.js';
import { sleep, type Clock, type Millis } from '../time.js';

export type WorkerChild = ChildProcessByStdio<null, Readable, Readable>;

export interface LaunchRequest {
  readonly path: string;
  /** Of the file that was found fit to run. */
  readonly identity: string;
  readonly args: readonly string[];
  readonly environment: Record<string, string>;
  readonly uid: number | undefined;
  readonly gid: number | undefined;
  /** Runs the spawn itself; see mark.ts. */
  readonly stamp?: (<T>(spawn: () => T) => T) | undefined;
}

export type Launched =
  | { readonly kind: 'spawned'; readonly child: WorkerChild; readonly pid: number }
  | { readonly kind: 'failed'; readonly reason: string }
  | { readonly kind: 'cancelled' };

type FirstLine =
  | { readonly kind: 'ok'; readonly interpreter: string | undefined }
  | { readonly kind: 'failed'; readonly reason: string };

/** ETXTBSY: somebody still has the file open for writing, which ends soon. */
const BUSY_DELAY: Millis = 100;
const BUSY_TRIES = 50;

/** When it differs, it is another executable, or its owner or mode has changed. */
export function identityOf({ dev, ino, size, mtimeNs, mode, uid, gid }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, mode, uid, gid].join(':');
}

/** Spawns, unless `scope` has ended. The child's events have not been emitted yet when this resolves. */
export async function launch(request: LaunchRequest, clock: Clock, scope: AbortSignal): Promise<Launched> {
  const head = await firstLine(request.path);
  if (head.kind === 'failed') return head;
  const { stamp = justRun } = request;
  for (let tries = 1; ; tries++) {
    if (scope.aborted) return { kind: 'cancelled' };
    if (!isUnchanged(request)) return changed(request);
    try {
      const child = stamp(() =>
        spawn(request.path, request.args, {
          detached: true,
          cwd: '/',
          env: request.environment,
          stdio: ['ignore', 'pipe', 'pipe'],
          ...(request.uid === undefined ? {} : { uid: request.uid }),
          ...(request.gid === undefined ? {} : { gid: request.gid }),
        }),
      );
      if (child.pid !== undefined) {
        if (isUnchanged(request)) return { kind: 'spawned', child, pid: child.pid };
        endGroup(child.pid);
        return changed(request);
      }
      const error = await new Promise<Error>((resolve) => child.once('error', resolve));
      return failed(request, head.interpreter, error);
    } catch (error) {
      if (errnoOf(error) !== 'ETXTBSY' || tries === BUSY_TRIES) return failed(request, head.interpreter, error);
    }
    await sleep(clock, BUSY_DELAY, scope).catch(() => undefined); // The loop looks at the scope.
  }
}

/** In this turn, so that nothing of ours comes between it and the spawn. */
function isUnchanged({ path, identity }: LaunchRequest): boolean {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat !== undefined && identityOf(stat) === identity;
}

/** Ends what was started, whatever it was, with what it may have started. */
function endGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

function changed({ path }: LaunchRequest): Launched {
  return { kind: 'failed', reason: `${path} was changed while it was being started` };
}

/**
 * A file that is neither a program nor a script with `#!` is refused: execvp(3) would have the shell run it, and half a
 * program is no script.
 */
async function firstLine(path: string): Promise<FirstLine> {
  try {
    await using file = await openFile(path);
    const { bytesRead, buffer } = await file.handle.read(Buffer.alloc(256), 0, 256, 0);
    const head = buffer.toString('latin1', 0, bytesRead);
    if (head.startsWith('#!')) return { kind: 'ok', interpreter: /^#!\s*(\S+)/.exec(head)?.[1] };
    if (head.startsWith('\x7fELF')) return { kind: 'ok', interpreter: undefined };
    const reason = `${path} is neither a program nor a script whose first line names its interpreter (#!/bin/sh)`;
    return { kind: 'failed', reason };
  } catch (error) {
    // Executable but not readable is fine for the kernel, so it is for us.
    if (errnoOf(error) === 'EACCES') return { kind: 'ok', interpreter: undefined };
    return { kind: 'failed', reason: `cannot read ${path}: ${errorText(error)}` };
  }
}

function justRun<T>(spawn: () => T): T {
  return spawn();
}

async function openFile(path: string): Promise<{ handle: Awaited<ReturnType<typeof open>> } & AsyncDisposable> {
  const handle = await open(path, 'r');
  return { handle, [Symbol.asyncDispose]: () => handle.close() };
}

function failed({ path, uid }: LaunchRequest, interpreter: string | undefined, error: unknown): Launched {
  const who = uid === undefined ? "the agent's user" : `user ${uid}`;
  const why = ((): string => {
    switch (errnoOf(error)) {
      case 'ENOENT':
        return interpreter === undefined
          ? 'the file, or the loader it was built for, does not exist'
          : `its interpreter ${interpreter} (first line) does not exist; install it or mend the line`;
      case 'EACCES':
        return `${who} may not execute it${interpreter === undefined ? '' : ` or its interpreter ${interpreter}`}; check the modes of the file and of the directories above it`;
      case 'ENOEXEC':
        return 'it is not a program for this machine';
      case 'ETXTBSY':
        return 'somebody still writes to it';
      case 'EPERM':
        return `the agent may not start processes as ${who}`;
      default:
        return errorText(error);
    }
  })();
  return { kind: 'failed', reason: `cannot start ${path}: ${why}` };
}
