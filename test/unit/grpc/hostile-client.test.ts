/** What a client may do to the server that is ours: a worker is not trusted, and its agent must outlive it and stop. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { type Client, status } from '@grpc/grpc-js';
import { framed, type Answer, type CallStatus, type ServerMethod } from '../../../src/grpc/index.js';
import { PING_LEAVES_WITHIN } from '../../../src/grpc/grpc-server.js';
import { FakeClock } from '../../support/clock.js';
import { servedGrpc, talking, type ServedGrpc } from '../../support/grpc-server.js';
import {
  ACK,
  ATTACKS,
  attack,
  CALL,
  DATA,
  END_HEADERS,
  END_STREAM,
  frame,
  GOAWAY,
  GOODBYE,
  HEADERS,
  hold,
  OPEN,
  PING,
  RST_STREAM,
  SETTINGS,
  WINDOW_UPDATE,
} from '../../support/hostile-http2.js';
import { assertNothingMore, heldAtRest } from '../../support/leaks.js';
import { kept } from '../../support/memory.js';
import { seeded } from '../../support/seeded.js';

/** What the raw frames call. */
const SEND = '/yggdrasil.Dispatcher/Send';
const ASK = '/test.Service/Ask';
const MIB = 1024 * 1024;

const same = (bytes: Buffer): Buffer => bytes;
const echo: ServerMethod = { kind: 'unary', largest: MIB, call: (request, answer) => answer(undefined, request) };

/** A method that is heard, and answers when the test does. */
function waiting(): { readonly method: ServerMethod; readonly heard: Promise<Answer> } {
  let isHeard: (answer: Answer) => void = () => undefined;
  const heard = new Promise<Answer>((resolve) => (isHeard = resolve));
  return { heard, method: { kind: 'unary', largest: MIB, call: (_, answer) => isHeard(answer) } };
}

/** What a call comes to: its answer, or the code of its status. */
function ask(client: Client, message: Buffer, path = SEND): Promise<Buffer | status> {
  return new Promise((resolve) => {
    client.makeUnaryRequest(path, same, same, message, (error, answer) =>
      resolve(error?.code ?? answer ?? Buffer.of()),
    );
  });
}

/** A connection that writes raw frames, has read nothing yet, and never hangs up by itself. */
async function raw({ path }: ServedGrpc, ...frames: readonly Buffer[]): Promise<Socket> {
  const socket = connect({ path, allowHalfOpen: true });
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.write(Buffer.concat(frames));
  return socket;
}

/** Resolves when the server has taken all that was written. */
async function taken(socket: Socket): Promise<void> {
  const pong = frame(PING, ACK, 0, Buffer.from('finished'));
  const came: Buffer[] = [];
  const read = new Promise<void>((resolve) => {
    socket.on('data', (chunk: Buffer) => {
      came.push(chunk);
      if (Buffer.concat(came).includes(pong)) resolve();
    });
  });
  socket.write(frame(PING, 0, 0, Buffer.from('finished')));
  await read;
  socket.pause();
}

const closed = (socket: Socket): Promise<void> =>
  new Promise((resolve) => (socket.closed ? resolve() : socket.once('close', () => resolve())));

/** No window: there is no room for a message, nor for a status behind it. */
const NO_ROOM = frame(SETTINGS, 0, 0, Buffer.from('000400000000', 'hex'));
const reset = (code: number): Buffer => frame(RST_STREAM, 0, 1, Buffer.of(0, 0, 0, code));
const opened = frame(HEADERS, END_HEADERS, 1, CALL);
const whole = (text: string): Buffer => Buffer.concat([opened, frame(DATA, END_STREAM, 1, framed(Buffer.from(text)))]);

test('none of many attacks ends the server, and others are served meanwhile', { timeout: 60_000 }, async () => {
  await using at = await servedGrpc({ [SEND]: echo });
  const client = at.client();
  const attacks = Object.values(ATTACKS).map((pieces) => attack(at.path, pieces(seeded(1))));
  assert.deepEqual(await ask(client, Buffer.from('x')), Buffer.from('x'));
  await Promise.all(attacks);
  assert.deepEqual(await ask(client, Buffer.from('y')), Buffer.from('y'));
});

test('a call that its client takes back closes, and is told nothing else', async () => {
  const { method, next } = talking();
  await using at = await servedGrpc({ [SEND]: method });
  for (const code of [0, 8, 2]) {
    const socket = await raw(at, OPEN, opened, frame(DATA, 0, 1, framed(Buffer.from('x'))), reset(code));
    const told = await next();
    await told.on('close');
    assert.equal(told.events.includes('end'), false, `code ${code}`);
    assert.equal(told.call.isOver, true);
    told.call.write(framed(Buffer.from('x')), () => assert.fail('it was sent'));
    told.call.end({ code: status.ABORTED, details: 'too late' });
    socket.destroy();
  }
});

test('an answer to a client that is gone, or goes before it has read it, is for nobody', async () => {
  const goaway = frame(GOAWAY, 0, 0, Buffer.from('0000000000000002', 'hex'));
  for (const isAnswered of [false, true]) {
    for (const last of [reset(8), reset(0), goaway, Buffer.from('garbage, and enough of it'), undefined]) {
      const { method, heard } = waiting();
      await using at = await servedGrpc({ [SEND]: method, [ASK]: echo });
      const socket = await raw(at, OPEN, NO_ROOM, whole('x'));
      const answer = await heard;
      if (isAnswered) answer(undefined, Buffer.alloc(1_000));
      if (last === undefined) socket.destroy();
      else socket.write(last);
      const client = at.client();
      assert.deepEqual(await ask(client, Buffer.from('x'), ASK), Buffer.from('x'));
      answer(undefined, Buffer.alloc(1_000));
      answer({ code: status.INTERNAL, details: 'twice' }, Buffer.of());
      assert.deepEqual(await ask(client, Buffer.from('y'), ASK), Buffer.from('y'));
      socket.destroy();
    }
  }
});

test('a message keeps no more memory than twice its bytes, however it came', async () => {
  const { method, next } = talking(MIB);
  const requests: Buffer[] = [];
  const keeping: ServerMethod = {
    kind: 'unary',
    largest: MIB,
    call: (request, answer) => {
      requests.push(request);
      answer(undefined, Buffer.of());
    },
  };
  await using at = await servedGrpc({ [SEND]: method, [ASK]: keeping });
  const sizes = [...Array.from({ length: 10 }, () => 5_000), 300_000, 5_000, 40_000, 70_000];
  const stream = at.client().makeBidiStreamRequest(SEND, same, same);
  stream.on('error', () => undefined);
  for (const size of sizes) stream.write(Buffer.alloc(size));
  const { on, messages } = await next();
  await on(`message ${sizes.length}`);
  const client = at.client();
  await Promise.all(sizes.map((size) => ask(client, Buffer.alloc(size), ASK)));
  for (const { buffer, length } of [...messages, ...requests]) {
    assert.ok(buffer.byteLength <= Math.max(2 * length, Buffer.poolSize), `${length} in ${buffer.byteLength}`);
  }
  stream.cancel();
});

test('calls that announce much take memory for what they send', async () => {
  await using at = await servedGrpc({ [SEND]: { ...echo, largest: 64 * MIB } });
  const before = await kept();
  const announced = Buffer.from([0, 0x03, 0xff, 0xff, 0xff]);
  const calls = Array.from({ length: 128 }, (_, n) => [
    frame(HEADERS, END_HEADERS, 2 * n + 1, CALL),
    frame(DATA, 0, 2 * n + 1, announced),
    frame(DATA, 0, 2 * n + 1, Buffer.from('x')),
  ]);
  const socket = await raw(at, OPEN, ...calls.flat());
  await taken(socket);
  const more = (await kept()) - before;
  assert.ok(more < 8 * MIB, `${more} bytes`);
  socket.destroy();
});

/** Frames of a kind that nobody knows, which are dropped: as much as is read at once. */
const PADDING = Buffer.concat(Array.from({ length: 4 }, () => frame(0x99, 0, 0, Buffer.alloc(15_000))));

test('the beginning of a request keeps nothing else of what came with it', async () => {
  await using at = await servedGrpc({ [SEND]: echo });
  const before = await kept();
  const socket = await raw(at, OPEN);
  for (let n = 0; n < 128; n++) {
    const call = 2 * n + 1;
    socket.write(Buffer.concat([frame(HEADERS, END_HEADERS, call, CALL), frame(DATA, 0, call, Buffer.of(0)), PADDING]));
    socket.removeAllListeners('data').resume();
    await taken(socket);
  }
  const more = (await kept()) - before;
  assert.ok(more < 2 * MIB, `${more} bytes`);
  socket.destroy();
});

test('what comes while a call is held keeps nothing else of what came with it, and is read later', async () => {
  const { method, next } = talking();
  await using at = await servedGrpc({ [SEND]: method });
  const socket = await raw(at, OPEN, opened);
  const { call, messages, on } = await next();
  call.hold(true);
  const before = await kept();
  const bytes = framed(Buffer.from('a'.repeat(95)));
  for (const byte of bytes) {
    socket.write(Buffer.concat([frame(DATA, 0, 1, Buffer.of(byte)), PADDING]));
    socket.removeAllListeners('data').resume();
    await taken(socket);
  }
  const more = (await kept()) - before;
  assert.ok(more < 2 * MIB, `${more} bytes`);
  call.hold(false);
  await on('message 1');
  socket.write(frame(DATA, END_STREAM, 1, framed(Buffer.from('b'))));
  await on('end');
  assert.deepEqual(messages.map(String), ['a'.repeat(95), 'b']);
  call.end();
  socket.destroy();
});

test('a connection has no more calls open than it may', async () => {
  let begun = 0;
  await using at = await servedGrpc({ [SEND]: { kind: 'stream', call: () => (begun += 1) } });
  const calls = Array.from({ length: 140 }, (_, n) => frame(HEADERS, END_HEADERS, 2 * n + 1, CALL));
  const socket = await raw(at, OPEN, ...calls);
  await taken(socket);
  assert.equal(begun, 128);
  socket.destroy();
});

test('of a request that is too large nothing is kept', async () => {
  const { method, next } = talking();
  await using at = await servedGrpc({ [SEND]: { ...echo, largest: 0 }, [ASK]: method });
  const bytes = Buffer.alloc(16 * MIB);
  const stream = at.session().request({ ':method': 'POST', ':path': SEND, 'content-type': 'application/grpc' });
  stream.write(framed(Buffer.of(1)));
  await once(stream, 'response');
  const before = await kept();
  await new Promise((resolve) => stream.write(bytes, resolve));
  // What was written before was read by now.
  at.client()
    .makeBidiStreamRequest(ASK, same, same)
    .on('error', () => undefined);
  await next();
  const more = (await kept()) - before;
  assert.ok(more < 8 * MIB, `${more} bytes`);
});

test('whoever is done, or breaks the rules, and never hangs up keeps no connection', async () => {
  await using at = await servedGrpc({ [SEND]: echo });
  for (const [n, last] of [frame(GOAWAY, 0, 0, Buffer.alloc(8)), frame(HEADERS, END_HEADERS, 2, CALL)].entries()) {
    const socket = await raw(at, OPEN, last);
    while (at.accepted.length <= n) await new Promise(setImmediate);
    await new Promise((resolve) => at.accepted[n]?.once('close', resolve));
    socket.destroy();
  }
});

test('connections that HTTP/2 has given up are let go when others come, and those that only rest are not', async () => {
  const clock = new FakeClock();
  await using at = await servedGrpc({ [SEND]: echo }, clock);
  const resting = [await raw(at, OPEN), await raw(at), await raw(at, OPEN, NO_ROOM, whole('x'))];
  const crimes = [
    Buffer.from('a frame that is very large'),
    frame(DATA, 0, 0, Buffer.of(1)),
    frame(PING, 0, 0, Buffer.of(1)),
    frame(HEADERS, END_HEADERS, 1, Buffer.from('ff80', 'hex')),
  ];
  for (const crime of crimes) {
    const socket = await raw(at, OPEN, crime);
    for await (const chunk of socket as AsyncIterable<Buffer>) if (chunk.includes(GOODBYE)) break;
    socket.destroy();
  }
  const others = resting.length;
  for (let n = 0; n < 2; n++) {
    await clock.advance(PING_LEAVES_WITHIN);
    (await raw(at, OPEN)).destroy();
    for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
  }
  await Promise.all(at.accepted.slice(others).map(closed));
  assert.deepEqual(
    at.accepted.slice(0, others).map((socket) => socket.destroyed),
    resting.map(() => false),
  );
  for (const socket of resting) socket.destroy();
});

test('who waits for an answer when the server stops is told that it is UNAVAILABLE', async () => {
  const asked = waiting();
  const talk = talking();
  await using at = await servedGrpc({ [SEND]: talk.method, [ASK]: asked.method });
  const client = at.client();
  const outcome = ask(client, Buffer.from('x'), ASK);
  const answer = await asked.heard;
  const stream = client.makeBidiStreamRequest(SEND, same, same);
  stream.on('error', () => undefined);
  const ended = new Promise<CallStatus>((resolve) => stream.once('status', resolve));
  const told = await talk.next();
  told.call.write(framed(Buffer.from('last words')));
  const words = new Promise((resolve) => stream.once('data', resolve));
  await at.stop();
  answer(undefined, Buffer.from('too late'));
  assert.equal(await outcome, status.UNAVAILABLE);
  assert.equal((await ended).code, status.UNAVAILABLE);
  assert.deepEqual(await words, Buffer.from('last words'));
  await told.on('close');
});

test('an answer that was given is read to its end though the server stops', async () => {
  const { method, heard } = waiting();
  await using at = await servedGrpc({ [SEND]: method });
  const outcome = ask(at.client(), Buffer.from('x'));
  (await heard)(undefined, Buffer.alloc(MIB));
  await at.stop();
  assert.deepEqual(await outcome, Buffer.alloc(MIB));
});

test('a server that stops waits for nobody who has nothing to read', async (t) => {
  await using at = await servedGrpc({ [SEND]: echo });
  const silent = await raw(at);
  const idle = await raw(at, OPEN);
  const served = await raw(at, OPEN, whole('x'));
  await taken(idle);
  await taken(served);
  t.mock.timers.enable({ apis: ['setTimeout'] });
  await at.stop();
  for (const socket of [silent, idle, served]) socket.destroy();
});

test('a server that has stopped has no timer left', async () => {
  const timers = (): number => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
  await using at = await servedGrpc({ [SEND]: echo });
  const idle = await raw(at, OPEN);
  await taken(idle);
  const before = timers();
  await Promise.all([...at.accepted.map(closed), at.stop()]);
  assert.equal(timers(), before);
  idle.destroy();
});

test('a server that stops cuts off who does not read', { timeout: 20_000 }, async () => {
  const { method, next } = talking(MIB);
  await using at = await servedGrpc({ [SEND]: method });
  const noRoom = await raw(at, OPEN, NO_ROOM, opened);
  (await next()).call.write(framed(Buffer.alloc(1_000)));
  const halfOpen = await raw(at, OPEN, opened);
  (await next()).call.end();
  const deaf = await raw(at, OPEN, frame(SETTINGS, 0, 0, Buffer.from('00047fffffff', 'hex')), opened);
  deaf.write(frame(WINDOW_UPDATE, 0, 0, Buffer.from('7f000000', 'hex')));
  // More than a socket holds.
  (await next()).call.write(framed(Buffer.alloc(4 * MIB)));
  await at.stop();
  for (const socket of [noRoom, halfOpen, deaf]) socket.destroy();
});

test('servers that were started and stopped leave nothing', async () => {
  const cycle = async (): Promise<void> => {
    const { method, heard } = waiting();
    await using at = await servedGrpc({ [SEND]: method, [ASK]: echo });
    const socket = await hold(at.path, true);
    const client = at.client();
    const outcome = ask(client, Buffer.from('x'));
    await heard;
    assert.deepEqual(await ask(client, Buffer.from('x'), ASK), Buffer.from('x'));
    await at.stop();
    assert.equal(await outcome, status.UNAVAILABLE);
    socket.destroy();
  };
  await cycle();
  const before = await heldAtRest();
  for (let n = 0; n < 50; n++) await cycle();
  await assertNothingMore(before);
});
