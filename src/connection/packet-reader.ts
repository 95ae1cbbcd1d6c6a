/**
 * Reads what nearly all packets of a connection are, PUBLISH with QoS 0 or 1 and the PUBACKs of our own publications, out
 * of the bytes as they came, and hands everything else on to the mqtt package: packets of another kind, what it must
 * know of (aliases of topics), and all that is malformed or merely unusual, so that refusing it stays one parser's job.
 * The order of arrival holds: nothing is read here while the package has not read all that it was handed. Chunk
 * boundaries may fall anywhere; a packet that is cut by one is gathered in one buffer of its size until the rest of it has
 * come: no chunk has to live so long, and a payload of 1 MiB is a view of it, not a copy out of many.
 */
import type { ReadMemory } from './read-memory.js';
import { lengthAt, MORE_TO_COME, PublishReader, type ReadPublish, sizeOfLength } from './publish-reader.js';

const PUBLISH = 0x30;
const PUBACK = 0x40;
const KIND = 0xf0;
/** QoS 2 and the one that there is not. */
const HIGHER_QOS = 0x04;
/** The reason of a PUBACK, beside 0, that says nothing bad: no one has subscribed [MQTT5-3.4.2.1]. */
const NO_SUBSCRIBERS = 0x10;
/** A PUBACK with more than this behind it is none of ours: a reason in words is all it can have. */
const LARGEST_PUBACK = 64 * 1024;
const NOTHING = Buffer.alloc(0);

export interface PacketReaderOptions {
  /** Whether packets have properties: MQTT 5. */
  readonly hasProperties: boolean;
  /** What chunks may stand in that are good only while they are read. */
  readonly memory?: ReadMemory | undefined;
  /** A PUBLISH with a remaining length above this is handed on. */
  readonly maxMessageSize: number;
  readonly onPublish: (publish: ReadPublish) => void;
  /** False when nobody waits for this packet id: the PUBACK is then handed on. */
  readonly onPuback: (id: number, reasonCode: number) => boolean;
  /** Takes what the mqtt package is to read, in order. */
  readonly pass: (bytes: Buffer) => void;
}

export class PacketReader {
  readonly #options: PacketReaderOptions;
  readonly #publishes: PublishReader;
  #isOpen = false;
  /** A fixed header was malformed: there are no packet boundaries any more, all is handed on. */
  #isLost = false;
  /** Packets that were handed on, all or in part, and how many of them the package has read. */
  #handedOn = 0;
  #readElsewhere = 0;
  /** Bytes of the packet that was handed on last which are still to come. */
  #passing = 0;
  /** A packet of which `#heldLength` bytes have come; or the beginning of a fixed header, all of which has. */
  #held: Buffer = NOTHING;
  #heldLength = 0;

  constructor(options: PacketReaderOptions) {
    this.#options = options;
    this.#publishes = new PublishReader(options.hasProperties, options.memory);
  }

  /** The broker has accepted the connection: before that there is nothing to read here. */
  open(): void {
    this.#isOpen = true;
  }

  /** The mqtt package has read one more packet. */
  readElsewhere(): void {
    this.#readElsewhere += 1;
  }

  /** Takes the next bytes from the broker. */
  push(chunk: Buffer): void {
    if (this.#isLost) this.#pass(chunk, 0, chunk.length);
    else if (this.#held.length > 0) this.#pushHeld(chunk);
    else this.#pushFrom(chunk, 0);
  }

  /** Completes what is held. */
  #pushHeld(chunk: Buffer): void {
    const held = this.#held;
    if (this.#heldLength === held.length) {
      this.#release();
      this.#pushFrom(Buffer.concat([held, chunk]), 0);
      return;
    }
    const taken = chunk.copy(held, this.#heldLength);
    this.#heldLength += taken;
    if (this.#heldLength < held.length) return;
    this.#release();
    this.#pushFrom(held, 0);
    this.#pushFrom(chunk, taken);
  }

  #release(): void {
    this.#held = NOTHING;
    this.#heldLength = 0;
  }

  #pushFrom(chunk: Buffer, start: number): void {
    let at = start;
    if (this.#passing > 0) {
      at = Math.min(chunk.length, start + this.#passing);
      this.#passing -= at - start;
      this.#pass(chunk, start, at);
    }
    /** What stands before `at` from here on is to be handed on: so many packets. */
    let from = at;
    let packets = 0;
    while (at < chunk.length) {
      const remaining = lengthAt(chunk, at + 1, chunk.length);
      if (remaining < 0) {
        if (remaining === MORE_TO_COME) this.#hold(chunk, at, chunk.length - at);
        else this.#isLost = true;
        this.#pass(chunk, from, this.#isLost ? chunk.length : at);
        return;
      }
      const body = at + 1 + sizeOfLength(chunk, at + 1);
      const end = body + remaining;
      if (this.#isOpen && this.#isOurs(chunk, at, remaining)) {
        if (end > chunk.length) {
          this.#pass(chunk, from, at);
          this.#hold(chunk, at, end - at);
          return;
        }
        // The package reads in this very call, as a rule, what it is handed.
        if (from < at && this.#handedOn - this.#readElsewhere === packets) {
          this.#pass(chunk, from, at);
          from = at;
          packets = 0;
        }
        if (from === at && end <= chunk.length && this.#isUpToDate && this.#read(chunk, at, body, end)) {
          from = at = end;
          continue;
        }
      }
      this.#handedOn += 1;
      packets += 1;
      at = Math.min(end, chunk.length);
      this.#passing = end - at;
    }
    this.#pass(chunk, from, at);
  }

  get #isUpToDate(): boolean {
    return this.#handedOn === this.#readElsewhere;
  }

  /** Whether this packet may be read here. */
  #isOurs(chunk: Buffer, at: number, remaining: number): boolean {
    const first = chunk[at] as number;
    if (first === PUBACK) return remaining <= LARGEST_PUBACK;
    return (first & KIND) === PUBLISH && (first & HIGHER_QOS) === 0 && remaining <= this.#options.maxMessageSize;
  }

  /** False when there is something about it that the mqtt package has to see. */
  #read(chunk: Buffer, at: number, body: number, end: number): boolean {
    const first = chunk[at] as number;
    if (first === PUBACK) return this.#readPuback(chunk, body, end - body);
    const publish = this.#publishes.read(first, chunk, body, end);
    if (publish === undefined) return false;
    this.#options.onPublish(publish);
    return true;
  }

  #readPuback(chunk: Buffer, body: number, length: number): boolean {
    let code = 0;
    if (length !== 2) {
      // A reason code, and perhaps the length of no properties.
      if (!this.#options.hasProperties || length < 2 || length > 4) return false;
      code = chunk[body + 2] as number;
      if ((code !== 0 && code !== NO_SUBSCRIBERS) || (length === 4 && chunk[body + 3] !== 0)) return false;
    }
    return this.#options.onPuback(chunk.readUInt16BE(body), code);
  }

  /** Keeps the bytes from `at` on of a packet that will have `size` bytes. */
  #hold(chunk: Buffer, at: number, size: number): void {
    this.#held = Buffer.allocUnsafe(size);
    this.#heldLength = chunk.copy(this.#held, 0, at);
  }

  #pass(chunk: Buffer, from: number, to: number): void {
    if (to <= from) return;
    const part = from === 0 && to === chunk.length ? chunk : chunk.subarray(from, to);
    this.#options.memory?.keep(part);
    this.#options.pass(part);
  }
}
