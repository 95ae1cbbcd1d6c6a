/** What a broker, a proxy or a web server sends before and between messages, and the addresses an operator writes. */
import assert from 'node:assert/strict';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import fc from 'fast-check';
import { attempt } from '../../../src/connection/attempt.js';
import { parseBrokerAddress, type BrokerAddress } from '../../../src/connection/broker-address.js';
import { PublishFilter } from '../../../src/connection/publish-filter.js';
import { connectRefusal, serverEnd } from '../../../src/connection/refusal.js';
import { TlsKeeper } from '../../../src/connection/tls-material.js';
import { openTransport } from '../../../src/connection/transport.js';
import { AgentError } from '../../../src/errors.js';
import { silentLog } from '../../../src/log/log.js';
import { systemClock } from '../../../src/time.js';
import { byteExamples, hostileText, mutated, textExamples } from '../corpus.js';
import { assertReason, caught, claim, SECRET, target, type Target } from '../target.js';

const utf8 = (text: string): Buffer => Buffer.from(text, 'utf8');

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 0x80);
  return Buffer.from([...bytes, rest]);
}

/** One packet of a well-formed stream; `payload` only of a PUBLISH. */
interface Packet {
  readonly bytes: Buffer;
  readonly payload?: Buffer;
  readonly head?: Buffer;
  readonly first: number;
}

const payloadSize = fc.oneof(
  { weight: 8, arbitrary: fc.nat(300) },
  { weight: 1, arbitrary: fc.integer({ min: 60_000, max: 70_000 }) },
);

function publish(first: number, topic: Buffer, properties: Buffer | undefined, payload: Buffer): Packet {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(topic.length);
  const id = ((first >> 1) & 3) > 0 ? Buffer.of(0, 7) : Buffer.alloc(0);
  const more = properties === undefined ? [] : [varint(properties.length), properties];
  const head = Buffer.concat([length, topic, id, ...more]);
  const bytes = Buffer.concat([Buffer.of(first), varint(head.length + payload.length), head, payload]);
  return { bytes, payload, head, first };
}

const packets = (hasProperties: boolean): fc.Arbitrary<readonly Packet[]> =>
  fc.array(
    fc.oneof(
      {
        weight: 3,
        arbitrary: fc
          .tuple(fc.constantFrom(0x30, 0x31, 0x32, 0x3a, 0x34), fc.nat(40), fc.nat(300), payloadSize)
          .map(([first, topic, properties, size]) =>
            publish(
              first,
              Buffer.alloc(topic, 0x74),
              hasProperties ? Buffer.alloc(properties, 1) : undefined,
              Buffer.alloc(size, 0x70),
            ),
          ),
      },
      {
        weight: 1,
        arbitrary: fc
          .tuple(fc.constantFrom(0x20, 0x40, 0x90, 0xd0, 0xe0, 0x62), fc.uint8Array({ maxLength: 200 }))
          .map(([first, body]) => ({ first, bytes: Buffer.concat([Buffer.of(first), varint(body.length), body]) })),
      },
    ),
    { maxLength: 6 },
  );

export const LARGEST = 200;
const KEPT = 64 * 1024;

/** The same bytes in pieces: at the places given, or a byte at a time (of a long stream its beginning). */
export function pieces(bytes: Buffer, cuts: readonly number[] | 'bytes'): Buffer[] {
  if (cuts === 'bytes' && bytes.length < 5_000) return Array.from(bytes, (_, at) => bytes.subarray(at, at + 1));
  const inside = cuts === 'bytes' ? [1, 2, 3, 4, 5, 6, 7, 8] : cuts;
  const places = [...new Set([0, bytes.length, ...inside.map((cut) => cut % (bytes.length + 1))])].sort(
    (a, b) => a - b,
  );
  return places.slice(1).map((end, n) => bytes.subarray(places[n] ?? 0, end));
}

interface Filtered {
  readonly bytes: Buffer;
  readonly sizes: readonly (number | undefined)[];
}

function filtered(parts: readonly Buffer[], hasProperties: boolean): Filtered {
  const out: Buffer[] = [];
  const filter = new PublishFilter({
    maxMessageSize: LARGEST,
    hasProperties,
    output: (bytes) => void out.push(Buffer.from(bytes)),
  });
  for (const part of parts) filter.push(part);
  return { bytes: Buffer.concat(out), sizes: Array.from({ length: 8 }, (_, n) => filter.sizeBeforeCut(n)) };
}

/** What the filter should make of well-formed packets, said without any state. */
function expected(list: readonly Packet[]): Filtered {
  const sizes = list.flatMap(({ payload }) => (payload === undefined ? [] : [payload.length]));
  const bytes = list.map(({ bytes: whole, payload, head, first }) => {
    if (payload === undefined || head === undefined || payload.length <= LARGEST) return whole;
    const kept = payload.subarray(0, KEPT);
    return Buffer.concat([Buffer.of(first), varint(head.length + kept.length), head, kept]);
  });
  return {
    bytes: Buffer.concat(bytes),
    sizes: Array.from({ length: 8 }, (_, n) => ((sizes[n] ?? 0) > LARGEST ? sizes[n] : undefined)),
  };
}

const cuts = fc.oneof(fc.array(fc.nat(80_000), { maxLength: 12 }), fc.constant<'bytes'>('bytes'));

/** A server on the loopback that answers the first bytes of each client with what the test says, and hangs up. */
class Answerer {
  #server: Server | undefined;
  #port: Promise<number> | undefined;
  readonly #sockets = new Set<Socket>();
  #answer: Buffer = Buffer.alloc(0);

  /** `run` with the port of a server that answers so. */
  async with<T>(answer: Buffer, run: (port: number) => Promise<T>): Promise<T> {
    this.#answer = answer;
    this.#port ??= this.#listen();
    return run(await this.#port);
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    const server = this.#server;
    this.#server = this.#port = undefined;
    if (server !== undefined) await new Promise<void>((resolve) => server.close(() => resolve()));
  }

  #listen(): Promise<number> {
    const server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      socket.on('error', () => undefined);
      const answer = this.#answer;
      socket.once('data', () => socket.end(answer));
    });
    this.#server = server;
    return new Promise((resolve) =>
      server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port)),
    );
  }
}

const handshakes = new Answerer();
const brokers = new Answerer();
const HANDSHAKES = [
  'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n',
  'HTTP/1.1 200 OK\r\n\r\n ',
  'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 3\r\n\r\nno!',
  'HTTP/1.1 502 Bad\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n',
].map(utf8);

async function handshake(answer: Buffer, isProxy: boolean): Promise<string> {
  return handshakes.with(answer, async (port) => {
    const broker = parseBrokerAddress(isProxy ? 'mqtt://broker.example:1883' : `ws://127.0.0.1:${port}/mqtt`);
    const proxy = isProxy ? `http://ann:${SECRET}@127.0.0.1:${port}` : undefined;
    try {
      const stream = await openTransport({ broker, proxy, secureContext: undefined }, AbortSignal.timeout(5_000));
      stream.on('error', () => undefined);
      stream.destroy();
      return 'open';
    } catch (error) {
      claim(error instanceof Error);
      return error.message;
    }
  });
}

const CONNACK = Buffer.from('2003000000', 'hex');
const SUBACK = Buffer.from('900400010001', 'hex');
export const STREAMS = [
  Buffer.concat([
    CONNACK,
    SUBACK,
    publish(0x32, utf8('in/x'), Buffer.alloc(0), utf8('{"a":1}')).bytes,
    Buffer.from('e000', 'hex'),
  ]),
  Buffer.concat([Buffer.from('200a000007210014130000220005', 'hex'), SUBACK]),
  Buffer.concat([CONNACK, SUBACK, Buffer.from('40020001', 'hex'), Buffer.from('d000', 'hex')]),
  // A property twice that may stand there once: the server's keepalive, and the response topic of a PUBLISH.
  Buffer.from('200900000613003c13003c', 'hex'),
  Buffer.concat([
    CONNACK,
    SUBACK,
    publish(
      0x32,
      utf8('in/x'),
      Buffer.from('080001610800016209000163090001640200000001' + '0200000001', 'hex'),
      utf8('{}'),
    ).bytes,
  ]),
  // What is read before the mqtt package: everyday packets, also the first of a stream.
  Buffer.concat([
    publish(0x32, utf8('in/x'), Buffer.from('09000163', 'hex'), utf8('{"a":1}')).bytes,
    Buffer.from('40020001', 'hex'),
    publish(0x30, utf8('in/y'), Buffer.alloc(0), utf8('{}')).bytes,
    Buffer.from('4003000210', 'hex'),
  ]),
  Buffer.from('20020005', 'hex'),
  Buffer.from('2003008400', 'hex'),
];

interface Conversation {
  readonly reason: string;
  readonly messages: number;
  readonly bytes: number;
}

/** A whole connection to a broker that says these bytes and hangs up. */
async function converse(bytes: Buffer): Promise<Conversation> {
  let [messages, received] = [0, 0];
  return brokers.with(bytes, async (port) => {
    const broker: BrokerAddress = parseBrokerAddress(`mqtt://127.0.0.1:${port}`);
    const outcome = await attempt(
      broker,
      '5',
      {
        clientId: 'c',
        credentials: () => ({}),
        tls: new TlsKeeper(
          () => undefined,
          () => 0,
        ),
        will: () => Promise.resolve(undefined),
        proxy: () => undefined,
        subscriptions: ['in/#'],
        keepalive: 60_000,
        sessionExpiry: 0,
        connectTimeout: 5_000,
        maxMessageSize: 1_000,
        receiveMaximum: 10,
        clock: systemClock,
        log: silentLog,
        onMessage: (delivery) => {
          messages += 1;
          received += delivery.payload.length;
          delivery.ack();
        },
      },
      new AbortController().signal,
    );
    const reason = outcome.kind === 'failed' ? outcome.failure.reason : (await outcome.link.ended).reason;
    return { reason, messages, bytes: received };
  });
}

const pem = [
  '-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUfx\n-----END CERTIFICATE-----\n',
  '-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n',
];

export const connectionTargets: readonly Target[] = [
  target('PublishFilter, a well-formed stream in pieces', {
    inputs: fc.boolean().chain((hasProperties) => fc.tuple(packets(hasProperties), cuts, fc.constant(hasProperties))),
    share: 0.5,
    run: ([list, where, hasProperties]) =>
      filtered(pieces(Buffer.concat(list.map(({ bytes }) => bytes)), where), hasProperties),
    judge: ({ bytes, sizes }, [list]) => {
      const model = expected(list);
      claim(bytes.equals(model.bytes), 'other bytes than those of the model');
      assert.deepEqual(sizes, model.sizes);
    },
  }),
  target('PublishFilter, any bytes', {
    inputs: fc.tuple(mutated(STREAMS), fc.array(fc.nat(400), { maxLength: 6 }), fc.boolean()),
    examples: byteExamples.flatMap((bytes): [Buffer, number[], boolean][] => [
      [bytes, [1, 2, 3], true],
      [bytes, [], false],
    ]),
    share: 2,
    run: ([bytes, where, hasProperties]) => filtered(pieces(bytes, where), hasProperties),
    judge: (inPieces, [bytes, , hasProperties]) => {
      claim(inPieces.bytes.length <= bytes.length);
      const atOnce = filtered([bytes], hasProperties);
      const byteByByte = bytes.length < 2_000 ? filtered(pieces(bytes, 'bytes'), hasProperties) : atOnce;
      for (const other of [atOnce, byteByByte]) {
        claim(inPieces.bytes.equals(other.bytes), 'it depends on where the stream was cut');
        assert.deepEqual(inPieces.sizes, other.sizes);
      }
    },
  }),
  target('a connection to a broker that speaks garbage', {
    inputs: mutated(STREAMS, 8_192),
    examples: [...byteExamples, ...STREAMS],
    share: 0.05,
    run: converse,
    judge: ({ reason, messages, bytes }, input) => {
      assertReason(reason);
      claim(messages <= input.length / 4 && bytes <= input.length);
    },
    close: () => brokers.close(),
  }),
  target('the handshake of a websocket', {
    inputs: mutated(HANDSHAKES, 20_000),
    examples: [...byteExamples, ...HANDSHAKES],
    share: 0.03,
    run: (answer) => handshake(answer, false),
    judge: (said) => assertReason(said),
    close: () => handshakes.close(),
  }),
  target('the answer of a proxy to CONNECT', {
    inputs: mutated(HANDSHAKES, 20_000),
    examples: [...byteExamples, ...HANDSHAKES],
    share: 0.03,
    run: (answer) => handshake(answer, true),
    judge: (said) => assertReason(said),
    close: () => handshakes.close(),
  }),
  target('parseBrokerAddress', {
    inputs: fc.oneof(
      hostileText(['mqtt://host:1883', 'wss://[::1]:8084/mqtt?x=1', 'ssl://host', 'tcp://ann:pw@h']),
      fc
        .tuple(
          fc.constantFrom('mqtt://', 'mqtts://', 'ws://', 'http://', 'MQTT://', '', 'mqtt:/', '://'),
          hostileText(['ann', 'a%20b', ''], 40),
          fc.constantFrom('', '/', '#', '%', '@', ':', '?', ' '),
          hostileText(['host:1883', '[::1', 'host:port', 'ho st', 'host:99999'], 60),
        )
        // Without what would make the secret a part of the path.
        .map(
          ([scheme, user, odd, host]) =>
            `${scheme}${user.replace(/[/?#\\@]/g, '')}:${SECRET}${odd}@${host.replaceAll('@', '')}`,
        )
        .filter((text) => !/[/?#\\].*@/.test(text.replace(/^[^/]*:?\/\//, '')) || !URL.canParse(text)),
    ),
    examples: textExamples,
    run: (text) => caught(() => parseBrokerAddress(text)),
    judge: (outcome) => {
      if ('error' in outcome) {
        claim(outcome.error instanceof AgentError && outcome.error.code === 'config.invalid');
        assertReason(outcome.error.message);
        return;
      }
      const { text, port } = outcome.value;
      assertReason(text, 66_000);
      claim(port >= 0 && port <= 65_535);
    },
  }),
  target('reason codes of the broker', {
    inputs: fc.integer({ min: -1, max: 300 }),
    share: 0.2,
    run: (code) => {
      const broker = parseBrokerAddress('mqtt://host');
      return [connectRefusal(code, broker).reason, serverEnd(code, broker).reason];
    },
    judge: (reasons) => reasons.forEach((reason) => assertReason(reason)),
  }),
  target('TLS material', {
    inputs: fc.record({
      cert: fc.option(hostileText(pem), { nil: undefined }),
      key: fc.option(hostileText(pem), { nil: undefined }),
      ca: fc.option(hostileText(pem), { nil: undefined }),
    }),
    share: 0.1,
    run: (material) =>
      new TlsKeeper(
        () => material,
        () => 0,
      ).current(),
    judge: (context) => {
      if (context.problem !== undefined) assertReason(context.problem);
    },
  }),
];
