/** A program on a terminal, with somebody who looks at it and types. */
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { Signal } from '../../src/signal/index.js';
import { commandLine, ENVIRONMENT, PATIENCE_MS } from './ygg.js';
import type { Home } from './yggd.js';

/** `ygg` on a pseudo-terminal of 100 columns and 30 rows, with somebody at its keys. */
export class Terminal implements AsyncDisposable {
  #text = '';
  readonly #wrote = new Signal<void>('wrote');
  readonly ended: Promise<number | null>;

  private constructor(private readonly child: ChildProcessWithoutNullStreams) {
    child.stdout.on('data', (chunk: Buffer) => {
      this.#text += chunk.toString();
      this.#wrote.emit();
    });
    this.ended = new Promise((resolve) => child.once('close', resolve));
  }

  static open(home: Home, words: readonly string[], env: NodeJS.ProcessEnv = {}): Terminal {
    const line = `stty cols 100 rows 30; exec ${commandLine(home, words)}`;
    const child = spawn('script', ['--quiet', '--return', '--flush', '--command', line, '/dev/null'], {
      stdio: 'pipe',
      timeout: PATIENCE_MS,
      env: { ...ENVIRONMENT, TERM: 'xterm-256color', ...env },
    });
    return new Terminal(child);
  }

  /** All that was written so far. */
  get text(): string {
    return this.#text;
  }

  /** Resolves when what was written contains this, or matches it. */
  async shows(pattern: RegExp | string): Promise<void> {
    const isThere = (): boolean =>
      typeof pattern === 'string' ? this.#text.includes(pattern) : pattern.test(this.#text);
    while (!isThere()) {
      try {
        await this.#wrote.next(AbortSignal.timeout(PATIENCE_MS));
      } catch (cause) {
        throw new Error(`the terminal does not show ${String(pattern)}:\n${this.#text}`, { cause });
      }
    }
  }

  /** Forgets what was written, so that the next `shows` waits for something new. */
  forget(): void {
    this.#text = '';
  }

  type(keys: string): void {
    this.child.stdin.write(keys);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended;
  }
}
