/** Reads MQTT packets out of a byte stream as they pass: where each begins and ends, and the little that a ledger needs. */

/** Packet types, by the upper half of the first byte. */
export const CONNECT = 1;
export const CONNACK = 2;
export const PUBLISH = 3;
export const PUBACK = 4;
export const SUBSCRIBE = 8;
export const DISCONNECT = 14;

/** A whole packet. */
export interface Frame {
  readonly type: number;
  readonly bytes: Buffer;
  /** Of a PUBLISH at QoS 1, and of a PUBACK. */
  readonly packetId: number | undefined;
  readonly topic: string | undefined;
  readonly payload: Buffer | undefined;
}

/** One direction of a connection. What is malformed comes out as a frame of its own kind: whoever gets it complains. */
export class FrameReader {
  /** Whether a PUBLISH has properties: MQTT 5. Known once the CONNECT has passed. */
  hasProperties = false;
  #rest = Buffer.alloc(0);

  /** The packets that are complete now. */
  push(chunk: Buffer): Frame[] {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    const frames: Frame[] = [];
    for (;;) {
      const length = lengthOf(this.#rest);
      if (length === undefined || this.#rest.length < length.total) return frames;
      const bytes = this.#rest.subarray(0, length.total);
      this.#rest = this.#rest.subarray(length.total);
      frames.push(this.#frame(bytes, length.header));
    }
  }

  #frame(bytes: Buffer, header: number): Frame {
    const type = bytes.readUInt8(0) >> 4;
    const none = { type, bytes, packetId: undefined, topic: undefined, payload: undefined };
    if (type === CONNECT) this.hasProperties = bytes.readUInt8(header + 2 + bytes.readUInt16BE(header)) === 5;
    if (type === PUBACK) return { ...none, packetId: bytes.readUInt16BE(header) };
    if (type !== PUBLISH) return none;
    const topicEnd = header + 2 + bytes.readUInt16BE(header);
    const isAcknowledged = ((bytes.readUInt8(0) >> 1) & 3) > 0;
    let at = topicEnd + (isAcknowledged ? 2 : 0);
    if (this.hasProperties) {
      const { value, size } = varint(bytes, at);
      at += size + value;
    }
    return {
      type,
      bytes,
      packetId: isAcknowledged ? bytes.readUInt16BE(topicEnd) : undefined,
      topic: bytes.toString('utf8', header + 2, topicEnd),
      payload: bytes.subarray(at),
    };
  }
}

/** The length of the first packet and of its fixed header, or undefined while that is not complete. */
function lengthOf(bytes: Buffer): { readonly total: number; readonly header: number } | undefined {
  const end = [1, 2, 3, 4].find((at) => at < bytes.length && (bytes.readUInt8(at) & 0x80) === 0);
  if (end === undefined) return undefined;
  const { value, size } = varint(bytes, 1);
  return { total: 1 + size + value, header: 1 + size };
}

function varint(bytes: Buffer, from: number): { readonly value: number; readonly size: number } {
  let value = 0;
  for (let size = 1; ; size++) {
    const digit = bytes.readUInt8(from + size - 1);
    value += (digit & 0x7f) * 128 ** (size - 1);
    if ((digit & 0x80) === 0 || size === 4) return { value, size };
  }
}
