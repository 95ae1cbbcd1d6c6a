/**
 * Makes the bytes of an AgentFrame in one buffer and without an object for each part. What the generated encoder would
 * make is made, byte for byte: what stands in nearly all frames here, the rest by that one.
 */
import { AgentFrame, type Delivery } from '../../../protocol/generated/stream.js';
import type { Data } from '../../../protocol/generated/yggdrasil.js';
import { PREFIX, writePrefix } from '../../grpc/index.js';
import type { Metadata } from '../../message/envelope.js';

/** Tags, lengths and numbers of a field beside its texts and content, at most. */
export const OVERHEAD = 64;

/** A varint of 32 bits. */
const LONGEST_NUMBER = 5;

/** Up to here a loop is quicker than a call into the runtime. */
const SHORT_TEXT = 64;

/** The bytes of a frame. */
export function bytesOf(frame: AgentFrame): Buffer {
  const { welcome, deliveries, settled, accepted, resultRefusals, cancels, events, pings } = frame;
  if (welcome !== undefined || resultRefusals.length + events.length > 0 || deliveries.some(isUnusual)) {
    const bytes = AgentFrame.encode(frame).finish();
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
  let bound = (settled.length + accepted.length + cancels.length + pings.length) * LONGEST_NUMBER + OVERHEAD;
  for (const delivery of deliveries) bound += boundOfDelivery(delivery);
  const writer = new FrameWriter(Buffer.allocUnsafe(bound));
  for (const delivery of deliveries) writer.delivery(delivery);
  writer.numbers(26, settled);
  writer.numbers(34, accepted);
  writer.numbers(50, cancels);
  writer.numbers(66, pings);
  return writer.written;
}

/** The bytes of a message as a unary call carries it: in the frame of gRPC. */
export function unaryFrameOf(data: Data): Buffer {
  const writer = new FrameWriter(Buffer.allocUnsafe(PREFIX + boundOf(data)), PREFIX);
  writer.data(data);
  const frame = writer.written;
  writePrefix(frame, frame.length - PREFIX);
  return frame;
}

/** An upper bound of the bytes that a delivery takes in a frame. */
export function boundOfDelivery({ data }: Delivery): number {
  return data === undefined ? OVERHEAD : boundOf(data);
}

function boundOf(data: Data): number {
  // UTF-8 takes at most three bytes for a unit of UTF-16.
  let text = data.messageId.length + data.responseTo.length + data.directive.length;
  let bytes = OVERHEAD + data.content.length;
  for (const name in data.metadata) {
    text += name.length + (data.metadata[name]?.length ?? 0);
    bytes += OVERHEAD;
  }
  return bytes + 3 * text;
}

function isUnusual({ data, body }: Delivery): boolean {
  return data === undefined || body !== undefined;
}

function widthOf(number: number): number {
  if (number < 0x80) return 1;
  if (number < 0x4000) return 2;
  if (number < 0x20_0000) return 3;
  return number < 0x1000_0000 ? 4 : LONGEST_NUMBER;
}

class FrameWriter {
  #at: number;

  /** The buffer must have room for all that is written, from `start` on. */
  constructor(
    private readonly buffer: Buffer,
    start = 0,
  ) {
    this.#at = start;
  }

  get written(): Buffer {
    return this.buffer.subarray(0, this.#at);
  }

  delivery({ tag, priority, data }: Delivery): void {
    if (data === undefined) return;
    // Right unless a text has more than ASCII; then what was written is moved.
    const guess =
      data.content.length + data.messageId.length + data.responseTo.length + data.directive.length + 2 * LONGEST_NUMBER;
    const start = this.#begin(18, widthOf(guess));
    if (tag !== 0) this.#number(8, tag);
    if (priority !== 0) this.#number(16, priority);
    const inner = this.#begin(26, widthOf(guess));
    this.data(data);
    this.#end(inner, widthOf(guess));
    this.#end(start, widthOf(guess));
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

  data({ messageId, metadata, content, responseTo, directive }: Data): void {
    this.#text(10, messageId);
    this.#metadata(metadata);
    if (content.length > 0) {
      this.#number(26, content.length);
      this.buffer.set(content, this.#at);
      this.#at += content.length;
    }
    this.#text(34, responseTo);
    this.#text(42, directive);
  }

  #metadata(metadata: Metadata): void {
    for (const name in metadata) {
      const value = metadata[name] ?? '';
      const guess = widthOf(name.length + value.length + 4);
      const start = this.#begin(18, guess);
      this.#text(10, name);
      this.#text(18, value);
      this.#end(start, guess);
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

  #number(tag: number, number: number): void {
    this.buffer[this.#at++] = tag;
    this.#varint(number);
  }

  #varint(number: number): void {
    let rest = number >>> 0;
    while (rest > 0x7f) {
      this.buffer[this.#at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.buffer[this.#at++] = rest;
  }

  /** Leaves so many bytes for the length of what follows; gives where that begins. */
  #begin(tag: number, width: number): number {
    this.buffer[this.#at++] = tag;
    this.#at += width;
    return this.#at;
  }

  #end(start: number, width: number): void {
    const end = this.#at;
    const size = end - start;
    const needed = widthOf(size);
    if (needed !== width) this.buffer.copyWithin(start - width + needed, start, end);
    this.#at = start - width;
    this.#varint(size);
    this.#at = end - width + needed;
  }
}
