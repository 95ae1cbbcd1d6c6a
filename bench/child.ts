/** A program of the benchmark as a child process: ready when it says so, and gone when its scope ends. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

export interface Child extends AsyncDisposable {
  readonly pid: number;
}

/** Starts a bundled program with Node and waits for its line `ready`. */
export async function startChild(program: string, args: readonly string[], scope: AbortSignal): Promise<Child> {
  const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  const lines = createInterface({ input: child.stdout });
  const first = await Promise.race([once(lines, 'line', { signal: scope }), ended]);
  const end = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await ended;
  };
  if (child.pid === undefined || first[0] !== 'ready') {
    await end();
    throw new Error(`${program} did not start`);
  }
  return { pid: child.pid, [Symbol.asyncDispose]: end };
}
