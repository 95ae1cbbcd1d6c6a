/** Calls of many messages each way by our own hand, at a server of grpc-js. */
import assert from 'node:assert/strict';
import { createServer as createListener, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { Server, ServerCredentials, status, type ServerDuplexStream } from '@grpc/grpc-js';
import { framed, GrpcChannel, methodAt, type CallStatus, type StreamCall } from '../../../src/grpc/index.js';
import { FrameSplitter } from '../../../src/grpc/frame.js';
import { between, seeded } from '../../support/seeded.js';
import { tempDir } from '../../support/temp.js';

type Call = ServerDuplexStream<Buffer, Buffer>;

/** A call, what came of it, and its end. */
interface Talk {
  readonly call: StreamCall;
  readonly messages: Buffer[];
  readonly ended: Promise<CallStatus>;
  /** Resolves when so many messages have come. */
  readonly came: (count: number) => Promise<void>;
}

interface Place extends AsyncDisposable {
  talk(path?: string): Talk;
  cut(): void;
}

async function place(handle: (call: Call) => void): Promise<Place> {
  const directory = await tempDir();
  const path = join(directory.path, 's');
  const server = new Server();
  const same = (bytes: Buffer): Buffer => bytes;
  server.register('/test.Service/Talk', handle, same, same, 'bidi');
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const sockets = new Set<Socket>();
  const listener = createListener((socket) => {
    sockets.add(socket);
    injector.injectConnection(socket);
  });
  await new Promise<void>((resolve) => listener.listen(path, resolve));
  const channel = new GrpcChannel({ path, maxReceive: 1_000_000, random: () => 0.5, staysConnected: false });
  return {
    talk: (method = '/test.Service/Talk') => talkOn(channel, method),
    cut: () => {
      for (const socket of sockets) socket.destroy();
    },
    [Symbol.asyncDispose]: async () => {
      channel.close();
      listener.close();
      server.forceShutdown();
      for (const socket of sockets) socket.destroy();
      await directory[Symbol.asyncDispose]();
    },
  };
}

function talkOn(channel: GrpcChannel, method: string): Talk {
  const messages: Buffer[] = [];
  let told: () => void = () => undefined;
  let end: (ended: CallStatus) => void = () => undefined;
  let ends = 0;
  const ended = new Promise<CallStatus>((resolve) => (end = resolve));
  const call = channel.stream(methodAt(method), {
    onMessage: (message) => {
      assert.equal(ends, 0, 'a message after the end');
      messages.push(Buffer.from(message));
      told();
    },
    onEnd: (how) => {
      ends += 1;
      assert.equal(ends, 1, 'it ended twice');
      end(how);
    },
  });
  const came = async (count: number): Promise<void> => {
    while (messages.length < count) await new Promise<void>((resolve) => (told = resolve));
  };
  return { call, messages, ended, came };
}

const echo = (call: Call): void => {
  call.on('data', (message: Buffer) => call.write(message));
  call.on('end', () => call.end());
};

test('messages of all sizes come back whole and in order, and the call ends well', async () => {
  await using at = await place(echo);
  const { call, messages, ended } = at.talk();
  const sent = [0, 1, 100, 16_384, 300_000, 5].map((size) => Buffer.alloc(size, 7));
  // Before there is a connection.
  for (const message of sent) call.write(framed(message));
  call.end();
  assert.equal((await ended).code, status.OK);
  assert.deepEqual(messages, sent);
});

test('what the other side says at the end comes after all that it sent', async () => {
  await using at = await place((call) => {
    for (let index = 0; index < 100; index++) call.write(Buffer.alloc(10_000, index));
    call.emit('error', { code: status.ABORTED, details: 'geht nicht – genug' });
  });
  const { messages, ended } = at.talk();
  assert.deepEqual(await ended, { code: status.ABORTED, details: 'geht nicht – genug' });
  assert.equal(messages.length, 100);
});

test('a method that the other side does not have is UNIMPLEMENTED', async () => {
  await using at = await place(echo);
  const { call, ended } = at.talk('/test.Service/Other');
  call.write(framed(Buffer.from('x')));
  assert.equal((await ended).code, status.UNIMPLEMENTED);
});

test('a call that is cancelled ends so on both sides, also before there is a connection', async () => {
  let told: () => void = () => undefined;
  const cancelled = new Promise<void>((resolve) => (told = resolve));
  await using at = await place((call) => {
    call.on('cancelled', told);
    echo(call);
  });
  const early = at.talk();
  early.call.cancel();
  assert.equal((await early.ended).code, status.CANCELLED);
  const { call, came, ended } = at.talk();
  call.write(framed(Buffer.from('x')));
  await came(1);
  call.cancel();
  assert.equal((await ended).code, status.CANCELLED);
  await cancelled;
});

test('a connection that breaks ends its calls as UNAVAILABLE, and the next call has a new one', async () => {
  await using at = await place(echo);
  const { call, came, ended } = at.talk();
  call.write(framed(Buffer.from('x')));
  await came(1);
  at.cut();
  assert.deepEqual(await ended, { code: status.UNAVAILABLE, details: 'Connection dropped' });
  call.write(framed(Buffer.from('for nobody')));
  const next = at.talk();
  next.call.write(framed(Buffer.from('y')));
  await next.came(1);
});

test('a message that is larger than allowed ends the call', async () => {
  await using at = await place((call) => void call.write(Buffer.alloc(1_000_001)));
  const { messages, ended } = at.talk();
  assert.equal((await ended).code, status.RESOURCE_EXHAUSTED);
  assert.equal(messages.length, 0);
});

test('messages come out as they went in, however the wire cuts them', () => {
  const random = seeded(7);
  for (let round = 0; round < 300; round++) {
    const sent = Array.from({ length: between(random, 1, 6) }, () =>
      Buffer.alloc(between(random, 0, 40), between(random, 0, 255)),
    );
    const bytes = Buffer.concat(sent.map((message) => framed(message)));
    const splitter = new FrameSplitter(40);
    const got: Buffer[] = [];
    for (let at = 0; at < bytes.length;) {
      const size = between(random, 1, round % 2 === 0 ? 4 : 60);
      assert.equal(
        splitter.push(bytes.subarray(at, at + size), (message) => got.push(Buffer.from(message))),
        undefined,
      );
      at += size;
    }
    assert.deepEqual(got, sent);
  }
});

test('a message that was given is never written again, unless it is of no use any more', () => {
  const sent = ['a', 'b', 'c'].map((letter) => Buffer.alloc(12, letter));
  const bytes = Buffer.concat(sent.map((message) => framed(message)));
  for (const isPassing of [false, true]) {
    const splitter = new FrameSplitter(100, isPassing);
    const views: Buffer[] = [];
    const copies: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += 6) {
      splitter.push(bytes.subarray(at, at + 6), (message) => {
        views.push(message);
        copies.push(Buffer.from(message));
      });
    }
    assert.deepEqual(copies, sent);
    if (!isPassing) assert.deepEqual(views, sent);
    else assert.equal(views[0]?.buffer, views[1]?.buffer);
  }
});

test('a frame in pieces is one message, and is told to be sent also when it was written before the connection', async () => {
  await using at = await place(echo);
  const { call, messages, ended } = at.talk();
  let sent = 0;
  const write = (text: string): void => {
    const frame = framed(Buffer.from(text));
    call.write([frame.subarray(0, 5), frame.subarray(5, 7), frame.subarray(7)], () => (sent += 1));
  };
  for (let early = 0; early < 6; early++) write(`early ${early}`);
  while (messages.length < 6) await new Promise(setImmediate);
  assert.equal(sent, 6);
  write('late');
  call.end();
  assert.equal((await ended).code, status.OK);
  assert.equal(sent, 7);
  assert.equal(String(messages.at(-1)), 'late');
});

test('a compressed message and one that is too large are told as such, after those before them', () => {
  const good = framed(Buffer.from('good'));
  const compressed = framed(Buffer.from('x'));
  compressed[0] = 1;
  for (const [bad, kind] of [
    [compressed, 'compressed'],
    [framed(Buffer.alloc(41)), 'too-large'],
  ] as const) {
    const got: string[] = [];
    const problem = new FrameSplitter(40).push(Buffer.concat([good, bad]), (message) => got.push(String(message)));
    assert.equal(problem?.kind, kind);
    assert.deepEqual(got, ['good']);
  }
});
