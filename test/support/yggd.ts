/** The built daemon as a process of its own, in directories of its own, with its log read line by line. */
import { spawn, type ChildProcess } from 'node:child_process';
import { chmod, copyFile, mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Signal } from '../../src/signal/index.js';
import { tempDir, type TempDir } from './temp.js';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export interface LogEntry {
  readonly event?: string;
  readonly text?: string;
  readonly [field: string]: unknown;
}

const PATIENCE_MS = 30_000;

/** The directories of one agent; they outlive its process, so that it can be started again. */
export class Home implements AsyncDisposable {
  private constructor(private readonly dir: TempDir) {}

  static async make(): Promise<Home> {
    const home = new Home(await tempDir());
    for (const name of ['config', 'config/workers', 'workers', 'draft'])
      await mkdir(home.path(name), { recursive: true });
    return home;
  }

  path(...names: string[]): string {
    return join(this.dir.path, ...names);
  }

  /** Puts a shipped worker into the worker directory in one step, under another name where one is given. */
  async addWorker(
    shipped: 'echo-worker' | 'command-worker' | 'python-echo-worker' | 'python-stream-echo-worker',
    as: string = shipped,
  ): Promise<void> {
    await copyFile(join(ROOT, 'dist/workers', shipped), this.path('draft', as));
    await chmod(this.path('draft', as), 0o755);
    await rename(this.path('draft', as), this.path('workers', as));
  }

  /** A program of the test's own that is no worker; its path. */
  async addDraft(name: string, text: string): Promise<string> {
    await writeFile(this.path('draft', name), text, { mode: 0o755 });
    return this.path('draft', name);
  }

  /** Puts a program of the test's own there in one step. */
  async addProgram(name: string, text: string): Promise<void> {
    await writeFile(this.path('draft', name), text, { mode: 0o755 });
    await rename(this.path('draft', name), this.path('workers', name));
  }

  /** Makes a program a worker: `ygg worker run` with these flags, `--` and the program with its arguments. */
  async addRun(name: string, flags: readonly string[], program: readonly string[]): Promise<void> {
    const words = [process.execPath, join(ROOT, 'dist/ygg.js'), 'worker', 'run', ...flags, '--', ...program];
    await this.addProgram(name, `#!/bin/sh\nexec ${words.map(quoted).join(' ')}\n`);
  }

  /** A worker of a few lines of JavaScript, which find the SDK's `serve` and `jsonReply`. */
  async addSdkWorker(name: string, lines: string): Promise<void> {
    const sdk = JSON.stringify(join(ROOT, 'dist/worker.js'));
    await writeFile(this.path('draft', `${name}.mjs`), `import { jsonReply, serve } from ${sdk};\n${lines}\n`);
    await this.addProgram(
      name,
      `#!/bin/sh\nexec ${quoted(process.execPath)} ${quoted(this.path('draft', `${name}.mjs`))}\n`,
    );
  }

  async writeWorkerFile(name: string, toml: string): Promise<void> {
    await writeFile(this.path('config/workers', `${name}.toml`), toml);
  }

  get flags(): readonly string[] {
    return [
      `--config-dir=${this.path('config')}`,
      `--state-dir=${this.path('state')}`,
      `--runtime-dir=${this.path('run')}`,
      `--worker-dir=${this.path('workers')}`,
      '--log-format=json',
    ];
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve(this.dir[Symbol.asyncDispose]());
  }
}

/** One word for the shell. */
function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

export interface YggdOptions {
  readonly home: Home;
  /** After the flags of the home. */
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** The Node to run it with; default: YGG_TEST_NODE, else this one. */
  readonly node?: string;
  /** An installed `yggd` to run instead of the one in dist, by its own first line. */
  readonly program?: string;
  /** Dies at this crash point (`label` or `label:pass`, src/crash-point.ts); runs the build that has them. */
  readonly crashPoint?: string;
  /** The user (and group) it runs as; needs root. */
  readonly uid?: number;
}

export class Yggd implements AsyncDisposable {
  readonly log: LogEntry[] = [];
  /** Lines that are no JSON. */
  readonly other: string[] = [];
  readonly #logged = new Signal<LogEntry>('logged');
  /** Resolves when the process has ended and all that it wrote was read. */
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** Resolves when the process has ended. */
  readonly gone: Promise<void>;

  private constructor(readonly child: ChildProcess) {
    for (const stream of [child.stdout, child.stderr]) {
      if (stream === null) continue;
      createInterface({ input: stream }).on('line', (line) => this.#read(line));
    }
    this.gone = new Promise((resolve) => child.once('exit', () => resolve()));
    this.ended = new Promise((resolve) => child.once('close', (code, signal) => resolve({ code, signal })));
  }

  /** Starts the process and waits for nothing. */
  static spawn({
    home,
    args,
    env = {},
    uid,
    program,
    crashPoint,
    node = process.env['YGG_TEST_NODE'] ?? process.execPath,
  }: YggdOptions): Yggd {
    const flags = [...home.flags, ...args];
    const build = join(ROOT, crashPoint === undefined ? 'dist/yggd.js' : 'build/fault/yggd.js');
    const words = program === undefined ? [build, ...flags] : flags;
    const child = spawn(program ?? node, words, {
      stdio: ['ignore', 'pipe', 'pipe'],
      // Another user cannot write where the coverage of this one is kept; Node hands the variable on unless it is set.
      env: {
        PATH: process.env['PATH'],
        ...(uid === undefined ? {} : { NODE_V8_COVERAGE: '' }),
        ...(crashPoint === undefined ? {} : { YGG_CRASH_POINT: crashPoint }),
        ...env,
      },
      ...(uid === undefined ? {} : { uid, gid: uid }),
    });
    return new Yggd(child);
  }

  /** Starts it and waits until it is ready. */
  static async start(options: YggdOptions): Promise<Yggd> {
    const yggd = Yggd.spawn(options);
    await yggd.line('agent.ready');
    return yggd;
  }

  get pid(): number {
    // No number stands for "none": kill(2) takes -1 for every process there is, and 0 for the test's own group.
    if (this.child.pid === undefined) throw new Error('yggd was not started');
    return this.child.pid;
  }

  /** The first log line, past or to come, of this event (for which `accept` holds). */
  async line(event: string, accept: (entry: LogEntry) => boolean = () => true): Promise<LogEntry> {
    const isIt = (entry: LogEntry): boolean => entry.event === event && accept(entry);
    const past = this.log.find(isIt);
    if (past !== undefined) return past;
    try {
      return await this.next(event, accept);
    } catch (cause) {
      const lines = [...this.log.map((entry) => JSON.stringify(entry)), ...this.other];
      throw new Error(`yggd logged no ${event}:\n${lines.slice(-60).join('\n')}`, { cause });
    }
  }

  /** All log lines of this event, once there are so many of them: the pipe may be behind what the agent has answered. */
  async lines(event: string, count: number): Promise<LogEntry[]> {
    const of = (): LogEntry[] => this.log.filter((entry) => entry.event === event);
    while (of().length < count) await this.next(event);
    return of();
  }

  /** The first log line of this event from now on (for which `accept` holds). */
  async next(event: string, accept: (entry: LogEntry) => boolean = () => true): Promise<LogEntry> {
    // Not AbortSignal.any of a timeout: Node 20 may collect that before it fires.
    const scope = new AbortController();
    const timer = setTimeout(() => scope.abort(new Error(`no ${event} within ${PATIENCE_MS} ms`)), PATIENCE_MS);
    void this.ended.then(() => scope.abort(new Error('the process has ended')));
    try {
      return await this.#logged.next(scope.signal, (entry) => entry.event === event && accept(entry));
    } finally {
      clearTimeout(timer);
    }
  }

  /** Forgets what was logged, so that the next `line` waits for something new. */
  forget(): void {
    this.log.length = 0;
  }

  /** SIGTERM, and waits for the end; its exit code. */
  async stop(): Promise<number | null> {
    this.child.kill('SIGTERM');
    return (await this.ended).code;
  }

  /** kill -9, and waits for the end. Its workers stay behind, as after any such death. */
  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) await this.stop();
  }

  #read(line: string): void {
    if (!line.startsWith('{')) {
      this.other.push(line);
      return;
    }
    const entry = JSON.parse(line) as LogEntry;
    this.log.push(entry);
    this.#logged.emit(entry);
  }
}
