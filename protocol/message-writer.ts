/**
 * Writes what stands in nearly all frames of a stream into one buffer, without an object for each part: byte for byte
 * what the generated encoder would make of it.
 */
import type { Data } from './generated/yggdrasil.js';

/** Tags, lengths and numbers of a field beside its texts and content, at most. */
export const OVERHEAD = 64;

/** Bytes of a varint of 32 bits. */
export const LONGEST_NUMBER = 5;

/** Up to here a loop is quicker than a call into the runtime. */
const SHORT_TEXT = 64;

/** What of a message goes on the wire. A record has it, too. */
export type DataFields = Pick<Data, 'messageId' | 'responseTo' | 'directive'> & {
  readonly metadata: Readonly<Record<string, string>>;
};

/** An upper bound of the bytes that a message takes in a frame. */
export function boundOfData({ messageId, responseTo, directive, metadata }: DataFields, content: Uint8Array): number {
  // UTF-8 takes at most three bytes for a unit of UTF-16.
  let text = messageId.length + responseTo.length + directive.length;
  let bytes = OVERHEAD + content.length;
  for (const name in metadata) {
    text += name.length + (metadata[name]?.length ?? 0);
    bytes += OVERHEAD;
  }
  return bytes + 3 * text;
}

/** The bytes that a message takes when it has no metadata and nothing but ASCII. */
export function usualSize({ messageId, responseTo, directive }: DataFields, content: Uint8Array): number {
  return content.length + messageId.length + responseTo.length + directive.length + 2 * LONGEST_NUMBER;
}

/** Bytes of a number as a varint. */
export function widthOf(number: number): number {
  if (number < 0x80) return 1;
  if (number < 0x4000) return 2;
  if (number < 0x20_0000) return 3;
  return number < 0x1000_0000 ? 4 : LONGEST_NUMBER;
}

export class MessageWriter {
  #at: number;

  /** The buffer must have room for all that is written, from `start` on. */
  constructor(
    private readonly buffer: Buffer,
    start = 0,
  ) {
    this.#at = start;
  }

  /** All up to here, with what stands before `start`. */
  get written(): Buffer {
    return this.#at === this.buffer.length ? this.buffer : this.buffer.subarray(0, this.#at);
  }

  /** A list of numbers. */
  numbers(tag: number, list: readonly number[]): void {
    if (list.length === 0) return;
    let size = 0;
    for (const number of list) size += widthOf(number);
    // Two of these tags have two bytes.
    this.#varint(tag);
    this.#varint(size);
    for (const number of list) this.#varint(number);
  }

  /** A number; none for zero. */
  number(tag: number, number: number): void {
    if (number === 0) return;
    this.buffer[this.#at++] = tag;
    this.#varint(number);
  }

  data({ messageId, metadata, responseTo, directive }: DataFields, content: Uint8Array): void {
    this.#text(10, messageId);
    this.#metadata(metadata);
    const { length } = content;
    if (length > 0) {
      this.number(26, length);
      this.buffer.set(content, this.#at);
      this.#at += length;
    }
    this.#text(34, responseTo);
    this.#text(42, directive);
  }

  /** Leaves room for the length of what follows, which will probably have `guess` bytes; gives where that begins. */
  begin(tag: number, guess: number): number {
    this.buffer[this.#at++] = tag;
    this.#at += widthOf(guess);
    return this.#at;
  }

  /** Ends what began there, with the same guess: what was written is moved when that was wrong. */
  end(start: number, guess: number): void {
    const end = this.#at;
    const size = end - start;
    const width = widthOf(guess);
    const needed = widthOf(size);
    if (needed !== width) this.buffer.copyWithin(start - width + needed, start, end);
    this.#at = start - width;
    this.#varint(size);
    this.#at = end - width + needed;
  }

  #metadata(metadata: DataFields['metadata']): void {
    for (const name in metadata) {
      const value = metadata[name] ?? '';
      const guess = name.length + value.length + 4;
      const start = this.begin(18, guess);
      this.#text(10, name);
      this.#text(18, value);
      this.end(start, guess);
    }
  }

  #text(tag: number, text: string): void {
    const { length } = text;
    if (length === 0) return;
    const { buffer } = this;
    const at = this.#at;
    buffer[at] = tag;
    if (length > SHORT_TEXT) {
      this.#longText(at + 1, text);
      return;
    }
    buffer[at + 1] = length;
    for (let index = 0; index < length; index++) {
      const unit = text.charCodeAt(index);
      if (unit > 0x7f) {
        this.#longText(at + 1, text);
        return;
      }
      buffer[at + 2 + index] = unit;
    }
    this.#at = at + 2 + length;
  }

  #longText(at: number, text: string): void {
    const size = Buffer.byteLength(text);
    this.#at = at;
    this.#varint(size);
    this.buffer.write(text, this.#at);
    this.#at += size;
  }

  #varint(number: number): void {
    let rest = number >>> 0;
    while (rest > 0x7f) {
      this.buffer[this.#at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.buffer[this.#at++] = rest;
  }
}
