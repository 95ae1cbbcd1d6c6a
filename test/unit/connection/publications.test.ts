/** What a connection publishes: its packets as mqtt-packet reads them, its packet ids, its answers. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import mqttPacket from 'mqtt-packet';
import { PacketIds } from '../../../src/connection/packet-ids.js';
import { LARGEST_PACKET } from '../../../src/connection/packets.js';
import { type PublishLimits, Publications } from '../../../src/connection/publications.js';
import type { Payload, PublishOptions, SendOutcome } from '../../../src/connection/ports.js';
import type { ProtocolVersion } from '../../../src/connection/version-memory.js';
import { TurnEnd } from '../../../src/connection/turn-end.js';
import { settle } from '../../support/clock.js';

const LIMITS: PublishLimits = { maximumPacketSize: undefined, retainAvailable: true };

interface Bench {
  readonly publications: Publications;
  readonly ids: PacketIds;
  readonly writes: Buffer[];
  readonly outcomes: SendOutcome[];
  send(topic: string, payload: Payload, options?: PublishOptions, limits?: PublishLimits): void;
}

function bench(version: ProtocolVersion = '5'): Bench {
  const writes: Buffer[] = [];
  const outcomes: SendOutcome[] = [];
  const ids = new PacketIds();
  const turnEnd = new TurnEnd(() => publications.flush());
  const publications = new Publications(
    ids,
    version,
    (pieces) => writes.push(Buffer.concat(pieces)),
    () => turnEnd.set(),
  );
  return {
    ...{ publications, ids, writes, outcomes },
    send: (topic, payload, options = {}, limits = LIMITS) =>
      publications.publish(topic, payload, options, limits, (outcome) => outcomes.push(outcome)),
  };
}

/** What the mqtt package's own parser makes of bytes. */
function parsed(bytes: Buffer, version: ProtocolVersion): mqttPacket.IPublishPacket[] {
  const packets: mqttPacket.IPublishPacket[] = [];
  const parser = mqttPacket.parser({ protocolVersion: version === '5' ? 5 : 4 });
  parser.on('packet', (packet) => packets.push(packet as mqttPacket.IPublishPacket));
  parser.on('error', (error: Error) => assert.fail(error));
  assert.equal(parser.parse(bytes), 0, 'nothing is left over');
  return packets;
}

/** The same bytes in pieces, some of them empty perhaps. */
function cutAt(bytes: Buffer, places: readonly number[]): Buffer[] {
  const pieces: Buffer[] = [];
  let from = 0;
  for (const place of [...places.toSorted((a, b) => a - b), bytes.length]) {
    pieces.push(bytes.subarray(from, place));
    from = Math.min(place, bytes.length);
  }
  return pieces;
}

/** The same bytes as a payload that writes itself. */
function written(bytes: Buffer): Payload {
  return { size: bytes.length, writeTo: (into, from) => into.set(bytes, from) };
}

describe('a publication', () => {
  test('is read by mqtt-packet as what it was, whatever stands in it', () => {
    const publication = fc.record({
      topic: fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }).filter((text) => !/[+#\0]/.test(text)),
      size: fc.oneof(
        fc.nat(300),
        fc.constantFrom(0, 100, 127, 128, 16_300, 16_383, 16_384, 70_000, 2_097_100, 2_097_152),
      ),
      qos: fc.constantFrom(0 as const, 1 as const),
      retain: fc.boolean(),
      correlationData: fc.option(
        fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
        { nil: undefined },
      ),
      responseTopic: fc.option(fc.constantFrom('a', 'answers/é', 'x'.repeat(200)), { nil: undefined }),
      messageExpiry: fc.option(fc.constantFrom(0, 1, 4_294_967_295), { nil: undefined }),
      version: fc.constantFrom<ProtocolVersion>('5', '3.1.1'),
      cuts: fc.oneof(fc.constantFrom(undefined, 'written' as const), fc.array(fc.nat(80_000), { maxLength: 3 })),
    });
    fc.assert(
      fc.property(publication, ({ topic, size, version, cuts, ...options }) => {
        const t = bench(version);
        const payload = Buffer.from('0123456789'.repeat(size / 10 + 1)).subarray(0, size);
        const pieces = cuts === 'written' ? written(payload) : cuts === undefined ? payload : cutAt(payload, cuts);
        t.send(topic, pieces, options);
        t.publications.flush();
        const [packet, ...others] = parsed(t.writes[0]!, version);
        assert.ok(packet);
        assert.deepEqual(others, []);
        const { cmd, retain, qos, dup, messageId, properties } = packet;
        assert.deepEqual([cmd, packet.topic, retain, qos, dup], ['publish', topic, options.retain, options.qos, false]);
        assert.equal(messageId, options.qos === 1 ? 1 : undefined);
        assert.ok(payload.equals(packet.payload as Buffer));
        const isV5 = version === '5';
        assert.deepEqual(properties?.correlationData, isV5 ? options.correlationData : undefined);
        assert.equal(properties?.responseTopic, isV5 ? options.responseTopic : undefined);
        assert.equal(properties?.messageExpiryInterval, isV5 ? options.messageExpiry : undefined);
        // The size that is held against the broker's limit is the one on the wire.
        t.send(topic, pieces, options, { ...LIMITS, maximumPacketSize: t.writes[0]!.length - 1 });
        const limit = t.writes[0]!.length - 1;
        assert.deepEqual(t.outcomes.at(-1), { kind: 'too-large', size: limit + 1, limit });
      }),
      { numRuns: 200 },
    );
  });

  test('that is large is written as the very bytes it was given', () => {
    const written: Buffer[] = [];
    const publications = new Publications(
      new PacketIds(),
      '5',
      (pieces) => written.push(...pieces),
      () => undefined,
    );
    const content = Buffer.alloc(20_000, 'c');
    publications.publish('a', [Buffer.from('{'), content, Buffer.from('}')], {}, LIMITS, () => undefined);
    publications.flush();
    assert.ok(written.includes(content));
  });

  test('that MQTT cannot carry is not sent', () => {
    const t = bench();
    t.send('a', [{ length: LARGEST_PACKET } as Buffer], {}, { ...LIMITS, maximumPacketSize: 2 ** 32 - 1 });
    assert.equal(t.outcomes[0]?.kind, 'too-large');
    assert.throws(() => t.send('x'.repeat(65_536), Buffer.alloc(0)), RangeError);
    t.publications.flush();
    assert.deepEqual(t.writes, []);
  });

  test('keeps no message where the broker keeps none', () => {
    const t = bench();
    t.send('a', Buffer.alloc(0), { retain: true }, { ...LIMITS, retainAvailable: false });
    t.publications.flush();
    assert.equal(parsed(t.writes[0]!, '5')[0]?.retain, false);
  });

  test('leaves with all others of its turn in one write, in order, small and large', async () => {
    const t = bench();
    const sizes = [10, 20_000, 5, 16_384, 0];
    for (const size of sizes) t.send('a', Buffer.alloc(size));
    assert.deepEqual(t.writes, []);
    await settle();
    assert.equal(t.writes.length, 1);
    assert.deepEqual(
      parsed(t.writes[0]!, '5').map(({ payload, messageId }) => [payload.length, messageId]),
      sizes.map((size, n) => [size, n + 1]),
    );
    t.send('a', Buffer.alloc(1));
    await settle();
    assert.equal(t.writes.length, 2);
  });

  test('leaves in one write with the PUBACKs of its turn, which do not wait for a large one', () => {
    const t = bench();
    const pubacks = Buffer.from('4002000140020002', 'hex');
    const written = (): string =>
      t.writes
        .splice(0)
        .map((bytes) => bytes.toString('latin1'))
        .join('|');
    t.send('a', Buffer.from('small'));
    t.publications.goWith(pubacks);
    t.publications.flush();
    const together = written();
    assert.ok(together.includes('small') && together.includes(pubacks.toString('latin1')));
    assert.ok(!together.includes('|'));
    t.send('a', Buffer.from('small'));
    t.send('a', Buffer.alloc(20_000, 'L'));
    t.publications.goWith(pubacks);
    t.publications.flush();
    const beside = written();
    assert.ok(beside.startsWith(pubacks.toString('latin1')) && !beside.includes('|'));
    assert.ok(beside.indexOf('small') < beside.indexOf('LLL'));
    t.publications.close();
    t.publications.goWith(pubacks);
    t.publications.flush();
    assert.equal(written(), '');
  });

  test('is answered once, by its own PUBACK', () => {
    const t = bench();
    for (const size of [1, 100]) t.send('a', Buffer.alloc(size));
    t.send('a', Buffer.alloc(0), { qos: 0 });
    assert.deepEqual(t.outcomes, [{ kind: 'acknowledged', reasonCode: 0 }]);
    assert.equal(t.publications.largestPending, 108);
    t.publications.answered(2, 0x10);
    t.publications.answered(2, 0);
    t.publications.answered(7, 0);
    assert.deepEqual(t.outcomes.slice(1), [{ kind: 'acknowledged', reasonCode: 0x10 }]);
    t.publications.close();
    assert.deepEqual(t.outcomes.slice(2), [{ kind: 'cut' }]);
    assert.equal(t.publications.largestPending, 0);
    t.publications.answered(1, 0);
    assert.equal(t.outcomes.length, 3);
  });

  test('of a connection that has ended is not written', async () => {
    const t = bench();
    t.send('a', Buffer.alloc(1));
    t.publications.close();
    t.publications.flush();
    await settle();
    assert.deepEqual(t.writes, []);
  });

  test('has no packet id of another that waits, however many there are', () => {
    const t = bench();
    for (let n = 0; n < 65_535; n++) t.send('a', Buffer.alloc(0));
    assert.throws(() => t.send('a', Buffer.alloc(0)), RangeError);
    t.publications.answered(500, 0);
    t.send('a', Buffer.alloc(0));
    t.publications.flush();
    const ids = parsed(t.writes[0]!, '5').map(({ messageId }) => messageId);
    assert.equal(ids.at(-1), 500);
    assert.equal(new Set(ids).size, 65_535);
  });
});

test('a packet id is the mqtt package’s or ours, never both’s', () => {
  const ids = new PacketIds();
  assert.equal(ids.getLastAllocated(), null);
  assert.equal(ids.register(2), true);
  assert.equal(ids.register(2), false);
  assert.deepEqual([ids.allocate(), ids.allocate(), ids.getLastAllocated()], [1, 3, 3]);
  ids.deallocate(1);
  assert.equal(ids.allocate(), 4, 'one that has just become free is the last to be used again');
  ids.clear();
  assert.equal(ids.register(3), true);
});
