/** What a server may do to the client that is ours: a worker is not trusted, and its agent must outlive it. */
import assert from 'node:assert/strict';
import { createServer, type ServerHttp2Stream } from 'node:http2';
import { createServer as createListener, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { status } from '@grpc/grpc-js';
import { framed, GrpcChannel, methodAt, type CallStatus } from '../../../src/grpc/index.js';
import { OneMessage } from '../../../src/grpc/frame.js';
import type { GrpcChannelOptions } from '../../../src/grpc/grpc-channel.js';
import type { UnaryCall } from '../../../src/grpc/unary-call.js';
import { WorkerLink } from '../../../src/dispatcher/link.js';
import { systemClock } from '../../../src/time.js';
import { between, seeded } from '../../support/seeded.js';
import { inboundRecord } from '../../support/messages.js';
import { tempDir } from '../../support/temp.js';

const ASK = methodAt('/test.Service/Ask');
const WELL = { ':status': 200, 'content-type': 'application/grpc' };
const [DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION] = [0, 1, 3, 4, 6, 7, 9];

type Outcome = Buffer | CallStatus;

function http2Frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

const GREETING = http2Frame(SETTINGS, 0, 0);
const FAREWELL = http2Frame(GOAWAY, 0, 0, Buffer.alloc(8));

function literal(text: string): Buffer {
  return Buffer.concat([Buffer.of(text.length), Buffer.from(text)]);
}

interface Place extends AsyncDisposable {
  readonly channel: GrpcChannel;
  readonly sockets: readonly Socket[];
  ask(message: Buffer): Promise<Outcome>;
  /** Resolves when the channel is ready next. */
  ready(): Promise<void>;
}

interface Listener {
  listen(path: string, listening: () => void): unknown;
  close(): unknown;
  on(event: 'connection', listener: (socket: Socket) => void): unknown;
}

async function place(server: Listener, options: Partial<GrpcChannelOptions> = {}): Promise<Place> {
  const directory = await tempDir();
  const path = join(directory.path, 's');
  const sockets: Socket[] = [];
  server.on('connection', (socket) => {
    socket.on('error', () => undefined);
    sockets.push(socket);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  let told: () => void = () => undefined;
  const onReady = (): void => told();
  const channel = new GrpcChannel({
    path,
    maxReceive: 1024 * 1024,
    random: () => 0.5,
    staysConnected: true,
    onReady,
    ...options,
  });
  return {
    channel,
    sockets,
    ask: (message) =>
      new Promise((resolve) => {
        channel.call(ASK, framed(message), (failure, answer) => resolve(failure ?? answer));
      }),
    ready: async () => {
      if (!channel.isReady) await new Promise<void>((resolve) => (told = resolve));
    },
    [Symbol.asyncDispose]: async () => {
      channel.close();
      server.close();
      for (const socket of sockets) socket.destroy();
      await directory[Symbol.asyncDispose]();
    },
  };
}

/** Answers each call in this way, at once. */
function answering(answer: (stream: ServerHttp2Stream) => void): Listener {
  const server = createServer();
  server.on('stream', (stream) => {
    stream.on('error', () => undefined);
    answer(stream);
  });
  return server;
}

/** Writes this to whoever connects, and keeps its end open whatever comes. */
function raw(bytes: Buffer): Listener {
  return createListener({ allowHalfOpen: true }, (socket) => {
    socket.resume();
    socket.write(bytes);
  });
}

function answerWith(stream: ServerHttp2Stream, bytes: Buffer, trailers: Record<string, string>): void {
  stream.respond(WELL, { waitForTrailers: true });
  stream.once('wantTrailers', () => stream.sendTrailers(trailers));
  stream.end(bytes);
}

test('of a message that the other side answers without reading it, nothing is kept', { timeout: 10_000 }, async () => {
  const trailers = Buffer.concat([Buffer.of(0), literal('grpc-status'), literal('0')]);
  let isReset: () => void = () => undefined;
  const reset = new Promise<void>((resolve) => (isReset = resolve));
  const server = createListener((socket) => {
    socket.write(GREETING);
    const came: Buffer[] = [];
    let isAnswered = false;
    socket.on('data', (chunk) => {
      came.push(chunk);
      // The window of 64 KiB is full.
      if (!isAnswered && Buffer.concat(came).length > 65_535) {
        isAnswered = true;
        socket.write(http2Frame(HEADERS, 4, 1, Buffer.of(0x88)));
        socket.write(http2Frame(DATA, 0, 1, framed(Buffer.from('thanks'))));
        socket.write(http2Frame(HEADERS, 5, 1, trailers));
      }
      if (Buffer.concat(came).includes(http2Frame(RST_STREAM, 0, 1, Buffer.from('00000008', 'hex')))) isReset();
    });
  });
  await using at = await place(server);
  assert.deepEqual(await at.ask(Buffer.alloc(1024 * 1024)), Buffer.from('thanks'));
  await reset;
});

test('somebody who sends each connection away at once does not keep the channel busy', async () => {
  await using at = await place(raw(Buffer.concat([GREETING, FAREWELL])));
  at.channel.open();
  await delay(400);
  assert.ok(at.sockets.length > 1, 'it connects again');
  assert.ok(at.sockets.length < 9, `it connected ${at.sockets.length} times`);
});

test('somebody who never hangs up does not keep a connection that is over', { timeout: 10_000 }, async () => {
  for (const bytes of [Buffer.concat([GREETING, FAREWELL]), FAREWELL]) {
    await using at = await place(raw(bytes), { staysConnected: false });
    at.channel.open();
    while (at.sockets.length === 0) await delay(1);
    const [socket] = at.sockets;
    assert.ok(socket !== undefined);
    const gone = new Promise((resolve) => socket.once('error', resolve));
    // Whoever has only shut down its side takes this.
    const knock = setInterval(() => socket.write(GREETING), 5);
    await gone;
    clearInterval(knock);
  }
});

test('a page of a server that is none of gRPC counts by its HTTP status', async () => {
  await using at = await place(
    answering((stream) => {
      stream.respond({ ':status': 503, 'content-type': 'text/html' });
      stream.end('<html>later</html>');
    }),
  );
  const outcome = await at.ask(Buffer.from('x'));
  assert.deepEqual(outcome, { code: status.UNAVAILABLE, details: 'Received HTTP status code 503' });
});

test('a status that is no number of gRPC is not OK', async () => {
  const texts = ['', ' ', '0x0', '00', '-0', '0, 0', 'OK', '17', '1e1'];
  let next = 0;
  await using at = await place(
    answering((stream) => answerWith(stream, framed(Buffer.from('x')), { 'grpc-status': texts[next] ?? '' })),
  );
  for (const [index, text] of texts.entries()) {
    next = index;
    const outcome = await at.ask(Buffer.from('x'));
    assert.ok(!Buffer.isBuffer(outcome), `"${text}" was taken`);
    assert.equal(outcome.code, status.UNKNOWN, `"${text}"`);
  }
});

test('an answer that comes in crumbs takes no more memory than one that comes at once', () => {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  const size = 400_000;
  const bytes = framed(Buffer.alloc(size, 'a'));
  const answer = new OneMessage(size);
  gc();
  const before = process.memoryUsage();
  for (let at = 0; at < bytes.length; at++) assert.equal(answer.push(bytes.subarray(at, at + 1)), undefined);
  gc();
  const after = process.memoryUsage();
  const grown = after.heapUsed + after.external - before.heapUsed - before.external;
  assert.ok(grown < 10 * size, `${grown} bytes for ${size}`);
  assert.deepEqual(answer.message, bytes.subarray(5));
});

test('a connection is left before its streams are numbered to the last, and no call is lost by that', async () => {
  const server = answering((stream) => {
    stream.resume();
    setTimeout(() => answerWith(stream, framed(Buffer.from('well')), { 'grpc-status': '0' }), 5);
  });
  await using at = await place(server, { callsEach: 10 });
  const answers = await Promise.all(Array.from({ length: 25 }, () => at.ask(Buffer.from('x'))));
  assert.deepEqual(answers.map(String), new Array(25).fill('well'));
  assert.equal(at.sockets.length, 3);
});

test('where no stream is allowed a call that is given up leaves nothing, and later ones go through', async () => {
  const server = createServer({ settings: { maxConcurrentStreams: 0 } });
  let told = 0;
  server.on('stream', (stream) => answerWith(stream, framed(Buffer.from('well')), { 'grpc-status': '0' }));
  await using at = await place(server, { within: 20 });
  const sessions: { settings(of: { maxConcurrentStreams: number }): void }[] = [];
  server.on('session', (session) => sessions.push(session));
  const cancelled: UnaryCall[] = Array.from({ length: 50 }, () =>
    at.channel.call(ASK, framed(Buffer.from('x')), () => (told += 1)),
  );
  const late = await Promise.all(Array.from({ length: 50 }, () => at.ask(Buffer.from('x'))));
  for (const outcome of late) assert.equal(Buffer.isBuffer(outcome) || outcome.code, status.DEADLINE_EXCEEDED);
  for (const call of cancelled) call.cancel();
  assert.equal(told, 50, 'each of them was told once');
  sessions[0]?.settings({ maxConcurrentStreams: 100 });
  assert.deepEqual(await at.ask(Buffer.from('x')), Buffer.from('well'));
});

const RECORD = inboundRecord({ content: { kind: 'file', path: '/nowhere', size: 1 } });

test('a call whose connection breaks when there is another one already is told as broken', async () => {
  const streams: ServerHttp2Stream[] = [];
  let isHeard: () => void = () => undefined;
  const heard = new Promise<void>((resolve) => (isHeard = resolve));
  const server = answering((stream) => {
    streams.push(stream);
    stream.session?.goaway(0);
    isHeard();
  });
  await using directory = await tempDir();
  const path = join(directory.path, 's');
  const sockets: Socket[] = [];
  server.on('connection', (socket) => sockets.push(socket));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  let told: () => void = () => undefined;
  const link = new WorkerLink({
    path,
    maxReceive: 99,
    maxSend: () => 1_000,
    clock: systemClock,
    random: () => 0.5,
    admits: () => true,
    onReady: () => told(),
  });
  const ready = (): Promise<void> => new Promise((resolve) => (told = resolve));
  const first = ready();
  link.open();
  await first;
  const second = ready();
  const answer = new Promise<unknown>((resolve) => link.send({ record: RECORD, report: resolve }, Buffer.from('x')));
  await heard;
  await second;
  sockets[0]?.destroy();
  assert.deepEqual(await answer, {
    kind: 'status',
    code: status.UNAVAILABLE,
    details: 'Connection dropped',
    isConnected: false,
  });
  link.close();
  server.close();
  for (const socket of sockets) socket.destroy();
});

test('a stream that is cancelled before there is a connection is not begun', async () => {
  let begun = 0;
  await using at = await place(answering(() => (begun += 1)));
  const ended = new Promise<CallStatus>((resolve) => {
    const call = at.channel.stream(ASK, { onMessage: () => undefined, onEnd: resolve });
    call.write(framed(Buffer.from('hello')));
    call.cancel();
  });
  assert.equal((await ended).code, status.CANCELLED);
  await at.ready();
  assert.equal(await Promise.race([at.ask(Buffer.from('x')), delay(100, 'silence')]), 'silence');
  assert.equal(begun, 1);
});

/** What a server may write behind its greeting. */
const ATTACKS: Readonly<Record<string, (random: () => number) => Buffer>> = {
  garbage: (random) => Buffer.from(Array.from({ length: 20_000 }, () => Math.floor(random() * 256))),
  'frames of any kind': (random) =>
    Buffer.concat(
      Array.from({ length: 500 }, () =>
        http2Frame(
          between(random, 0, 11),
          between(random, 0, 255),
          between(random, 0, 9),
          Buffer.from(Array.from({ length: between(random, 0, 30) }, () => between(random, 0, 255))),
        ),
      ),
    ),
  'a flood of settings': () => many(5_000, http2Frame(SETTINGS, 0, 0, Buffer.from('000300000064', 'hex'))),
  'a flood of pings': () => many(5_000, http2Frame(PING, 0, 0, Buffer.alloc(8))),
  'acknowledgements of nothing': () => many(5_000, http2Frame(SETTINGS, 1, 0)),
  'resets of all and nothing': () => many(5_000, http2Frame(RST_STREAM, 0, 1, Buffer.from('00000008', 'hex'))),
  'farewells without end': () => many(2_000, FAREWELL),
  'headers without end': () =>
    Buffer.concat([
      http2Frame(HEADERS, 0, 1, Buffer.of(0x88)),
      many(100, http2Frame(CONTINUATION, 0, 1, Buffer.alloc(16_384, 0x88))),
    ]),
  'very many headers': () => http2Frame(HEADERS, 4, 1, Buffer.concat([Buffer.of(0x88), many(4_000, Buffer.of(0x8f))])),
  'answers before the answer': () =>
    // :status 103, as a literal.
    many(3_000, http2Frame(HEADERS, 4, 1, Buffer.concat([Buffer.from([0x08, 3]), Buffer.from('103')]))),
  'data behind the end': () =>
    Buffer.concat([
      http2Frame(HEADERS, 4, 1, Buffer.of(0x88)),
      http2Frame(DATA, 1, 1, Buffer.alloc(5)),
      many(100, http2Frame(DATA, 1, 1, Buffer.alloc(5_000))),
    ]),
  'more data than there is room for': () =>
    Buffer.concat([
      http2Frame(HEADERS, 4, 1, Buffer.of(0x88)),
      many(100, http2Frame(DATA, 0, 1, Buffer.alloc(16_384))),
    ]),
  'a message of 4 GiB announced': () =>
    Buffer.concat([
      http2Frame(HEADERS, 4, 1, Buffer.of(0x88)),
      http2Frame(DATA, 0, 1, Buffer.from('00ffffffff', 'hex')),
    ]),
  'an abrupt farewell': () => http2Frame(GOAWAY, 0, 0, Buffer.from('000000000000000b', 'hex')),
};

function many(count: number, bytes: Buffer): Buffer {
  return Buffer.concat(Array.from({ length: count }, () => bytes));
}

for (const [name, attack] of Object.entries(ATTACKS)) {
  test(`under ${name} each call ends once, and the process stands`, { timeout: 20_000 }, async () => {
    for (let seed = 1; seed <= (name === 'garbage' || name.startsWith('frames') ? 8 : 1); seed++) {
      const bytes = attack(seeded(seed));
      const server = createListener((socket) => {
        socket.write(GREETING);
        // Its calls are there by now.
        socket.on('data', (chunk) => chunk.length > 80 && socket.write(bytes));
      });
      await using at = await place(server, { within: 100 });
      const told = new Array<number>(5).fill(0);
      await Promise.all(
        told.map(
          (_, index) =>
            new Promise<void>((resolve) => {
              at.channel.call(ASK, framed(Buffer.from('x')), () => {
                told[index] = (told[index] ?? 0) + 1;
                resolve();
              });
            }),
        ),
      );
      for (const socket of at.sockets) socket.destroy();
      await new Promise(setImmediate);
      assert.deepEqual(told, [1, 1, 1, 1, 1]);
    }
  });
}

test('a thousand channels that are closed at any moment leave nothing open', { timeout: 60_000 }, async () => {
  const server = createServer();
  server.on('stream', (stream) => {
    stream.on('error', () => undefined);
    answerWith(stream, framed(Buffer.from('x')), { 'grpc-status': '0' });
  });
  await using directory = await tempDir();
  const path = join(directory.path, 's');
  let open = 0;
  server.on('connection', (socket: Socket) => {
    open += 1;
    socket.once('close', () => (open -= 1));
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const random = seeded(7);
  const held = (): string[] => process.getActiveResourcesInfo().filter((kind) => kind === 'PipeWrap');
  const before = held();
  let asked = 0;
  let ended = 0;
  for (let n = 0; n < 1_000; n++) {
    const channel = new GrpcChannel({ path, maxReceive: 99, random, staysConnected: true, within: 5_000 });
    channel.open();
    for (let calls = between(random, 0, 2); calls > 0; calls--) {
      asked += 1;
      channel.call(ASK, framed(Buffer.from('x')), () => (ended += 1));
    }
    for (let turns = between(random, 0, 8); turns > 0; turns--) await new Promise(setImmediate);
    channel.close();
    channel.close();
  }
  while (ended < asked || open > 0) await delay(10);
  await delay(20);
  assert.equal(ended, asked);
  assert.deepEqual(held(), before);
  server.close();
});
