import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { KEPT_PAYLOAD, PublishFilter } from '../../../src/connection/publish-filter.js';

const LIMIT = 70_000;

interface Packet {
  readonly kind: 'publish' | 'pingresp' | 'puback';
  readonly topic: string;
  readonly qos: 0 | 1;
  readonly packetId: number;
  readonly properties: number;
  readonly payload: number;
}

function varint(value: number): Buffer {
  const bytes = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    bytes.push(rest >= 128 ? (rest % 128) | 0x80 : rest);
    if (rest < 128) return Buffer.from(bytes);
  }
}

function encode(
  packet: Packet,
  hasProperties: boolean,
  properties = packet.properties,
  payload = packet.payload,
): Buffer {
  if (packet.kind === 'pingresp') return Buffer.of(0xd0, 0);
  if (packet.kind === 'puback') return Buffer.of(0x40, 2, 0, 1);
  const body = Buffer.concat([
    Buffer.of(packet.topic.length >> 8, packet.topic.length & 255),
    Buffer.from(packet.topic),
    packet.qos === 1 ? Buffer.of(packet.packetId >> 8, packet.packetId & 255) : Buffer.alloc(0),
    hasProperties ? Buffer.concat([varint(properties), Buffer.alloc(properties, 'p')]) : Buffer.alloc(0),
    Buffer.alloc(payload, packet.topic),
  ]);
  return Buffer.concat([Buffer.of(0x30 | (packet.qos << 1)), varint(body.length), body]);
}

/** What the filter should make of a packet: a naive model on whole packets. */
function expected(packet: Packet, hasProperties: boolean): { bytes: Buffer; size: number | undefined } {
  const whole = encode(packet, hasProperties);
  const properties = hasProperties ? packet.properties : 0;
  const isCut =
    packet.kind === 'publish' && (packet.payload > LIMIT || (whole.length - 4 > LIMIT && properties > 65_536));
  if (!isCut) return { bytes: whole, size: undefined };
  const bytes = encode(
    packet,
    hasProperties,
    properties > 65_536 ? 0 : properties,
    Math.min(packet.payload, KEPT_PAYLOAD),
  );
  return { bytes, size: packet.payload > LIMIT ? packet.payload : whole.length - 4 };
}

function filtered(chunks: readonly Buffer[], hasProperties: boolean): { bytes: Buffer; filter: PublishFilter } {
  const output: Buffer[] = [];
  const filter = new PublishFilter({ maxMessageSize: LIMIT, hasProperties, output: (bytes) => output.push(bytes) });
  for (const chunk of chunks) filter.push(chunk);
  return { bytes: Buffer.concat(output), filter };
}

const size = fc.oneof(
  fc.nat(300),
  fc.constantFrom(LIMIT - 20, LIMIT - 1, LIMIT, LIMIT + 1, LIMIT * 3, 65_536, 65_537, 16_383, 128),
);
const packet: fc.Arbitrary<Packet> = fc.record({
  kind: fc.constantFrom('publish', 'publish', 'publish', 'pingresp', 'puback'),
  topic: fc.constantFrom('a', 'in/b', 'x'.repeat(200)),
  qos: fc.constantFrom(0, 1),
  packetId: fc.integer({ min: 1, max: 65_535 }),
  properties: fc.oneof(fc.nat(200), fc.constantFrom(0, 65_536, 65_537, 100_000)),
  payload: size,
});

test('whatever the chunks: too large is cut, all else passes as it is', () => {
  fc.assert(
    fc.property(
      fc.array(packet, { minLength: 1, maxLength: 5 }),
      fc.boolean(),
      fc.array(fc.oneof(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 90_000 })), { minLength: 1 }),
      (packets, hasProperties, cuts) => {
        const input = Buffer.concat(packets.map((each) => encode(each, hasProperties)));
        const chunks: Buffer[] = [];
        for (let at = 0, i = 0; at < input.length; i++) {
          const length = cuts[i % cuts.length] ?? 1;
          // Tiny chunks all through hundreds of kilobytes say nothing new and take long.
          const step = i > 200 ? 65_536 : length;
          chunks.push(input.subarray(at, at + step));
          at += step;
        }
        const { bytes, filter } = filtered(chunks, hasProperties);
        const wanted = packets.map((each) => expected(each, hasProperties));
        assert.ok(bytes.equals(Buffer.concat(wanted.map((each) => each.bytes))));
        const publishes = wanted.filter((_, i) => packets[i]?.kind === 'publish');
        for (const [ordinal, each] of publishes.entries()) assert.equal(filter.sizeBeforeCut(ordinal), each.size);
      },
    ),
    { numRuns: 150 },
  );
});

test('a chunk of packets within the limit passes as the same object', () => {
  const chunk = Buffer.concat([Buffer.of(0xd0, 0), Buffer.of(0x40, 2, 0, 1)]);
  const output: Buffer[] = [];
  new PublishFilter({ maxMessageSize: 10, hasProperties: true, output: (bytes) => output.push(bytes) }).push(chunk);
  assert.equal(output[0], chunk);
  assert.equal(output.length, 1);
});

test('a malformed fixed header passes, with all behind it, for the parser to refuse', () => {
  const garbage = Buffer.of(0x30, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3);
  assert.deepEqual(filtered([garbage.subarray(0, 3), garbage.subarray(3)], false).bytes, garbage);
});

test('a cut message is handed on only when its last byte has come', () => {
  const whole = encode({ kind: 'publish', topic: 'a', qos: 1, packetId: 7, properties: 0, payload: LIMIT + 1 }, false);
  const output: Buffer[] = [];
  const filter = new PublishFilter({ maxMessageSize: LIMIT, hasProperties: false, output: (b) => output.push(b) });
  filter.push(whole.subarray(0, -1));
  assert.equal(output.length, 0);
  filter.push(whole.subarray(-1));
  assert.equal(output.length, 1);
});

test('the size of one that nobody asked for does not stand in the way of those behind it', () => {
  const large: Packet = { kind: 'publish', topic: 'a', qos: 1, packetId: 1, properties: 0, payload: LIMIT + 1 };
  const { filter } = filtered([encode(large, true), encode({ ...large, payload: LIMIT + 2 }, true)], true);
  assert.equal(filter.sizeBeforeCut(1), LIMIT + 2);
});
