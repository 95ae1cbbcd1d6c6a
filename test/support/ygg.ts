/** The command line `ygg` as it ships, asking the agent of a test. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { ROOT, type Home } from './yggd.js';

export interface YggRun {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly bytes: Buffer;
}

/** One that never ends fails its test, and no more than that. */
export const PATIENCE_MS = 60_000;

export const PROGRAM = join(ROOT, 'dist/ygg.js');

/** Nothing of the tester's own, but that what is run is counted as covered. */
export const ENVIRONMENT: NodeJS.ProcessEnv = {
  PATH: process.env['PATH'],
  HOME: '/nonexistent',
  NODE_V8_COVERAGE: process.env['NODE_V8_COVERAGE'],
};

/** Runs `ygg` with these words, its output in a pipe; about the agent of `home` where one is given. */
export async function ygg(
  home: Home | undefined,
  words: readonly string[],
  uid?: number,
  env?: Readonly<Record<string, string>>,
): Promise<YggRun> {
  return run(process.execPath, home === undefined ? [PROGRAM, ...words] : yggWords(home, words), uid, env);
}

/** What follows Node's own name on the command line. */
export function yggWords(home: Home, words: readonly string[]): readonly string[] {
  return [PROGRAM, ...words, `--runtime-dir=${home.path('run')}`];
}

/** What `ygg` prints with `--json`. Throws what it wrote to standard error when it fails. */
export async function yggJson(home: Home, words: readonly string[]): Promise<unknown> {
  const { code, stdout, stderr } = await ygg(home, [...words, '--json']);
  if (code !== 0) throw new Error(`ygg ${words.join(' ')}: exit ${code}: ${stderr}`);
  return JSON.parse(stdout) as unknown;
}

/** As `ygg`, its output read by a command of the shell. */
export async function yggInto(reader: string, home: Home, words: readonly string[]): Promise<YggRun> {
  return run('sh', ['-c', `${commandLine(home, words)} | ${reader}`]);
}

/** As `ygg`, with a pseudo-terminal as its output (script(1)). */
export async function yggOnTerminal(
  home: Home,
  words: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<YggRun> {
  return run('script', ['--quiet', '--return', '--command', commandLine(home, words), '/dev/null'], undefined, env);
}

/** For a shell. */
export function commandLine(home: Home, words: readonly string[]): string {
  const line = [process.execPath, ...yggWords(home, words)];
  return line.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
}

async function run(
  program: string,
  words: readonly string[],
  uid?: number,
  env: Readonly<Record<string, string>> = {},
): Promise<YggRun> {
  const child = spawn(program, words, {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: PATIENCE_MS,
    // Another user may not write where coverage is gathered.
    env: { ...ENVIRONMENT, ...(uid === undefined ? {} : { NODE_V8_COVERAGE: '' }), ...env },
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', resolve);
  });
  const [code, bytes, stderr] = await Promise.all([ended, buffer(child.stdout), text(child.stderr)]);
  return { code, stdout: bytes.toString(), stderr, bytes };
}
