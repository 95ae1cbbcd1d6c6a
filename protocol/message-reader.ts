/**
 * Reads what stands in nearly all frames of a stream without a reader, a view and a call for each of its parts. What is
 * not as it mostly is, also what is broken, is left to the generated decoder: then `isOdd`, and what was read is worthless.
 */
import type { Data } from './generated/yggdrasil.js';

/** Up to here a loop is quicker than a view of the bytes. */
const SHORT = 128;

/** Memory that a content may keep, as a multiple of its length (as with a PUBLISH, connection/publish-reader.ts). */
const MOST_KEPT = 16;

const NO_BYTES = Buffer.alloc(0);

export class MessageReader {
  #bytes: Buffer = NO_BYTES;
  #at = 0;
  #isOdd = false;
  /** Of the last message: that of the next is mostly the same. */
  #directive = '';

  /** Something is not as it mostly is. */
  get isOdd(): boolean {
    return this.#isOdd;
  }

  /** Reads these from now on. */
  begin(bytes: Buffer): void {
    this.#bytes = bytes;
    this.#at = 0;
    this.#isOdd = false;
  }

  /** The bytes may be let go. */
  done(): void {
    this.#bytes = NO_BYTES;
  }

  /** The tag of the next field, of one byte; 0 when there is none, or something is odd. */
  field(end: number): number {
    if (this.#at >= end || this.#isOdd) return 0;
    const field = this.#bytes[this.#at++] ?? 0;
    if (field === 0) this.#isOdd = true;
    return field;
  }

  odd(): void {
    this.#isOdd = true;
  }

  /** The end of what has its length before it. */
  end(limit: number): number {
    const size = this.number(limit);
    const end = this.#at + size;
    if (end <= limit) return end;
    this.#isOdd = true;
    return limit;
  }

  /** At most 28 bits; larger ones are odd. */
  number(limit: number): number {
    let number = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      if (this.#at >= limit) break;
      const byte = this.#bytes[this.#at++] ?? 0;
      number |= (byte & 0x7f) << shift;
      if (byte < 0x80) return number;
    }
    this.#isOdd = true;
    return 0;
  }

  /** Adds a list of numbers to those that were read. */
  numbers(list: number[], limit: number): void {
    const end = this.end(limit);
    while (this.#at < end && !this.#isOdd) list.push(this.number(end));
  }

  data(limit: number): Data {
    const end = this.end(limit);
    const data: Data = { messageId: '', metadata: {}, content: NO_BYTES, responseTo: '', directive: '' };
    for (let field = this.field(end); field !== 0; field = this.field(end)) {
      if (field === 10) data.messageId = this.#text(end, '');
      else if (field === 26) data.content = this.#content(end);
      else if (field === 34) data.responseTo = this.#text(end, '');
      else if (field === 42) this.#directive = data.directive = this.#text(end, this.#directive);
      else if (field === 18) this.#entry(data.metadata, this.end(end));
      else this.#isOdd = true;
    }
    return data;
  }

  #entry(metadata: Record<string, string>, end: number): void {
    let name = '';
    let value = '';
    for (let field = this.field(end); field !== 0; field = this.field(end)) {
      if (field === 10) name = this.#text(end, '');
      else if (field === 18) value = this.#text(end, '');
      else this.#isOdd = true;
    }
    // It would set the prototype.
    if (name === '__proto__') this.#isOdd = true;
    else metadata[name] = value;
  }

  /** A text; that of `guess`, if it is the same. */
  #text(limit: number, guess: string): string {
    const end = this.end(limit);
    if (this.#isOdd) return '';
    const start = this.#at;
    this.#at = end;
    return this.#isAt(start, end, guess) ? guess : this.#bytes.toString('utf8', start, end);
  }

  #isAt(start: number, end: number, text: string): boolean {
    if (text.length !== end - start) return false;
    for (let at = start; at < end; at++) {
      const unit = text.charCodeAt(at - start);
      if (unit !== this.#bytes[at] || unit > 0x7f) return false;
    }
    return true;
  }

  /** A copy, unless it is a good part of what it came in: what lives on must not keep all of a frame. */
  #content(limit: number): Buffer {
    const end = this.end(limit);
    const start = this.#at;
    if (this.#isOdd || end === start) return NO_BYTES;
    this.#at = end;
    if (end - start > SHORT) {
      const part = this.#bytes.subarray(start, end);
      return this.#bytes.buffer.byteLength <= part.length * MOST_KEPT ? part : Buffer.from(part);
    }
    const content = Buffer.allocUnsafe(end - start);
    for (let at = start; at < end; at++) content[at - start] = this.#bytes[at] ?? 0;
    return content;
  }
}
