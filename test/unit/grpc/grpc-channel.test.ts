/** Unary calls by our own hand, at servers of grpc-js and at ones that do what no good server does. */
import assert from 'node:assert/strict';
import { createServer, type ServerHttp2Stream } from 'node:http2';
import { createServer as createListener, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { Server, ServerCredentials, status, type sendUnaryData, type ServerUnaryCall } from '@grpc/grpc-js';
import { framed, methodAt, GrpcChannel, type CallStatus } from '../../../src/grpc/index.js';
import type { GrpcChannelOptions } from '../../../src/grpc/grpc-channel.js';
import { tempDir } from '../../support/temp.js';

type Call = ServerUnaryCall<Buffer, Buffer>;
type Done = sendUnaryData<Buffer>;

const ASK = methodAt('/test.Service/Ask');

/** What a call came to. */
type Outcome = Buffer | CallStatus;

interface Place extends AsyncDisposable {
  readonly path: string;
  readonly channel: GrpcChannel;
  ask(message: Buffer): Promise<Outcome>;
  /** Cuts all connections, and listens on. */
  cut(): void;
  /** Resolves with the next connect; the first one counts. */
  ready(): Promise<void>;
}

type Serve = (path: string) => Promise<{ cut: () => void; close: () => void }>;

/** A server, and a channel to it. */
async function place(serve: Serve, options: Partial<GrpcChannelOptions> = {}): Promise<Place> {
  const directory = await tempDir();
  const path = join(directory.path, 's');
  const server = await serve(path);
  let connects = 0;
  let seen = 0;
  let told: () => void = () => undefined;
  const channel = new GrpcChannel({
    path,
    maxReceive: 1024 * 1024,
    random: () => 0.5,
    staysConnected: true,
    ...options,
    onReady: () => {
      connects += 1;
      told();
    },
  });
  return {
    path,
    channel,
    ask: (message) =>
      new Promise((resolve) => {
        channel.call(ASK, framed(message), (failure, answer) => resolve(failure ?? answer));
      }),
    cut: () => server.cut(),
    ready: async () => {
      while (connects === seen) await new Promise<void>((resolve) => (told = resolve));
      seen += 1;
    },
    [Symbol.asyncDispose]: async () => {
      channel.close();
      server.close();
      await directory[Symbol.asyncDispose]();
    },
  };
}

/** A server of grpc-js with one method. */
function served(handle: (call: Call, done: Done) => void): Serve {
  return async (path) => {
    const server = new Server();
    const same = (bytes: Buffer): Buffer => bytes;
    server.register('/test.Service/Ask', handle, same, same, 'unary');
    const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
    const sockets = new Set<Socket>();
    const listener = createListener((socket) => {
      sockets.add(socket);
      injector.injectConnection(socket);
    });
    await new Promise<void>((resolve) => listener.listen(path, resolve));
    const cut = (): void => {
      for (const socket of sockets) socket.destroy();
      sockets.clear();
    };
    return {
      cut,
      close: () => {
        listener.close();
        server.forceShutdown();
        cut();
      },
    };
  };
}

/** A server of bare HTTP/2, that answers as it likes. */
function bare(answer: (stream: ServerHttp2Stream) => void): Serve {
  return async (path) => {
    const server = createServer();
    const sockets = new Set<Socket>();
    server.on('stream', (stream) => {
      stream.on('error', () => undefined);
      stream.resume();
      stream.once('end', () => answer(stream));
    });
    server.on('connection', (socket: Socket) => sockets.add(socket));
    await new Promise<void>((resolve) => server.listen(path, resolve));
    const cut = (): void => {
      for (const socket of sockets) socket.destroy();
      sockets.clear();
    };
    return {
      cut,
      close: () => {
        server.close();
        cut();
      },
    };
  };
}

const echo = served((call, done) => done(null, call.request));

function failure(outcome: Outcome): CallStatus {
  assert.ok(!Buffer.isBuffer(outcome), 'it was answered');
  return outcome;
}

test('a call brings the answer back, an empty one and one of many packets too, also when it comes before the connection', async () => {
  await using at = await place(echo);
  const sizes = [0, 1, 100, 300_000];
  const answers = await Promise.all(sizes.map((size) => at.ask(Buffer.alloc(size, 'ä'))));
  assert.deepEqual(
    answers,
    sizes.map((size) => Buffer.alloc(size, 'ä')),
  );
});

test('more calls at once than a connection of HTTP/2 has room for by default all get their answers', async () => {
  await using at = await place(echo);
  const answers = await Promise.all(Array.from({ length: 300 }, (_, index) => at.ask(Buffer.from(String(index)))));
  assert.deepEqual(
    answers.map(String),
    Array.from({ length: 300 }, (_, index) => String(index)),
  );
});

test('a status that is not OK is told with its text, whatever letters that has', async () => {
  const details = 'kann nicht: 100 % voll – überall; siehe #3';
  await using at = await place(served((_, done) => done({ code: status.RESOURCE_EXHAUSTED, details })));
  assert.deepEqual(await at.ask(Buffer.from('x')), { code: status.RESOURCE_EXHAUSTED, details });
});

test('a method that the other side does not have is UNIMPLEMENTED', async () => {
  await using at = await place(echo);
  const outcome = await new Promise<Outcome>((resolve) => {
    at.channel.call(methodAt('/test.Service/Other'), framed(Buffer.alloc(1)), (not, answer) => resolve(not ?? answer));
  });
  assert.equal(failure(outcome).code, status.UNIMPLEMENTED);
});

test('an answer that is larger than allowed is not taken', async () => {
  await using at = await place(echo, { maxReceive: 99 });
  assert.deepEqual(await at.ask(Buffer.alloc(99)), Buffer.alloc(99));
  const { code, details } = failure(await at.ask(Buffer.alloc(100)));
  assert.equal(code, status.RESOURCE_EXHAUSTED);
  assert.match(details, /larger than max/);
});

test('a connection that breaks under a call is told as such, the channel is down by then, and connects anew', async () => {
  let isHeard: () => void = () => undefined;
  const heard = new Promise<void>((resolve) => (isHeard = resolve));
  await using at = await place(
    served((call, done) => (call.request.length > 0 ? isHeard() : done(null, call.request))),
  );
  at.channel.open();
  await at.ready();
  let wasReady: boolean | undefined;
  const broken = new Promise<Outcome>((resolve) => {
    at.channel.call(ASK, framed(Buffer.from('x')), (not, answer) => {
      wasReady = at.channel.isReady;
      resolve(not ?? answer);
    });
  });
  await heard;
  at.cut();
  assert.deepEqual(await broken, { code: status.UNAVAILABLE, details: 'Connection dropped' });
  assert.equal(wasReady, false);
  await at.ready();
  assert.deepEqual(await at.ask(Buffer.alloc(0)), Buffer.alloc(0));
});

test('one that does not stay connected connects with its next call', async () => {
  await using at = await place(echo, { staysConnected: false });
  assert.deepEqual(await at.ask(Buffer.from('1')), Buffer.from('1'));
  await at.ready();
  at.cut();
  while (at.channel.isReady) await new Promise(setImmediate);
  assert.deepEqual(await at.ask(Buffer.from('2')), Buffer.from('2'));
  await at.ready();
});

test('where nobody listens a call is UNAVAILABLE, and goes through once somebody does', async () => {
  await using directory = await tempDir();
  const path = join(directory.path, 's');
  let told: () => void = () => undefined;
  const ready = new Promise<void>((resolve) => (told = resolve));
  const random = (): number => 0.5;
  const channel = new GrpcChannel({ path, maxReceive: 99, random, staysConnected: true, onReady: told });
  const ask = (): Promise<Outcome> =>
    new Promise((resolve) => {
      channel.call(ASK, framed(Buffer.from('x')), (not, answer) => resolve(not ?? answer));
    });
  assert.equal(failure(await ask()).code, status.UNAVAILABLE);
  const server = await echo(path);
  await ready;
  assert.deepEqual(await ask(), Buffer.from('x'));
  channel.close();
  server.close();
  assert.equal(failure(await ask()).code, status.UNAVAILABLE);
});

test('somebody who listens and says nothing is not waited for for ever', async () => {
  const silent: Serve = async (path) => {
    const sockets = new Set<Socket>();
    const listener = createListener((socket) => sockets.add(socket));
    await new Promise<void>((resolve) => listener.listen(path, resolve));
    const cut = (): void => {
      for (const socket of sockets) socket.destroy();
    };
    return {
      cut,
      close: () => {
        listener.close();
        cut();
      },
    };
  };
  await using at = await place(silent, { greetedWithin: 50 });
  const { code, details } = failure(await at.ask(Buffer.from('x')));
  assert.equal(code, status.UNAVAILABLE);
  assert.match(details, /does not speak/);
});

test('nothing is said to somebody who is not to be spoken to', async () => {
  let calls = 0;
  await using at = await place(
    served((call, done) => {
      calls += 1;
      done(null, call.request);
    }),
    { admits: () => false },
  );
  assert.equal(failure(await at.ask(Buffer.from('x'))).code, status.UNAVAILABLE);
  assert.equal(calls, 0);
});

test('a call that is cancelled is told to the other side, and to nobody here', async () => {
  let isCancelled: () => void = () => undefined;
  const cancelled = new Promise<void>((resolve) => (isCancelled = resolve));
  let isHeard: () => void = () => undefined;
  const heard = new Promise<void>((resolve) => (isHeard = resolve));
  await using at = await place(
    served((call, done) => {
      if (call.request.length === 0) done(null, call.request);
      else {
        call.on('cancelled', isCancelled);
        isHeard();
      }
    }),
  );
  const call = at.channel.call(ASK, framed(Buffer.from('x')), () => assert.fail('it was told'));
  await heard;
  call.cancel();
  await cancelled;
  assert.deepEqual(await at.ask(Buffer.alloc(0)), Buffer.alloc(0));
});

test('a call that takes too long is DEADLINE_EXCEEDED', async () => {
  await using at = await place(
    served(() => undefined),
    { within: 50 },
  );
  assert.equal(failure(await at.ask(Buffer.from('x'))).code, status.DEADLINE_EXCEEDED);
});

const WELL = { ':status': 200, 'content-type': 'application/grpc' };

test('what comes from a server that is none of gRPC, or a bad one, has a status of its own', async () => {
  const cases: [(stream: ServerHttp2Stream) => void, number][] = [
    [(stream) => stream.respond({ ':status': 404 }, { endStream: true }), status.UNIMPLEMENTED],
    [(stream) => stream.respond({ ':status': 503 }, { endStream: true }), status.UNAVAILABLE],
    [(stream) => stream.respond({ ...WELL, 'grpc-status': '0' }, { endStream: true }), status.UNIMPLEMENTED],
    [(stream) => stream.respond(WELL, { endStream: true }), status.UNKNOWN],
    [(stream) => stream.close(8), status.CANCELLED],
    [(stream) => stream.close(7), status.UNAVAILABLE],
    [(stream) => stream.close(2), status.INTERNAL],
    [(stream) => answer(stream, Buffer.from([1, 0, 0, 0, 1, 7])), status.INTERNAL],
    [(stream) => answer(stream, Buffer.from([0, 0, 0, 0, 1, 7, 8])), status.UNIMPLEMENTED],
    [(stream) => answer(stream, Buffer.from([0, 0, 0, 0, 2, 7])), status.UNIMPLEMENTED],
  ];
  let next = 0;
  await using at = await place(bare((stream) => cases[next]![0](stream)));
  for (const [index, [, code]] of cases.entries()) {
    next = index;
    assert.equal(failure(await at.ask(Buffer.from('x'))).code, code, `case ${index}`);
  }
});

test('an answer may come byte by byte', async () => {
  const bytes = framed(Buffer.from('hello'));
  await using at = await place(
    bare((stream) => {
      stream.respond(WELL, { waitForTrailers: true });
      stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      const one = (index: number): void => {
        if (index === bytes.length) stream.end();
        else stream.write(bytes.subarray(index, index + 1), () => setImmediate(() => one(index + 1)));
      };
      one(0);
    }),
  );
  assert.deepEqual(await at.ask(Buffer.from('x')), Buffer.from('hello'));
});

test('a connection that is told to go away takes nothing new, and its calls come to their ends', async () => {
  let isHeard: (stream: ServerHttp2Stream) => void = () => undefined;
  const heard = new Promise<ServerHttp2Stream>((resolve) => (isHeard = resolve));
  let calls = 0;
  await using at = await place(
    bare((stream) => {
      calls += 1;
      if (calls === 1) isHeard(stream);
      else answer(stream, framed(Buffer.from('new')));
    }),
  );
  const first = at.ask(Buffer.from('x'));
  await at.ready();
  const stream = await heard;
  stream.session?.goaway(0);
  await at.ready();
  assert.deepEqual(await at.ask(Buffer.from('y')), Buffer.from('new'));
  answer(stream, framed(Buffer.from('old')));
  assert.deepEqual(await first, Buffer.from('old'));
});

/** A whole answer with these bytes, and the status OK. */
function answer(stream: ServerHttp2Stream, bytes: Buffer): void {
  stream.respond(WELL, { waitForTrailers: true });
  stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  stream.end(bytes);
}
