/** A worker as a child process, started the way the agent does: an exact environment, ended with SIGTERM. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';

export interface WorkerProcess extends AsyncDisposable {
  readonly child: ChildProcess;
  /** What it wrote to standard error so far. */
  stderr(): string;
  /** SIGTERM; resolves with how it ended. */
  stop(): Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** As `stop`, by a SIGTERM that the kernel hands to a thread other than the main one, as it may with any. */
  stopByOtherThread(): Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
}

export function startWorkerProcess(
  file: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): WorkerProcess {
  const child = spawn(file, [...args], {
    env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin', ...env },
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  let text = '';
  child.stderr.on('data', (chunk: Buffer) => (text += chunk.toString()));
  const ended = once(child, 'exit');
  const end = async (): Promise<{ code: number | null; signal: NodeJS.Signals | null }> => {
    await ended;
    return { code: child.exitCode, signal: child.signalCode };
  };
  return {
    child,
    stderr: () => text,
    stop: () => {
      child.kill('SIGTERM');
      return end();
    },
    stopByOtherThread: () => {
      terminateOtherThread(child.pid ?? 0);
      return end();
    },
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

/** SIGTERM to the newest thread of a process. Node has no tgkill(2). */
function terminateOtherThread(pid: number): void {
  const newest = Math.max(...readdirSync(`/proc/${pid}/task`).map(Number));
  const call = `import ctypes; raise SystemExit(ctypes.CDLL(None).tgkill(${pid}, ${newest}, 15))`;
  execFileSync('/usr/bin/python3', ['-c', call]);
}
