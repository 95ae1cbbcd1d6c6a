/** What stands in packets, as pure functions: the size and properties of a PUBLISH, the session that a CONNACK grants. */
import type { IConnackPacket } from 'mqtt';
import mqttPacket from 'mqtt-packet';
import type { Millis } from '../time.js';
import type { PublishOptions, Session } from './ports.js';
import type { ProtocolVersion } from './version-memory.js';

/** The largest packet MQTT can write [MQTT-2.2.3]: fixed header and remaining length. */
export const LARGEST_PACKET = 5 + 268_435_455;
const LARGEST_RECEIVE_MAXIMUM = 65_535;
const PUBLISH = 0x30;

const NOTHING = Buffer.alloc(0);
/** Their length: none. */
const NO_PROPERTIES = Buffer.of(0);
const MESSAGE_EXPIRY = 0x02;
const RESPONSE_TOPIC = 0x08;
const CORRELATION_DATA = 0x09;

/** The properties of a publication with their length in front, as they stand in the packet; MQTT 3.1.1 has none. */
export function publishProperties(options: PublishOptions, version: ProtocolVersion): Buffer {
  if (version !== '5') return NOTHING;
  const { correlationData, responseTopic, messageExpiry } = options;
  if (correlationData === undefined && responseTopic === undefined && messageExpiry === undefined) return NO_PROPERTIES;
  const parts: Buffer[] = [];
  if (messageExpiry !== undefined) {
    const expiry = Buffer.of(MESSAGE_EXPIRY, 0, 0, 0, 0);
    expiry.writeUInt32BE(messageExpiry, 1);
    parts.push(expiry);
  }
  if (responseTopic !== undefined) parts.push(Buffer.of(RESPONSE_TOPIC), topicBytes(responseTopic));
  if (correlationData !== undefined) parts.push(Buffer.of(CORRELATION_DATA), withLength(correlationData));
  const properties = Buffer.concat(parts);
  const length = Buffer.alloc(varintSize(properties.length));
  writeVarint(length, 0, properties.length);
  return Buffer.concat([length, properties]);
}

/** A topic as it stands in a packet. Throws a RangeError for one that MQTT cannot carry: 65,535 bytes is the most. */
export function topicBytes(topic: string): Buffer {
  return withLength(Buffer.from(topic));
}

function withLength(bytes: Buffer): Buffer {
  const prefixed = Buffer.allocUnsafe(2 + bytes.length);
  prefixed.writeUInt16BE(bytes.length);
  prefixed.set(bytes, 2);
  return prefixed;
}

/** Properties that may stand in a packet more than once; all others are a protocol error then [MQTT5-2.2.2.2]. */
const REPEATABLE = new Set(['userProperties', 'subscriptionIdentifier']);

/**
 * Takes out of a packet each property that stands in it twice and may not, and returns the name of one. The mqtt package
 * makes a list of such a property and then uses it as a number or a text: it throws where nobody can catch it.
 */
export function takeDoubledProperties(packet: object): string | undefined {
  const properties: unknown = 'properties' in packet ? packet.properties : undefined;
  if (typeof properties !== 'object' || properties === null) return undefined;
  let doubled: string | undefined;
  for (const [name, value] of Object.entries(properties) as [string, unknown][]) {
    if (!Array.isArray(value) || REPEATABLE.has(name)) continue;
    Reflect.deleteProperty(properties, name);
    doubled = name;
  }
  return doubled;
}

/** How many bytes the PUBLISH will have on the wire, with so many in its payload; `topic` and `properties` as they stand there. */
export function publishSize(topic: Buffer, payload: number, qos: 0 | 1, properties: Buffer): number {
  const remaining = remainingLength(topic, payload, qos, properties);
  return 1 + varintSize(remaining) + remaining;
}

function remainingLength(topic: Buffer, payload: number, qos: 0 | 1, properties: Buffer): number {
  return topic.length + (qos > 0 ? 2 : 0) + properties.length + payload;
}

/** What stands before the payload. */
export interface PublishHead {
  readonly topic: Buffer;
  readonly qos: 0 | 1;
  readonly id: number;
  readonly isRetained: boolean;
  readonly properties: Buffer;
}

/**
 * Writes all of a PUBLISH [MQTT5-3.3] that stands before its payload into `bytes` from `from` on, where there must be room
 * for it; returns the position behind it. `payload`: how many bytes that has.
 */
export function writePublish(head: PublishHead, payload: number, bytes: Buffer, from: number): number {
  const { topic, qos, id, properties } = head;
  bytes[from] = PUBLISH | (qos << 1) | (head.isRetained ? 1 : 0);
  let at = writeVarint(bytes, from + 1, remainingLength(topic, payload, qos, properties));
  bytes.set(topic, at);
  at += topic.length;
  if (qos > 0) at = bytes.writeUInt16BE(id, at);
  bytes.set(properties, at);
  return at + properties.length;
}

/** How many bytes a variable byte integer takes [MQTT5-1.5.5]. */
function varintSize(value: number): number {
  return value < 128 ? 1 : value < 16_384 ? 2 : value < 2_097_152 ? 3 : 4;
}

/** Writes a variable byte integer; returns the position behind it. */
function writeVarint(bytes: Buffer, from: number, value: number): number {
  let at = from;
  let rest = value;
  for (; rest >= 128; rest >>= 7) bytes[at++] = (rest & 127) | 128;
  bytes[at++] = rest;
  return at;
}

/** What the broker granted; `asked` is what we asked for, which holds where it is silent. */
export function sessionFrom(
  connack: IConnackPacket,
  asked: { readonly broker: string; readonly protocolVersion: ProtocolVersion; readonly sessionExpiry: Millis },
): Session {
  const properties = connack.properties;
  const granted = properties?.sessionExpiryInterval;
  const isV5 = asked.protocolVersion === '5';
  return {
    broker: asked.broker,
    protocolVersion: asked.protocolVersion,
    sessionPresent: connack.sessionPresent,
    receiveMaximum: properties?.receiveMaximum ?? LARGEST_RECEIVE_MAXIMUM,
    maximumPacketSize: properties?.maximumPacketSize,
    sessionExpiry: isV5 ? (granted === undefined ? asked.sessionExpiry : granted * 1000) : undefined,
    // Absent means yes [MQTT5-3.2.2.3.5].
    retainAvailable: properties?.retainAvailable !== false,
  };
}

/**
 * Keeps the mqtt package from making a Buffer of each number from 0 to 65,535 at its first packet, as it does unless
 * told: megabytes of heap and milliseconds of every start, to save an allocation of two bytes a packet. Idempotent.
 */
export function writeNumbersWithoutTable(): void {
  mqttPacket.writeToStream.cacheNumbers = false;
}
