/**
 * Bytes written one behind the other into blocks that many short values share, so that a value takes no room but its own: no
 * text that is put together and then copied, no block for each. A block lives as long as a value in it; those of the
 * journal leave memory within seconds.
 */

const BLOCK = 32 * 1024;
/** What is longer stands in a block of its own: the rest of a shared one would be lost. */
const LONGEST_SHARED = 4096;

export class ByteBlocks {
  #block: Buffer = NO_BLOCK;
  /** Where the value begins that is being written, and where it goes on. */
  #start = 0;
  #at = 0;

  /** `size`: of a block. */
  constructor(private readonly size = BLOCK) {}

  /** Begins a value with `room` bytes that are written later; what was begun and not ended is forgotten. */
  begin(room: number): void {
    this.#at = this.#start;
    this.#reserve(room);
    this.#at += room;
  }

  /** How many bytes the value has until now. */
  get length(): number {
    return this.#at - this.#start;
  }

  /** Text of ASCII, as it stands. By hand: for short ones a call of Node's takes longer. */
  ascii(text: string): void {
    const { length } = text;
    this.#reserve(length);
    const block = this.#block;
    const start = this.#at;
    for (let n = 0; n < length; n++) block[start + n] = text.charCodeAt(n);
    this.#at = start + length;
  }

  /** Bytes, few of them. As `ascii`, but each letter of a text has to be looked for, and a byte has not. */
  bytes(bytes: Buffer): void {
    this.#reserve(bytes.length);
    this.#at = this.#copy(bytes);
  }

  /** Any text, as JSON has it between its quotes. */
  quoted(text: string): void {
    this.#reserve(text.length);
    const at = this.#at;
    if (this.#plain(at, text)) this.#at = at + text.length;
    else this.utf8(JSON.stringify(text).slice(1, -1));
  }

  /** `before`, which ends with a quote, any text as JSON has it, and the quote behind it. */
  text(before: Buffer, text: string): void {
    const { length } = text;
    this.#reserve(before.length + length + 1);
    const at = this.#copy(before);
    if (this.#plain(at, text)) {
      this.#block[at + length] = QUOTE;
      this.#at = at + length + 1;
    } else {
      this.#at = at;
      this.utf8(JSON.stringify(text).slice(1));
    }
  }

  /** Any text, as it stands. */
  utf8(text: string): void {
    this.#reserve(3 * text.length);
    this.#at += this.#block.write(text, this.#at);
  }

  /** A number as JSON has it, which knows no infinity. */
  number(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0) {
      this.ascii(Number.isFinite(value) ? String(value) : 'null');
      return;
    }
    // Two parts that a processor divides quickly.
    const high = Math.floor(value / SPLIT);
    if (high > 0) this.#digits(high, digitsOf(high));
    const low = value - high * SPLIT;
    this.#digits(low, high > 0 ? SPLIT_DIGITS : digitsOf(low));
  }

  /** The value, with `rest` at its end. */
  end(rest: Buffer | undefined): Buffer {
    const length = this.length + (rest?.length ?? 0);
    if (length > LONGEST_SHARED) return this.#alone(length, rest);
    if (rest !== undefined) {
      this.#reserve(rest.length);
      this.#block.set(rest, this.#at);
    }
    const start = this.#start;
    this.#start = this.#at = start + length;
    return this.#block.subarray(start, this.#start);
  }

  #alone(length: number, rest: Buffer | undefined): Buffer {
    const value = Buffer.allocUnsafeSlow(length);
    this.#block.copy(value, 0, this.#start, this.#at);
    if (rest !== undefined) value.set(rest, this.length);
    this.#at = this.#start;
    return value;
  }

  /** Where the next stands. */
  #copy(bytes: Buffer): number {
    const { length } = bytes;
    const block = this.#block;
    const start = this.#at;
    for (let n = 0; n < length; n++) block[start + n] = bytes[n] ?? 0;
    return start + length;
  }

  /** False when JSON writes the text otherwise; then nothing is written yet. */
  #plain(start: number, text: string): boolean {
    const { length } = text;
    const block = this.#block;
    for (let n = 0; n < length; n++) {
      const code = text.charCodeAt(n);
      if (code < 0x20 || code > 0x7e || code === QUOTE || code === BACKSLASH) return false;
      block[start + n] = code;
    }
    return true;
  }

  #digits(value: number, count: number): void {
    this.#reserve(count);
    const block = this.#block;
    const start = this.#at;
    // A whole number of 31 bits and known as one: so it is divided without a division.
    let left = value | 0;
    for (let at = start + count - 1; at >= start; at--) {
      const rest = (left / 10) | 0;
      block[at] = 48 + left - rest * 10;
      left = rest;
    }
    this.#at = start + count;
  }

  /** Sees to it that so many bytes more have room. */
  #reserve(count: number): void {
    if (this.#at + count <= this.#block.length) return;
    const written = this.length;
    const block = Buffer.allocUnsafeSlow(Math.max(this.size, 2 * (written + count)));
    this.#block.copy(block, 0, this.#start, this.#at);
    this.#block = block;
    this.#start = 0;
    this.#at = written;
  }
}

const NO_BLOCK = Buffer.alloc(0);
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const SPLIT_DIGITS = 7;
const SPLIT = 10 ** SPLIT_DIGITS;

function digitsOf(value: number): number {
  let count = 1;
  for (let least = 10; value >= least; least *= 10) count += 1;
  return count;
}
