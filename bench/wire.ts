/**
 * The few MQTT 3.1.1 packets that the driver needs, written and read by hand: the driver shares two cores with what it
 * measures, and a full client would take as much of them as the agent does.
 */

/** A packet as it came: its first byte, and what follows the length. */
export interface Packet {
  readonly header: number;
  readonly body: Buffer;
}

/** A PUBLISH that came. */
export interface Publication {
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: number;
  readonly retain: boolean;
  /** 0 at QoS 0. */
  readonly packetId: number;
}

export const CONNACK = 2;
export const PUBLISH = 3;
export const PUBACK = 4;
export const SUBACK = 9;
export const DISCONNECT_PACKET = Buffer.of(0xe0, 0);

/** A clean session without keepalive. */
export function connectPacket(clientId: string): Buffer {
  const head = Buffer.from([0, 4, ...Buffer.from('MQTT'), 4, 0x02, 0, 0]);
  return packet(0x10, Buffer.concat([head, text(clientId)]));
}

/** Subscribes to all topics at QoS 1. */
export function subscribePacket(packetId: number, topics: readonly string[]): Buffer {
  const wanted = topics.flatMap((topic) => [text(topic), Buffer.of(1)]);
  return packet(0x82, Buffer.concat([Buffer.of(packetId >> 8, packetId & 0xff), ...wanted]));
}

/** What stands before the payload of a QoS 1 publication. */
export function publishHead(topic: string, packetId: number, payloadLength: number): Buffer {
  const name = text(topic);
  const length = lengthBytes(name.length + 2 + payloadLength);
  return Buffer.concat([Buffer.from([0x32, ...length]), name, Buffer.of(packetId >> 8, packetId & 0xff)]);
}

export function pubackPacket(packetId: number): Buffer {
  return Buffer.of(0x40, 2, packetId >> 8, packetId & 0xff);
}

/** The kind of a packet: the upper half of its first byte. */
export function kindOf({ header }: Packet): number {
  return header >> 4;
}

export function readPublication({ header, body }: Packet): Publication {
  const topicEnd = 2 + body.readUInt16BE(0);
  const qos = (header >> 1) & 3;
  return {
    topic: body.toString('latin1', 2, topicEnd),
    payload: body.subarray(qos === 0 ? topicEnd : topicEnd + 2),
    qos,
    retain: (header & 1) === 1,
    packetId: qos === 0 ? 0 : body.readUInt16BE(topicEnd),
  };
}

/** Cuts a stream of bytes into packets; a large one is put together once, when it is complete. */
export class PacketReader {
  #chunks: Buffer[] = [];
  #size = 0;
  /** Bytes that must be there before it is worth to look again. */
  #wanted = 2;

  /** Takes what came; the packets that it completes. */
  *push(chunk: Buffer): Generator<Packet> {
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    if (this.#size < this.#wanted) return;
    const bytes = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks);
    let at = 0;
    for (;;) {
      const found = measure(bytes, at);
      if (found.kind === 'incomplete') {
        this.#chunks = [bytes.subarray(at)];
        this.#size = bytes.length - at;
        this.#wanted = found.size;
        return;
      }
      yield { header: bytes[at] ?? 0, body: bytes.subarray(found.bodyAt, found.end) };
      at = found.end;
    }
  }
}

type Measured =
  | { readonly kind: 'incomplete'; readonly size: number }
  | { readonly kind: 'complete'; readonly bodyAt: number; readonly end: number };

function measure(bytes: Buffer, at: number): Measured {
  let length = 0;
  for (let index = 0; index < 4; index++) {
    const byte = bytes[at + 1 + index];
    if (byte === undefined) return { kind: 'incomplete', size: bytes.length - at + 1 };
    length += (byte & 0x7f) * 128 ** index;
    if (byte >= 0x80) continue;
    const bodyAt = at + 2 + index;
    const end = bodyAt + length;
    return end > bytes.length ? { kind: 'incomplete', size: end - at } : { kind: 'complete', bodyAt, end };
  }
  throw new Error('the broker sent a packet whose length cannot be read');
}

function packet(header: number, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from([header, ...lengthBytes(body.length)]), body]);
}

function lengthBytes(length: number): number[] {
  const bytes = [];
  for (let rest = length; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...bytes, rest];
    bytes.push((rest % 128) + 128);
  }
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.of(bytes.length >> 8, bytes.length & 0xff), bytes]);
}
