/**
 * Reads a PUBLISH that stands whole in some bytes, as the mqtt package reads it (a property test holds them together), or
 * leaves it: what is malformed, has an alias, a property that is not known here or one that stands there twice.
 */

import type { ReadMemory } from './read-memory.js';

/** A PUBLISH with QoS 0 or 1. */
export interface ReadPublish {
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: 0 | 1;
  /** 0 at QoS 0. */
  readonly id: number;
  readonly retain: boolean;
  readonly dup: boolean;
  readonly properties: ReadProperties;
}

/** The properties of a PUBLISH that mean something to us. */
export interface ReadProperties {
  readonly responseTopic?: string | undefined;
  readonly correlationData?: Buffer | undefined;
  readonly messageExpiryInterval?: number | undefined;
}

/** In place of a length: more bytes are needed, or it is none. */
export const MORE_TO_COME = -1;
export const MALFORMED = -2;

const LONGEST_LENGTH = 4;
const RETAIN = 0x01;
const DUP = 0x08;
const QOS_1 = 0x02;
/** How many times its size a payload may keep in memory as long as it waits: a copy of each would cost more than it gives. */
const MOST_KEPT = 16;
const NO_PROPERTIES: ReadProperties = Object.freeze({});

const PAYLOAD_FORMAT = 0x01;
const MESSAGE_EXPIRY = 0x02;
const CONTENT_TYPE = 0x03;
const RESPONSE_TOPIC = 0x08;
const CORRELATION_DATA = 0x09;
const USER_PROPERTY = 0x26;

/** The variable byte integer [MQTT5-1.5.5] at `at`, of which bytes before `end` may be part. */
export function lengthAt(bytes: Buffer, at: number, end: number): number {
  let value = 0;
  let factor = 1;
  for (let n = 0; n < LONGEST_LENGTH; n++) {
    if (at + n >= end) return MORE_TO_COME;
    const byte = bytes[at + n] as number;
    value += (byte & 0x7f) * factor;
    if (byte < 0x80) return value;
    factor *= 128;
  }
  return MALFORMED;
}

/** How many bytes the variable byte integer takes that stands whole at `at`. */
export function sizeOfLength(bytes: Buffer, at: number): number {
  let size = 1;
  while ((bytes[at + size - 1] as number) > 0x7f) size += 1;
  return size;
}

export class PublishReader {
  /** The last topic and its bytes: most publications have the same. */
  #topic = '';
  #topicBytes: Buffer = Buffer.alloc(0);

  constructor(
    private readonly hasProperties: boolean,
    private readonly memory?: ReadMemory,
  ) {}

  /** What stands at [body, end), behind the fixed header that begins with `first`; undefined when it is left. */
  read(first: number, bytes: Buffer, body: number, end: number): ReadPublish | undefined {
    const qos = (first & QOS_1) === 0 ? 0 : 1;
    if (end - body < 2) return undefined;
    const topicEnd = body + 2 + bytes.readUInt16BE(body);
    let at = topicEnd + qos * 2;
    // Without a topic there is an alias, or it is malformed; and no packet has the id 0 [MQTT-2.3.1-1].
    if (topicEnd === body + 2 || at > end) return undefined;
    const id = qos === 0 ? 0 : bytes.readUInt16BE(topicEnd);
    if (qos === 1 && id === 0) return undefined;
    let properties: ReadProperties | undefined = NO_PROPERTIES;
    if (this.hasProperties) {
      if (bytes[at] === 0 && at < end) at += 1;
      else {
        const length = lengthAt(bytes, at, end);
        if (length < 0) return undefined;
        const start = at + sizeOfLength(bytes, at);
        at = start + length;
        if (at > end) return undefined;
        properties = readProperties(bytes, start, at);
        if (properties === undefined) return undefined;
      }
    }
    return {
      topic: this.#topicAt(bytes, body + 2, topicEnd),
      payload: this.#payloadAt(bytes, at, end),
      qos,
      id,
      retain: (first & RETAIN) !== 0,
      dup: (first & DUP) !== 0,
      properties,
    };
  }

  /** A payload, as a copy when the chunk it came in is much larger: that would not be given back as long as it waits. */
  #payloadAt(bytes: Buffer, from: number, to: number): Buffer {
    const size = to - from;
    // The whole memory counts: a websocket's frames stand many in one, and each is handed on as a part of it.
    if (bytes.buffer.byteLength <= size * MOST_KEPT && this.memory?.isSparse(bytes) !== true) {
      this.memory?.keep(bytes);
      return bytes.subarray(from, to);
    }
    const copy = Buffer.allocUnsafe(size);
    bytes.copy(copy, 0, from, to);
    return copy;
  }

  #topicAt(bytes: Buffer, from: number, to: number): string {
    const last = this.#topicBytes;
    let isSame = last.length === to - from;
    for (let n = 0; isSame && n < last.length; n++) isSame = last[n] === bytes[from + n];
    if (!isSame) {
      // A copy: the chunk it stands in is much larger.
      this.#topicBytes = Buffer.from(bytes.subarray(from, to));
      this.#topic = this.#topicBytes.toString();
    }
    return this.#topic;
  }
}

/** The properties at [from, to), or undefined when one of them is not to be read here. */
function readProperties(bytes: Buffer, from: number, to: number): ReadProperties | undefined {
  let responseTopic: string | undefined;
  let correlationData: Buffer | undefined;
  let messageExpiryInterval: number | undefined;
  /** Those that were there, a bit for each. */
  let seen = 0;
  for (let at = from; at < to;) {
    const name = bytes[at] as number;
    const end = endOfProperty(bytes, at, to);
    if (end < 0 || (name !== USER_PROPERTY && (seen & (1 << name)) !== 0)) return undefined;
    seen |= name === USER_PROPERTY ? 0 : 1 << name;
    if (name === MESSAGE_EXPIRY) messageExpiryInterval = bytes.readUInt32BE(at + 1);
    else if (name === RESPONSE_TOPIC) responseTopic = bytes.toString('utf8', at + 3, end);
    // A copy: what is kept of a message must not keep all that came with it.
    else if (name === CORRELATION_DATA) correlationData = Buffer.from(bytes.subarray(at + 3, end));
    at = end;
  }
  return { responseTopic, correlationData, messageExpiryInterval };
}

/** The position behind the property at `at`; negative when it is not known here or does not end before `to`. */
function endOfProperty(bytes: Buffer, at: number, to: number): number {
  let end: number;
  switch (bytes[at]) {
    case PAYLOAD_FORMAT:
      end = at + 2;
      break;
    case MESSAGE_EXPIRY:
      end = at + 5;
      break;
    case CONTENT_TYPE:
    case RESPONSE_TOPIC:
    case CORRELATION_DATA:
      end = endOfText(bytes, at + 1, to);
      break;
    case USER_PROPERTY:
      end = endOfText(bytes, endOfText(bytes, at + 1, to), to);
      break;
    default:
      return -1;
  }
  return end <= to ? end : -1;
}

/** The position behind what stands at `at` with its length in two bytes in front; behind `to` when it is not whole. */
function endOfText(bytes: Buffer, at: number, to: number): number {
  return at + 2 > to ? to + 1 : at + 2 + bytes.readUInt16BE(at);
}
