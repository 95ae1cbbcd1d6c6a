/** How far long work has come, on one line of a terminal's standard error; nothing where there is no terminal. */
import type { Output } from './output.js';

/** A person reads no faster. */
const EVERY_MS = 200;
const CLEAR_LINE = '\r\u001b[K';

export class Progress {
  #shownAt = 0;
  #isShown = false;
  readonly #isWanted: boolean;

  /** On a terminal that also gets the output it would stand in the midst of it. */
  constructor(output: Output) {
    this.#isWanted = process.stderr.isTTY && !output.isTerminal;
  }

  show(text: string): void {
    const now = performance.now();
    if (!this.#isWanted || now - this.#shownAt < EVERY_MS) return;
    this.#shownAt = now;
    this.#isShown = true;
    process.stderr.write(`${CLEAR_LINE}${text}`);
  }

  /** Takes the line away. */
  clear(): void {
    if (this.#isShown) process.stderr.write(CLEAR_LINE);
    this.#isShown = false;
  }
}
