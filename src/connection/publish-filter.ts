/**
 * Reads MQTT fixed headers in the byte stream from the broker and cuts each PUBLISH that is too large down to its first
 * bytes, so that what stands behind it (the mqtt package) never holds the whole. A cut PUBLISH is still a valid one,
 * with its topic, packet id and properties, in its place among the others: order of arrival and acknowledgement need
 * no special case. It is handed on only when its last byte has arrived. Everything else passes as the very same bytes,
 * not copied. Chunk boundaries may fall anywhere. What is malformed passes too: refusing it is the parser's job.
 */

/** How much of the payload of a PUBLISH that is too large is kept. */
export const KEPT_PAYLOAD = 64 * 1024;
/** Properties larger than this are left out of a cut PUBLISH. */
const KEPT_PROPERTIES = 64 * 1024;
const LONGEST_FIXED_HEADER = 5;
const PUBLISH = 3;

export interface PublishFilterOptions {
  /** Largest payload, in bytes, that passes whole. */
  readonly maxMessageSize: number;
  /** Whether a PUBLISH has properties. */
  readonly hasProperties: boolean;
  /** Takes the bytes that go on, in order. */
  readonly output: (bytes: Buffer) => void;
}

/** A PUBLISH that was cut: the how-many-eth of all PUBLISH packets (from 0), and how large it was. */
interface CutMark {
  readonly ordinal: number;
  readonly size: number;
}

export class PublishFilter {
  readonly #options: PublishFilterOptions;
  /** The fixed header that is being read; the bytes are held back while it is not complete. */
  readonly #header = Buffer.alloc(LONGEST_FIXED_HEADER);
  #headerLength = 0;
  /** How many bytes of `#header` came in an earlier chunk and were held back. */
  #held = 0;
  /** Bytes of the present packet that still pass. */
  #passing = 0;
  #cut: CutPublish | undefined;
  /** A fixed header was malformed: there are no packet boundaries any more, all passes. */
  #isLost = false;
  #publishes = 0;
  readonly #marks: CutMark[] = [];

  constructor(options: PublishFilterOptions) {
    this.#options = options;
  }

  /** Takes the next bytes from the broker. */
  push(chunk: Buffer): void {
    let position = 0;
    /** First byte of this chunk that was not handed on yet. */
    let start = 0;
    while (position < chunk.length) {
      if (this.#isLost) {
        position = chunk.length;
      } else if (this.#passing > 0) {
        const step = Math.min(this.#passing, chunk.length - position);
        this.#passing -= step;
        position += step;
      } else if (this.#cut !== undefined) {
        position += this.#cut.take(chunk, position);
        start = position;
        this.#settleCut();
      } else {
        const headerStart = position - (this.#headerLength - this.#held);
        position = this.#readHeader(chunk, position);
        const verdict = this.#verdict();
        if (verdict === 'incomplete') {
          // Hold the header back: it is not yet known whether it passes.
          this.#emit(chunk, start, headerStart);
          this.#held = this.#headerLength;
          return;
        }
        if (verdict === 'cut') {
          this.#emit(chunk, start, headerStart);
          start = position;
        } else if (this.#held > 0) {
          this.#options.output(Buffer.from(this.#header.subarray(0, this.#held)));
        }
        this.#headerLength = 0;
        this.#held = 0;
      }
    }
    this.#emit(chunk, start, chunk.length);
  }

  /**
   * The size the PUBLISH with this ordinal had before it was cut; undefined for one that was not. Ask in order; what was not
   * asked for (one with QoS 2 is announced later, under another's ordinal) is forgotten.
   */
  sizeBeforeCut(ordinal: number): number | undefined {
    while ((this.#marks[0]?.ordinal ?? ordinal) < ordinal) this.#marks.shift();
    if (this.#marks[0]?.ordinal !== ordinal) return undefined;
    return this.#marks.shift()?.size;
  }

  #emit(chunk: Buffer, from: number, to: number): void {
    if (to <= from) return;
    this.#options.output(from === 0 && to === chunk.length ? chunk : chunk.subarray(from, to));
  }

  /** Reads header bytes up to its end or the chunk's; returns the position behind them. */
  #readHeader(chunk: Buffer, from: number): number {
    let position = from;
    while (position < chunk.length) {
      const byte = chunk.readUInt8(position++);
      this.#header[this.#headerLength++] = byte;
      const isLast = this.#headerLength > 1 && (byte & 0x80) === 0;
      if (isLast || this.#headerLength === LONGEST_FIXED_HEADER) break;
    }
    return position;
  }

  #verdict(): 'incomplete' | 'pass' | 'cut' {
    const last = this.#header[this.#headerLength - 1] ?? 0;
    if (this.#headerLength < 2 || (last & 0x80) !== 0) {
      if (this.#headerLength < LONGEST_FIXED_HEADER) return 'incomplete';
      this.#isLost = true;
      return 'pass';
    }
    const remaining = readVarint(this.#header, 1, this.#headerLength);
    const first = this.#header.readUInt8(0);
    if (first >> 4 !== PUBLISH) {
      this.#passing = remaining;
      return 'pass';
    }
    const ordinal = this.#publishes++;
    if (remaining <= this.#options.maxMessageSize) {
      this.#passing = remaining;
      return 'pass';
    }
    this.#cut = new CutPublish(first, remaining, ordinal, this.#options);
    return 'cut';
  }

  /** Hands on what the cut PUBLISH has become, when that is known. */
  #settleCut(): void {
    const cut = this.#cut;
    const result = cut?.result;
    if (cut === undefined || result === undefined) return;
    this.#cut = undefined;
    if (result.cutFrom !== undefined) this.#marks.push({ ordinal: cut.ordinal, size: result.cutFrom });
    this.#passing = result.stillPassing;
    for (const piece of result.pieces) this.#options.output(piece);
  }
}

interface CutResult {
  readonly pieces: readonly Buffer[];
  /** The size before the cut; undefined when the payload proved to be within the limit. */
  readonly cutFrom: number | undefined;
  /** Bytes of the packet that are still to come and pass untouched. */
  readonly stillPassing: number;
}

/**
 * One PUBLISH whose remaining length is above the limit. Its payload may still be within it (the topic and properties
 * count in the remaining length, not in the payload): then it passes whole.
 */
class CutPublish {
  result: CutResult | undefined;
  /** Topic, packet id and the length of the properties: everything up to `#headEnd`. */
  readonly #head = new Collector();
  readonly #properties = new Collector();
  readonly #payload = new Collector();
  /** Bytes of the packet not taken yet. */
  #left: number;
  #stage: 'head' | 'properties' | 'payload' = 'head';
  #propertiesLength = 0;
  #stageLeft = 0;
  #keepsProperties = true;

  constructor(
    readonly firstByte: number,
    readonly remaining: number,
    readonly ordinal: number,
    readonly options: PublishFilterOptions,
  ) {
    this.#left = remaining;
  }

  /** Takes bytes of `chunk` from `from` on; returns how many. */
  take(chunk: Buffer, from: number): number {
    let position = from;
    while (position < chunk.length && this.#left > 0 && this.result === undefined) {
      if (this.#stage === 'head') {
        // A byte at a time: the head is short, and each byte may be its last.
        this.#head.add(chunk.subarray(position, position + 1));
        position += 1;
        this.#left -= 1;
        if (this.#isHeadComplete()) this.#afterHead();
        continue;
      }
      const step = Math.min(chunk.length - position, this.#left, this.#stageLeft);
      const bytes = chunk.subarray(position, position + step);
      if (this.#stage === 'properties') {
        if (this.#keepsProperties) this.#properties.add(bytes);
      } else {
        const room = KEPT_PAYLOAD - this.#payload.length;
        if (room > 0) this.#payload.add(bytes.subarray(0, room));
      }
      position += step;
      this.#left -= step;
      this.#stageLeft -= step;
      if (this.#stageLeft === 0 && this.#stage === 'properties') this.#toPayload();
    }
    if (this.#left === 0) this.result ??= this.#cutResult();
    return position - from;
  }

  get #qos(): number {
    return (this.firstByte >> 1) & 3;
  }

  /** Where the length of the properties (or the payload) begins. */
  get #fixedHeadLength(): number {
    const topicLength = this.#head.length < 2 ? 0 : this.#head.number(0) * 256 + this.#head.number(1);
    return 2 + topicLength + (this.#qos > 0 ? 2 : 0);
  }

  #isHeadComplete(): boolean {
    const fixed = this.#fixedHeadLength;
    if (this.#head.length < fixed || this.#head.length < 2) return false;
    if (!this.options.hasProperties) return true;
    const varintLength = this.#head.length - fixed;
    return varintLength > 0 && ((this.#head.number(this.#head.length - 1) & 0x80) === 0 || varintLength === 4);
  }

  #afterHead(): void {
    const head = this.#head.bytes();
    this.#propertiesLength = this.options.hasProperties ? readVarint(head, this.#fixedHeadLength, head.length) : 0;
    const payloadLength = this.#left - this.#propertiesLength;
    this.#keepsProperties = this.#propertiesLength <= KEPT_PROPERTIES;
    if (payloadLength <= this.options.maxMessageSize && this.#keepsProperties) {
      // Within the limit after all (or malformed, which the parser says better): let it pass.
      const fixedHeader = fixedHeaderOf(this.firstByte, this.remaining);
      this.result = { pieces: [fixedHeader, head], cutFrom: undefined, stillPassing: this.#left };
    } else if (this.#propertiesLength > 0) {
      this.#stage = 'properties';
      this.#stageLeft = this.#propertiesLength;
    } else this.#toPayload();
  }

  #toPayload(): void {
    this.#stage = 'payload';
    this.#stageLeft = this.#left;
  }

  #cutResult(): CutResult {
    const head = this.#head.bytes();
    const properties = this.#properties.bytes();
    const payload = this.#payload.bytes();
    const parts = this.#keepsProperties
      ? [head, properties, payload]
      : [head.subarray(0, this.#fixedHeadLength), Buffer.of(0), payload];
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    const payloadLength = this.remaining - head.length - this.#propertiesLength;
    return {
      pieces: [Buffer.concat([fixedHeaderOf(this.firstByte, length), ...parts])],
      cutFrom: payloadLength > this.options.maxMessageSize ? payloadLength : this.remaining,
      stillPassing: 0,
    };
  }
}

/** Bytes that arrive in pieces. They are copied, since a chunk's memory is much larger than what is kept of it. */
class Collector {
  #bytes = Buffer.alloc(256);
  length = 0;

  add(piece: Buffer): void {
    const needed = this.length + piece.length;
    if (needed > this.#bytes.length) {
      const larger = Buffer.alloc(Math.max(needed, this.#bytes.length * 2));
      this.#bytes.copy(larger, 0, 0, this.length);
      this.#bytes = larger;
    }
    piece.copy(this.#bytes, this.length);
    this.length = needed;
  }

  number(index: number): number {
    return this.#bytes.readUInt8(index);
  }

  bytes(): Buffer {
    return this.#bytes.subarray(0, this.length);
  }
}

/** A variable byte integer [MQTT5-1.5.5]. */
function readVarint(bytes: Buffer, from: number, to: number): number {
  let value = 0;
  for (let i = from; i < to; i++) value += (bytes.readUInt8(i) & 0x7f) * 128 ** (i - from);
  return value;
}

function fixedHeaderOf(firstByte: number, remaining: number): Buffer {
  const bytes = [firstByte];
  let rest = remaining;
  do {
    const digit = rest % 128;
    rest = Math.floor(rest / 128);
    bytes.push(rest > 0 ? digit | 0x80 : digit);
  } while (rest > 0);
  return Buffer.from(bytes);
}
