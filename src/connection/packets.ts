/** What stands in packets, as pure functions: the size and properties of a PUBLISH, the session that a CONNACK grants. */
import type { IClientPublishOptions, IConnackPacket } from 'mqtt';
import mqttPacket from 'mqtt-packet';
import type { Millis } from '../time.js';
import type { PublishOptions, Session } from './ports.js';
import type { ProtocolVersion } from './version-memory.js';

/** The largest packet MQTT can write [MQTT-2.2.3]: fixed header and remaining length. */
export const LARGEST_PACKET = 5 + 268_435_455;
const LARGEST_RECEIVE_MAXIMUM = 65_535;

export type PublishProperties = NonNullable<IClientPublishOptions['properties']>;

/** The MQTT 5 properties of a publication, or undefined when it has none. */
export function publishProperties(options: PublishOptions): PublishProperties | undefined {
  const { correlationData, responseTopic, messageExpiry } = options;
  if (correlationData === undefined && responseTopic === undefined && messageExpiry === undefined) return undefined;
  return {
    ...(correlationData !== undefined && { correlationData }),
    ...(responseTopic !== undefined && { responseTopic }),
    ...(messageExpiry !== undefined && { messageExpiryInterval: messageExpiry }),
  };
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

/** How many bytes the PUBLISH will have on the wire. */
export function publishSize(
  topic: string,
  payload: Buffer,
  qos: 0 | 1,
  properties: PublishProperties | undefined,
  version: ProtocolVersion,
): number {
  const propertyBytes = version === '5' ? withVarint(propertiesSize(properties)) : 0;
  return 1 + withVarint(2 + Buffer.byteLength(topic) + (qos > 0 ? 2 : 0) + propertyBytes + payload.length);
}

function propertiesSize(properties: PublishProperties | undefined): number {
  if (properties === undefined) return 0;
  const { correlationData, responseTopic, messageExpiryInterval } = properties;
  return (
    (correlationData === undefined ? 0 : 3 + correlationData.length) +
    (responseTopic === undefined ? 0 : 3 + Buffer.byteLength(responseTopic)) +
    (messageExpiryInterval === undefined ? 0 : 5)
  );
}

/** A length together with the variable byte integer in front of it. */
function withVarint(length: number): number {
  const digits = length < 128 ? 1 : length < 16_384 ? 2 : length < 2_097_152 ? 3 : 4;
  return digits + length;
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
