/**
 * What a worker writes becomes lines of the log, whatever it writes: lines are cut at 8 KiB, a flood is counted instead
 * of logged, bytes that are not UTF-8 show as U+FFFD, control characters cannot paint the operator's terminal. Memory
 * is bounded by one line; the worker is never held up by its own output.
 */
import type { Clock } from '../time.js';

/** Longest line in bytes; the rest up to the line's end is left out. */
export const MAX_LINE = 8 * 1024;

/** Lines that may come at once, and how many a second in the long run. */
const BURST = 1000;
const LINES_PER_SECOND = 100;

const NEWLINE = 0x0a;
// Tab stays; C0, DEL and C1 become visible replacement characters.
// eslint-disable-next-line no-control-regex -- finding control characters is what the pattern is for
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;

/** Cuts a stream of bytes into lines of text. */
export class LineSplitter {
  #held: Buffer = Buffer.alloc(0);
  #isCut = false;

  /** `raw` is the same line with its control characters, for whoever spells them out. */
  constructor(private readonly onLine: (line: string, raw: string) => void) {}

  write(chunk: Buffer): void {
    let from = 0;
    for (let at = chunk.indexOf(NEWLINE); at !== -1; at = chunk.indexOf(NEWLINE, from)) {
      this.#take(chunk.subarray(from, at));
      this.#flush();
      from = at + 1;
    }
    this.#take(chunk.subarray(from));
  }

  /** The stream has ended: a last line without a newline counts too. */
  end(): void {
    if (this.#held.length > 0) this.#flush();
  }

  #take(bytes: Buffer): void {
    const room = MAX_LINE - this.#held.length;
    if (bytes.length > room) this.#isCut = true;
    // `concat` copies, so that a small rest does not keep a large chunk alive.
    if (bytes.length > 0 && room > 0) this.#held = Buffer.concat([this.#held, bytes.subarray(0, room)]);
  }

  #flush(): void {
    const text = this.#held.toString('utf8').replace(/\r$/, '');
    const raw = this.#isCut ? `${text} … [cut]` : text;
    this.#held = Buffer.alloc(0);
    this.#isCut = false;
    if (raw !== '') this.onLine(raw.replace(CONTROL, '\ufffd'), raw);
  }
}

/** Lets a burst and then a steady rate of lines through; says how many it held back. */
export class LineLimiter {
  #tokens = BURST;
  #refilledAt: number;
  #dropped = 0;

  constructor(private readonly clock: Clock) {
    this.#refilledAt = clock.monotonic();
  }

  /** Whether one more line may be logged now; a refused one is counted. */
  admit(): boolean {
    const now = this.clock.monotonic();
    this.#tokens = Math.min(BURST, this.#tokens + ((now - this.#refilledAt) / 1000) * LINES_PER_SECOND);
    this.#refilledAt = now;
    if (this.#tokens < 1) {
      this.#dropped += 1;
      return false;
    }
    this.#tokens -= 1;
    return true;
  }

  /** Lines refused since it was last asked. */
  takeDropped(): number {
    const dropped = this.#dropped;
    this.#dropped = 0;
    return dropped;
  }
}
