/** A `ygg` that goes on: its lines as they come, on a pipe or a terminal, and Ctrl-C. */
import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { Signal } from '../../src/signal/index.js';
import { commandLine, ENVIRONMENT, yggWords } from './ygg.js';
import type { Home } from './yggd.js';

const PATIENCE_MS = 60_000;

export class FollowingYgg implements AsyncDisposable {
  readonly lines: string[] = [];
  /** On standard error. */
  readonly complaints: string[] = [];
  readonly #said = new Signal<string>('said');
  readonly #complained = new Signal<string>('complained');
  readonly #ended: Promise<number | string | null>;

  private constructor(
    private readonly child: ChildProcess,
    private readonly isTerminal: boolean,
  ) {
    const read = (stream: NodeJS.ReadableStream | null, lines: string[], said: Signal<string>): void => {
      if (stream === null) return;
      createInterface({ input: stream }).on('line', (line) => {
        lines.push(line);
        said.emit(line);
      });
    };
    read(child.stdout, this.lines, this.#said);
    read(child.stderr, this.complaints, this.#complained);
    this.#ended = new Promise((resolve) => child.once('close', (code, signal) => resolve(code ?? signal)));
  }

  /** Its output in a pipe. */
  static start(home: Home, words: readonly string[]): FollowingYgg {
    const child = spawn(process.execPath, yggWords(home, words), { stdio: 'pipe', env: ENVIRONMENT });
    return new FollowingYgg(child, false);
  }

  /** Its output on a pseudo-terminal (script(1)). */
  static onTerminal(home: Home, words: readonly string[]): FollowingYgg {
    const flags = ['--quiet', '--return', '--command', commandLine(home, words), '/dev/null'];
    return new FollowingYgg(spawn('script', flags, { stdio: 'pipe', env: ENVIRONMENT }), true);
  }

  /** The first line, past or to come, that matches. */
  line(pattern: RegExp): Promise<string> {
    return this.#first(this.lines, this.#said, pattern);
  }

  /** The same of standard error. */
  complaint(pattern: RegExp): Promise<string> {
    return this.#first(this.complaints, this.#complained, pattern);
  }

  /** Reads nothing more until `resume`. */
  pause(): void {
    this.child.stdout?.pause();
  }

  resume(): void {
    this.child.stdout?.resume();
  }

  /** Ctrl-C, and waits for the end: its exit code, or the signal that ended it. */
  interrupt(): Promise<number | string | null> {
    if (this.isTerminal) this.child.stdin?.write('\u0003');
    else this.child.kill('SIGINT');
    return this.#ended;
  }

  /** Waits for its end. */
  ended(): Promise<number | string | null> {
    return this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill('SIGKILL');
    await this.#ended;
  }

  async #first(lines: readonly string[], said: Signal<string>, pattern: RegExp): Promise<string> {
    const past = lines.find((line) => pattern.test(line));
    if (past !== undefined) return past;
    const scope = new AbortController();
    const timer = setTimeout(() => scope.abort(new Error('nothing like it came')), PATIENCE_MS);
    void this.#ended.then(() => scope.abort(new Error('it has ended')));
    try {
      return await said.next(scope.signal, (line) => pattern.test(line));
    } catch (cause) {
      const heard = [...this.lines, ...this.complaints].slice(-40).join('\n');
      throw new Error(`ygg said nothing like ${String(pattern)}:\n${heard}`, { cause });
    } finally {
      clearTimeout(timer);
    }
  }
}
