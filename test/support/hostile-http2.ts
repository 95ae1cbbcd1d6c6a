/**
 * A client of HTTP/2 that keeps to no rule: raw frames on a Unix socket, as a hostile or broken worker may send them.
 * Each attack ends by itself: when all is written, when the other side hangs up, or when its time is over.
 */
import { connect, type Socket } from 'node:net';
import type { Random } from '../../src/time.js';

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
export const [DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION] = [
  0, 1, 3, 4, 6, 7, 8, 9,
];
export const [ACK, END_STREAM, END_HEADERS] = [1, 1, 4];
/** How long one attack goes on at most. */
const LONGEST_MS = 1_000;

/** A frame of HTTP/2. */
export function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

function literal(text: string): Buffer {
  return Buffer.concat([Buffer.of(text.length), Buffer.from(text)]);
}

/** The headers of a request, as HPACK without a table of its own. */
function request(method: string, path: string, contentType: string): Buffer {
  return Buffer.concat([
    Buffer.of(0x02),
    literal(method),
    // Only CONNECT has no scheme and no path.
    ...(path === '' ? [] : [Buffer.from([0x86, 0x04]), literal(path)]),
    Buffer.of(0x01),
    literal('localhost'),
    Buffer.from([0x0f, 0x10]),
    literal(contentType),
    Buffer.of(0x00),
    literal('te'),
    literal('trailers'),
  ]);
}

const SEND = '/yggdrasil.Dispatcher/Send';
/** Of a gRPC call. */
export const CALL = request('POST', SEND, 'application/grpc');
export const OPEN = Buffer.concat([PREFACE, frame(SETTINGS, 0, 0)]);
/** Of every GOAWAY: its type, no flags, no stream. */
export const GOODBYE = frame(GOAWAY, 0, 0).subarray(3);
const PIECE = Buffer.alloc(16_384, 0x61);

/** Odd numbers from 1: the streams of a client. */
const streamOf = (n: number): number => 2 * n + 1;

function* repeated(count: number, piece: (n: number) => Buffer): Generator<Buffer> {
  for (let n = 0; n < count; n++) yield piece(n);
}

function randomBytes(random: Random, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => Math.floor(random() * 256)));
}

/** What each attack writes, in pieces. */
export const ATTACKS: Readonly<Record<string, (random: Random) => Iterable<Buffer>>> = {
  'garbage instead of a preface': (random) => repeated(4, () => randomBytes(random, 16_384)),
  'garbage behind the preface': (random) => [OPEN, ...repeated(4, () => randomBytes(random, 16_384))],
  'frames of any type with any content': (random) => [
    OPEN,
    ...repeated(2_000, () =>
      frame(Math.floor(random() * 12), Math.floor(random() * 256), Math.floor(random() * 8), randomBytes(random, 30)),
    ),
  ],
  'HTTP/1.1': () => [
    Buffer.from('POST /yggdrasil.Dispatcher/Send HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\n'),
  ],
  'calls that are taken back at once': () =>
    concat(
      [OPEN],
      repeated(20_000, (n) =>
        Buffer.concat([
          frame(HEADERS, END_HEADERS, streamOf(n), CALL),
          frame(RST_STREAM, 0, streamOf(n), Buffer.from('00000008', 'hex')),
        ]),
      ),
    ),
  'requests that are none of gRPC': () =>
    concat(
      [OPEN],
      repeated(2_000, (n) => {
        const headers = [
          request('HEAD', SEND, 'application/grpc'),
          request('CONNECT', '', 'application/grpc'),
          request('GET', '*', 'application/grpc'),
          request('POST', SEND, 'text/plain'),
        ];
        return Buffer.concat([
          frame(HEADERS, END_HEADERS, streamOf(n), headers[n % 4]),
          frame(DATA, n % 3 === 0 ? END_STREAM : 0, streamOf(n), Buffer.alloc(5)),
          frame(RST_STREAM, 0, streamOf(n), Buffer.of(0, 0, 0, (n % 2) * 8)),
        ]);
      }),
    ),
  'a flood of settings': () =>
    concat(
      [OPEN],
      repeated(50_000, () => frame(SETTINGS, 0, 0, Buffer.from('000300000064', 'hex'))),
    ),
  'a flood of pings': () =>
    concat(
      [OPEN],
      repeated(50_000, () => frame(PING, 0, 0, Buffer.alloc(8))),
    ),
  'acknowledgements of nothing': () =>
    concat(
      [OPEN],
      repeated(50_000, () => frame(SETTINGS, ACK, 0)),
    ),
  'headers without end': () =>
    concat(
      [OPEN, frame(HEADERS, 0, 1, CALL)],
      repeated(4_000, () => frame(CONTINUATION, 0, 1, PIECE)),
    ),
  'one very large header': () =>
    concat(
      [OPEN, frame(HEADERS, 0, 1, Buffer.concat([CALL, Buffer.from('00017d7fffffff07', 'hex')]))],
      repeated(4_000, () => frame(CONTINUATION, 0, 1, PIECE)),
    ),
  'a message of 4 GiB announced': () =>
    concat(
      [OPEN, frame(HEADERS, END_HEADERS, 1, CALL), frame(DATA, 0, 1, Buffer.from('00ffffffff', 'hex'))],
      repeated(4_000, () => frame(DATA, 0, 1, PIECE)),
    ),
  'a call of messages without end': () =>
    concat(
      [OPEN, frame(HEADERS, END_HEADERS, 1, CALL)],
      repeated(10_000, () => frame(DATA, 0, 1, Buffer.alloc(5_000))),
    ),
  'calls that never send their message': () =>
    concat(
      [OPEN],
      repeated(5_000, (n) => frame(HEADERS, END_HEADERS, streamOf(n), CALL)),
    ),
  'calls whose message is no protobuf': (random) =>
    concat(
      [OPEN],
      repeated(100, (n) => {
        const body = randomBytes(random, 200);
        const prefix = Buffer.from([0, 0, 0, 0, 200]);
        return Buffer.concat([
          frame(HEADERS, END_HEADERS, streamOf(n), CALL),
          frame(DATA, END_STREAM, streamOf(n), Buffer.concat([prefix, body])),
        ]);
      }),
    ),
  'calls whose answers nobody takes': () =>
    concat(
      [PREFACE, frame(SETTINGS, 0, 0, Buffer.from('000400000000', 'hex'))],
      repeated(2_000, (n) =>
        Buffer.concat([
          frame(HEADERS, END_HEADERS, streamOf(n), CALL),
          frame(DATA, END_STREAM, streamOf(n), Buffer.alloc(5)),
        ]),
      ),
    ),
};

function* concat(...parts: readonly Iterable<Buffer>[]): Generator<Buffer> {
  for (const part of parts) yield* part;
}

/** Resolves when the attack is over and its socket closed. Answers are read, but for an attack that says otherwise. */
export async function attack(path: string, pieces: Iterable<Buffer>): Promise<void> {
  const socket = await open(path);
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  const timer = setTimeout(() => socket.destroy(), LONGEST_MS);
  try {
    for (const piece of pieces) {
      if (socket.destroyed) break;
      if (!socket.write(piece))
        await Promise.race([new Promise<void>((resolve) => socket.once('drain', resolve)), closed]);
    }
    socket.end();
    await closed;
  } finally {
    clearTimeout(timer);
  }
}

/** A connection that is only held; `greet` says the preface. */
export async function hold(path: string, greet: boolean): Promise<Socket> {
  const socket = await open(path);
  if (greet) socket.write(OPEN);
  return socket;
}

function open(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const failed = (error: NodeJS.ErrnoException): void => {
      // The agent is behind with accepting: its queue of connections is full just now.
      if (error.code === 'EAGAIN') setImmediate(() => resolve(open(path)));
      else reject(error);
    };
    socket.once('error', failed);
    socket.once('connect', () => {
      socket.removeListener('error', failed);
      // To be cut off is what an attacker has to expect.
      socket.on('error', () => undefined);
      socket.resume();
      resolve(socket);
    });
  });
}
