/**
 * Reads a WorkerFrame of completions without a reader, a view and a call for each of its parts. It reads what stands in
 * nearly all frames, and leaves anything else, also what is broken, to the generated decoder: what it gives is what that
 * one would give.
 */
import { WorkerFrame, type Completion, type Result } from '../../../protocol/generated/stream.js';
import type { Data } from '../../../protocol/generated/yggdrasil.js';
import { withItem } from '../../signal/short-list.js';

/** Up to here a loop is quicker than a view of the bytes. */
const SHORT = 128;

const NO_BYTES = Buffer.alloc(0);

/** The frame in these bytes. Throws where they are none. */
export function frameFrom(bytes: Buffer): WorkerFrame {
  const completions = new FrameReader(bytes).completions();
  if (completions === undefined) return WorkerFrame.decode(bytes);
  return { hello: undefined, completions, refusals: [], results: [], pongs: [] };
}

class FrameReader {
  #at = 0;
  /** Something is not as it mostly is. */
  #isOdd = false;

  constructor(private readonly bytes: Buffer) {}

  /** Undefined when there is anything else. */
  completions(): Completion[] | undefined {
    const { length } = this.bytes;
    let completions: Completion[] | undefined;
    while (this.#at < length) {
      if (this.bytes[this.#at++] !== 18) return undefined;
      const completion = this.#completion(this.#end(length));
      if (this.#isOdd) return undefined;
      completions = withItem(completions, completion);
    }
    return completions ?? [];
  }

  #completion(end: number): Completion {
    let tag = 0;
    let results: Result[] | undefined;
    while (this.#at < end && !this.#isOdd) {
      const field = this.bytes[this.#at++];
      if (field === 8) tag = this.#number(end);
      else if (field === 18) results = withItem(results, this.#result(this.#end(end)));
      else this.#isOdd = true;
    }
    return { tag, results: results ?? [] };
  }

  #result(end: number): Result {
    const result: Result = { number: 0, data: undefined, body: undefined };
    while (this.#at < end && !this.#isOdd) {
      const field = this.bytes[this.#at++];
      if (field === 8) result.number = this.#number(end);
      else if (field === 18) result.data = this.#data(this.#end(end));
      else this.#isOdd = true;
    }
    return result;
  }

  #data(end: number): Data {
    const data: Data = { messageId: '', metadata: {}, content: NO_BYTES, responseTo: '', directive: '' };
    while (this.#at < end && !this.#isOdd) {
      switch (this.bytes[this.#at++]) {
        case 10:
          data.messageId = this.#text(end);
          break;
        case 18:
          this.#entry(data.metadata, this.#end(end));
          break;
        case 26:
          data.content = this.#content(end);
          break;
        case 34:
          data.responseTo = this.#text(end);
          break;
        case 42:
          data.directive = this.#text(end);
          break;
        default:
          this.#isOdd = true;
      }
    }
    return data;
  }

  #entry(metadata: Record<string, string>, end: number): void {
    let name = '';
    let value = '';
    while (this.#at < end && !this.#isOdd) {
      const field = this.bytes[this.#at++];
      if (field === 10) name = this.#text(end);
      else if (field === 18) value = this.#text(end);
      else this.#isOdd = true;
    }
    // It would set the prototype.
    if (name === '__proto__') this.#isOdd = true;
    else metadata[name] = value;
  }

  #text(limit: number): string {
    const end = this.#end(limit);
    if (this.#isOdd) return '';
    const text = this.bytes.toString('utf8', this.#at, end);
    this.#at = end;
    return text;
  }

  /** A copy: what lives on must not keep the whole frame. */
  #content(limit: number): Buffer {
    const end = this.#end(limit);
    const start = this.#at;
    if (this.#isOdd || end === start) return NO_BYTES;
    this.#at = end;
    if (end - start > SHORT) return Buffer.from(this.bytes.subarray(start, end));
    const content = Buffer.allocUnsafe(end - start);
    for (let at = start; at < end; at++) content[at - start] = this.bytes[at] ?? 0;
    return content;
  }

  /** The end of what has its length before it. */
  #end(limit: number): number {
    const size = this.#number(limit);
    const end = this.#at + size;
    if (end <= limit) return end;
    this.#isOdd = true;
    return limit;
  }

  /** At most 28 bits; larger ones are odd. */
  #number(limit: number): number {
    let number = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      if (this.#at >= limit) break;
      const byte = this.bytes[this.#at++] ?? 0;
      number |= (byte & 0x7f) << shift;
      if (byte < 0x80) return number;
    }
    this.#isOdd = true;
    return 0;
  }
}
