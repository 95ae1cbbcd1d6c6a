/** Runs a program of the system for what it prints: for a bounded time, for bounded output, in no language but its own. */
import { execFile } from 'node:child_process';
import { errnoOf } from '../../errors.js';

export type Ran =
  | { readonly kind: 'ran'; readonly stdout: string; readonly stderr: string; readonly code: number }
  /** There is no such program. */
  | { readonly kind: 'missing' }
  /** It was stopped: it took too long, or said too much. */
  | { readonly kind: 'stopped' };

const TIMEOUT_MS = 5_000;
const MAX_OUTPUT = 16 * 1024 * 1024;

export function run(program: string, words: readonly string[], scope: AbortSignal): Promise<Ran> {
  return new Promise((resolve) => {
    const options = {
      ...{ timeout: TIMEOUT_MS, maxBuffer: MAX_OUTPUT, killSignal: 'SIGKILL' as const, signal: scope },
      env: { ...process.env, LC_ALL: 'C', SYSTEMD_PAGER: '', SYSTEMD_COLORS: '0' },
    };
    execFile(program, [...words], options, (error, stdout, stderr) => {
      if (error === null) resolve({ kind: 'ran', stdout, stderr, code: 0 });
      else if (['ENOENT', 'EACCES'].includes(errnoOf(error) ?? '')) resolve({ kind: 'missing' });
      else if (typeof error.code === 'number') resolve({ kind: 'ran', stdout, stderr, code: error.code });
      else resolve({ kind: 'stopped' });
    });
  });
}
