/** What is read before the mqtt package: as that would read it, in the order of arrival, wherever the stream is cut. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import mqttPacket from 'mqtt-packet';
import { PacketReader } from '../../../src/connection/packet-reader.js';
import { takeDoubledProperties } from '../../../src/connection/packets.js';
import { PublishReader, type ReadPublish } from '../../../src/connection/publish-reader.js';
import { ReadMemory } from '../../../src/connection/read-memory.js';

const LIMIT = 70_000;

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 0x80);
  return Buffer.from([...bytes, rest]);
}

function withLength(bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.of(bytes.length >> 8, bytes.length & 255), bytes]);
}

function packet(first: number, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.of(first), varint(body.length), body]);
}

interface PublishParts {
  readonly first?: number;
  readonly topic?: Buffer;
  readonly id?: number;
  /** Undefined: MQTT 3.1.1. */
  readonly properties?: Buffer | undefined;
  readonly payload?: Buffer;
}

function publish({ first = 0x32, topic = Buffer.from('in/x'), id = 7, properties, payload }: PublishParts): Buffer {
  return packet(
    first,
    withLength(topic),
    (first & 0x06) === 0 ? Buffer.alloc(0) : Buffer.of(id >> 8, id & 255),
    properties === undefined ? Buffer.alloc(0) : Buffer.concat([varint(properties.length), properties]),
    payload ?? Buffer.from('payload'),
  );
}

/** What counts of a packet, whoever has read it. */
type Seen = readonly unknown[];

function seenPublish(publish: ReadPublish): Seen {
  const { topic, payload, qos, id, retain, dup, properties } = publish;
  const { responseTopic, correlationData, messageExpiryInterval } = properties;
  return ['publish', topic, payload.toString('hex'), qos, id, retain, dup].concat(
    ...[[responseTopic ?? '-', correlationData?.toString('hex') ?? '-', String(messageExpiryInterval ?? '-')]],
  );
}

function seen(packet: mqttPacket.Packet): Seen {
  if (packet.cmd === 'puback') return ['puback', packet.messageId, packet.reasonCode ?? 0];
  if (packet.cmd !== 'publish') return [packet.cmd, packet.messageId];
  const { topic, payload, qos, messageId = 0, retain, dup, properties = {} } = packet;
  return [
    ...seenPublish({ topic, payload: payload as Buffer, qos: qos as 0 | 1, id: messageId, retain, dup, properties }),
  ];
}

interface Elsewhere {
  readonly packets: mqttPacket.Packet[];
  readonly errors: string[];
  readonly parse: (bytes: Buffer) => void;
}

/** The mqtt package's own parser. */
function elsewhere(isV5: boolean): Elsewhere {
  const packets: mqttPacket.Packet[] = [];
  const errors: string[] = [];
  const parser = mqttPacket.parser({ protocolVersion: isV5 ? 5 : 4 });
  parser.on('packet', (packet) => packets.push(packet));
  parser.on('error', (error: Error) => errors.push(error.message));
  return { packets, errors, parse: (bytes) => void parser.parse(bytes) };
}

interface Reading {
  /** In the order in which it was announced. */
  readonly seen: Seen[];
  /** How many of them were read by us. */
  readonly direct: number;
  readonly passed: readonly Buffer[];
}

interface ReadOptions {
  readonly isV5?: boolean;
  /** How many of the packets it was handed the package reads at once; the rest when the chunk is through. */
  readonly atOnce?: number;
  readonly isWaitedFor?: (id: number) => boolean;
  readonly isOpen?: boolean;
}

function read(chunks: readonly Buffer[], options: ReadOptions = {}): Reading {
  const { isV5 = true, atOnce = 1, isWaitedFor = () => true, isOpen = true } = options;
  const all: Seen[] = [];
  const passed: Buffer[] = [];
  const { packets, parse } = elsewhere(isV5);
  let direct = 0;
  const readOn = (most: number): void => {
    for (const packet of packets.splice(0, most)) {
      all.push(seen(packet));
      reader.readElsewhere();
    }
  };
  const reader = new PacketReader({
    hasProperties: isV5,
    maxMessageSize: LIMIT,
    onPublish: (publish) => {
      direct += 1;
      all.push(seenPublish(publish));
    },
    onPuback: (id, reasonCode) => {
      if (!isWaitedFor(id)) return false;
      direct += 1;
      all.push(['puback', id, reasonCode]);
      return true;
    },
    pass: (bytes) => {
      passed.push(bytes);
      parse(bytes);
      readOn(atOnce);
    },
  });
  if (isOpen) reader.open();
  for (const chunk of chunks) {
    reader.push(chunk);
    readOn(Number.POSITIVE_INFINITY);
  }
  return { seen: all, direct, passed };
}

/** What the package alone would make of it. */
function model(bytes: Buffer, isV5: boolean): Seen[] {
  const { packets, errors, parse } = elsewhere(isV5);
  parse(bytes);
  assert.deepEqual(errors, []);
  return packets.map(seen);
}

const text = fc.constantFrom('', 'a', 'answers/é', 'x'.repeat(200)).map((value) => withLength(Buffer.from(value)));
const property = fc.oneof(
  fc.constantFrom(0, 1).map((value) => Buffer.of(0x01, value)),
  fc.constantFrom(0, 1, 0xffffffff).map((value) => {
    const bytes = Buffer.of(0x02, 0, 0, 0, 0);
    bytes.writeUInt32BE(value, 1);
    return bytes;
  }),
  fc.tuple(fc.constantFrom(0x03, 0x08, 0x09), text).map(([name, value]) => Buffer.concat([Buffer.of(name), value])),
  fc.tuple(text, text).map(([name, value]) => Buffer.concat([Buffer.of(0x26), name, value])),
  // Those that the package is to see: an alias, the id of a subscription.
  fc.constantFrom(Buffer.of(0x23, 0, 1), Buffer.of(0x0b, 5)),
);
/** Each at most once, but for those of the user's own. */
const properties = fc
  .uniqueArray(property, { maxLength: 6, selector: (bytes) => (bytes[0] === 0x26 ? bytes : bytes[0]) })
  .map((list) => Buffer.concat(list));

const publishParts = fc.record({
  first: fc.constantFrom(0x30, 0x31, 0x32, 0x33, 0x3a, 0x3b, 0x34),
  topic: fc.oneof(
    fc.constantFrom('in/x', 'in/x', 'in/y', 'é/ü', '').map((name) => Buffer.from(name)),
    fc.constant(Buffer.of(0xff, 0xc3, 0x28)),
  ),
  id: fc.constantFrom(0, 1, 255, 256, 65_535),
  properties: fc.oneof(fc.constant(Buffer.alloc(0)), properties),
  payload: fc.oneof(fc.nat(300), fc.constantFrom(0, 127, 16_383, 65_600, LIMIT)).map((size) => Buffer.alloc(size, 'p')),
});

const other = fc.oneof(
  fc
    .constantFrom(
      '40020001',
      '4002ffff',
      '4003000210',
      '4003000200',
      '400400020000',
      '4003000397',
      'd000',
      '9003000100',
      '900400010001',
      '62020005',
    )
    .map((hex) => Buffer.from(hex, 'hex')),
);

interface Stream {
  readonly isV5: boolean;
  readonly packets: readonly Buffer[];
}

const stream: fc.Arbitrary<Stream> = fc
  .record({
    isV5: fc.boolean(),
    list: fc.array(fc.oneof({ weight: 3, arbitrary: publishParts }, { weight: 2, arbitrary: other }), {
      minLength: 1,
      maxLength: 8,
    }),
  })
  .map(({ isV5, list }) => {
    const packets = list.map((each) =>
      Buffer.isBuffer(each) ? each : publish({ ...each, properties: isV5 ? each.properties : undefined }),
    );
    // Of the others only those that the package can read in this version.
    return {
      isV5,
      packets: packets.filter((bytes) => {
        const { errors, parse } = elsewhere(isV5);
        parse(bytes);
        return errors.length === 0;
      }),
    };
  });

function cut(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const chunks: Buffer[] = [];
  for (let at = 0, n = 0; at < bytes.length; n++) {
    // Tiny chunks all through a long stream say nothing new.
    const size = n > 400 ? 65_536 : (sizes[n % sizes.length] ?? 1);
    chunks.push(bytes.subarray(at, at + size));
    at += size;
  }
  return chunks;
}

describe('the packets of a connection', () => {
  test('are announced as the mqtt package reads them, in the order of arrival, whoever reads them', () => {
    const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 90_000 })), {
      minLength: 1,
      maxLength: 9,
    });
    fc.assert(
      fc.property(
        stream,
        sizes,
        fc.constantFrom(0, 1, 2),
        fc.boolean(),
        ({ isV5, packets }, where, atOnce, isWaited) => {
          const bytes = Buffer.concat(packets);
          const reading = read(cut(bytes, where), { isV5, atOnce, isWaitedFor: (id) => isWaited || id === 2 });
          assert.deepEqual(reading.seen, model(bytes, isV5));
        },
      ),
      { numRuns: 400 },
    );
  });

  test('are read whatever byte the stream is cut at', () => {
    const some = Buffer.concat([
      Buffer.from('e1', 'hex'),
      Buffer.from('0800016109000163', 'hex'),
      Buffer.from('0200000005', 'hex'),
    ]).subarray(1);
    const bytes = Buffer.concat([
      publish({ properties: Buffer.alloc(0) }),
      Buffer.from('40020001', 'hex'),
      publish({ first: 0x30, properties: some, payload: Buffer.alloc(200, 'p') }),
      Buffer.from('d000', 'hex'),
      publish({ first: 0x3b, properties: Buffer.from('230001', 'hex') }),
      Buffer.from('4003000210', 'hex'),
      publish({ first: 0x34, properties: Buffer.alloc(0) }),
      publish({ properties: some, payload: Buffer.alloc(0) }),
    ]);
    const wanted = model(bytes, true);
    for (let at = 1; at < bytes.length; at++) {
      for (const atOnce of [0, 1]) {
        assert.deepEqual(read([bytes.subarray(0, at), bytes.subarray(at)], { atOnce }).seen, wanted, `cut at ${at}`);
      }
    }
    assert.deepEqual(read(Array.from(bytes, (byte) => Buffer.of(byte))).seen, wanted);
  });

  test('of the everyday kind never reach the mqtt package, cut or not', () => {
    for (const isV5 of [true, false]) {
      const parts = { properties: isV5 ? Buffer.alloc(0) : undefined };
      const list = [publish(parts), publish({ ...parts, first: 0x30 }), Buffer.from('40020007', 'hex'), publish(parts)];
      const bytes = Buffer.concat(list);
      for (const chunks of [[bytes], cut(bytes, [5]), cut(bytes, [1])]) {
        const { direct, passed } = read(chunks, { isV5 });
        assert.deepEqual([direct, passed], [4, []]);
      }
    }
  });

  test('are all the package’s until the connection is open, and while it has not read what it was handed', () => {
    const ours = publish({ properties: Buffer.alloc(0) });
    const pong = Buffer.from('d000', 'hex');
    assert.equal(read([ours], { isOpen: false }).direct, 0);
    const chunk = Buffer.concat([pong, ours, ours]);
    assert.equal(read([chunk, ours], { atOnce: 0 }).direct, 1);
    assert.equal(read([chunk, ours], { atOnce: 1 }).direct, 3);
  });

  test('of a kind that is not read here pass as the very bytes that came', () => {
    const rest = Buffer.from('d000', 'hex');
    const aliased = publish({ properties: Buffer.from('230001', 'hex') });
    const large = publish({ properties: Buffer.alloc(0), payload: Buffer.alloc(LIMIT) });
    for (const odd of [rest, aliased, large, publish({ id: 0 }), publish({ topic: Buffer.alloc(0) })]) {
      const { direct, passed } = read([odd]);
      assert.equal(direct, 0);
      assert.equal(passed[0], odd);
    }
    assert.equal(read([Buffer.from('40020001', 'hex')], { isWaitedFor: () => false }).passed.length, 1);
  });

  test('that are no packets pass with all behind them, at once', () => {
    const { passed, direct } = read([Buffer.from('30ffffffffff', 'hex'), publish({ properties: Buffer.alloc(0) })]);
    assert.equal(direct, 0);
    assert.equal(passed.length, 2);
    // The beginning of something that was never MQTT is not held until a packet of that length has come.
    assert.equal(read([Buffer.from('HTTP/1.1')]).passed[0]?.toString(), 'HTTP/1.1');
  });

  test('above the limit go on in the parts that came, and those behind them are read again', () => {
    const ours = publish({ properties: Buffer.alloc(0) });
    const publication = publish({ properties: Buffer.alloc(0), payload: Buffer.alloc(LIMIT) });
    const puback = Buffer.concat([Buffer.from('40818004', 'hex'), Buffer.alloc(65_537)]);
    for (const large of [publication, puback]) {
      const bytes = Buffer.concat([large, ours, ours]);
      const { passed, direct } = read([bytes.subarray(0, 40_000), bytes.subarray(40_000)]);
      assert.deepEqual([passed.map(({ length }) => length), direct], [[40_000, large.length - 40_000], 2]);
    }
  });

  test('that are large and cut are gathered in one buffer of their size, which holds the payload', () => {
    const large = publish({ properties: Buffer.alloc(0), payload: Buffer.alloc(66_000, 'p') });
    const bytes = Buffer.concat([large, publish({ properties: Buffer.alloc(0) })]);
    const payloads: Buffer[] = [];
    const reader = new PacketReader({
      hasProperties: true,
      maxMessageSize: LIMIT,
      onPublish: ({ payload }) => payloads.push(payload),
      onPuback: () => true,
      pass: () => assert.fail('nothing of it is the package’s'),
    });
    reader.open();
    for (let at = 0; at < bytes.length; at += 16_384) reader.push(bytes.subarray(at, at + 16_384));
    assert.deepEqual(payloads[0], Buffer.alloc(66_000, 'p'));
    assert.equal(payloads[0].buffer.byteLength, large.length);
    assert.equal(payloads.length, 2);
  });

  test('keep nothing of the chunk they came in alive that they do not need', () => {
    const whole = publish({ properties: Buffer.from('09000163', 'hex') });
    const bytes = Buffer.from(new Uint8Array(whole).buffer);
    const correlationData = new PublishReader(true).read(0x32, bytes, 2, bytes.length)?.properties.correlationData;
    assert.equal(correlationData?.toString(), 'c');
    assert.notEqual(correlationData.buffer, bytes.buffer);
    // A small payload of a large chunk is copied, one that is most of its chunk is not.
    const chunk = Buffer.from(new Uint8Array(4_000).buffer);
    for (const [size, isCopied] of [
      [10, true],
      [2_000, false],
    ] as const) {
      const body = publish({ properties: Buffer.alloc(0), payload: Buffer.alloc(size, 'p') });
      body.copy(chunk);
      const payload = new PublishReader(true).read(0x32, chunk, body.length - size - 9, body.length)?.payload;
      assert.equal(payload?.toString(), 'p'.repeat(size));
      assert.equal(payload.buffer !== chunk.buffer, isCopied);
      // The same when the packet is a part of its own, as the frame of a websocket is.
      const part = chunk.subarray(0, body.length);
      const ofPart = new PublishReader(true).read(0x32, part, body.length - size - 9, body.length)?.payload;
      assert.equal(ofPart?.buffer !== chunk.buffer, isCopied);
    }
  });
});

/** What lives on of a stream once all of it was read, chunk by chunk. */
function kept(chunks: readonly Buffer[], isV5: boolean, memory?: ReadMemory): readonly unknown[] {
  const publishes: ReadPublish[] = [];
  const passed: Buffer[] = [];
  const reader = new PacketReader({
    hasProperties: isV5,
    maxMessageSize: LIMIT,
    memory,
    onPublish: (publish) => publishes.push(publish),
    onPuback: (id) => id === 1,
    pass: (bytes) => {
      passed.push(bytes);
      reader.readElsewhere();
    },
  });
  reader.open();
  for (const chunk of chunks) {
    chunk.copy(memory?.next() ?? chunk);
    reader.push(memory?.read(chunk.length) ?? chunk);
  }
  // Another read.
  memory?.next().fill('!');
  return [publishes.map(seenPublish), Buffer.concat(passed)];
}

test('what is kept of memory that is read into again is not overwritten', () => {
  const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 99 }), fc.integer({ min: 1, max: 65_536 })), {
    minLength: 1,
    maxLength: 9,
  });
  fc.assert(
    fc.property(stream, sizes, ({ isV5, packets }, where) => {
      const chunks = cut(Buffer.concat(packets), where);
      assert.deepEqual(kept(chunks, isV5, new ReadMemory()), kept(chunks, isV5));
    }),
    { numRuns: 300 },
  );
});

test('memory is read into again until something is kept that is a good part of it', () => {
  const memory = new ReadMemory();
  const first = memory.next();
  const small = publish({ properties: Buffer.alloc(0) });
  kept([small, small], true, memory);
  assert.equal(memory.next(), first);
  const large = publish({ properties: Buffer.alloc(0), payload: Buffer.alloc(10_000) });
  kept([large], true, memory);
  assert.equal(memory.next(), first, 'one that came alone is copied: it would keep six times its size');
  kept([Buffer.concat([large, large])], true, memory);
  const second = memory.next();
  assert.notEqual(second, first);
  assert.equal(memory.next(), second);
  kept([Buffer.from('d000', 'hex')], true, memory);
  assert.notEqual(memory.next(), second, 'what the mqtt package is to read is kept by it');
});

test('a PUBLISH that is read here is one that the mqtt package reads as the same, and complains of nothing', () => {
  const mutation = fc.record({
    at: fc.nat(300),
    byte: fc.nat(255),
    kind: fc.constantFrom('set', 'insert', 'remove', 'cut'),
  });
  let taken = 0;
  fc.assert(
    fc.property(publishParts, fc.boolean(), fc.array(mutation, { maxLength: 3 }), (parts, isV5, mutations) => {
      const whole = publish({ ...parts, payload: Buffer.from('pp'), properties: isV5 ? parts.properties : undefined });
      let body = [...whole.subarray(whole.length < 130 ? 2 : 3)];
      for (const { at, byte, kind } of mutations) {
        const place = at % (body.length + 1);
        if (kind === 'set' && place < body.length) body[place] = byte;
        else if (kind === 'insert') body.splice(place, 0, byte);
        else if (kind === 'remove') body.splice(place, 1);
        else if (kind === 'cut') body = body.slice(0, place);
      }
      const bytes = Buffer.from(body);
      const first = parts.first === 0x34 ? 0x32 : parts.first;
      const publishRead = new PublishReader(isV5).read(first, bytes, 0, bytes.length);
      if (publishRead === undefined) return;
      taken += 1;
      const { packets, errors, parse } = elsewhere(isV5);
      parse(packet(first, bytes));
      assert.deepEqual(errors, []);
      assert.equal(packets.length, 1);
      assert.equal(takeDoubledProperties(packets[0]!), undefined);
      assert.equal((packets[0] as mqttPacket.IPublishPacket).properties?.topicAlias, undefined);
      assert.deepEqual(seenPublish(publishRead), seen(packets[0]!));
    }),
    { numRuns: 2_000 },
  );
  assert.ok(taken > 300, `only ${taken} were read at all`);
});
