/** The server that is ours, called by clients of grpc-js and by bare HTTP/2. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { constants, type ClientHttp2Stream, type IncomingHttpHeaders } from 'node:http2';
import { test } from 'node:test';
import { type Client, compressionAlgorithms, type ServiceError, status } from '@grpc/grpc-js';
import { framed, type CallStatus, type ServerMethod } from '../../../src/grpc/index.js';
import { servedGrpc, talking } from '../../support/grpc-server.js';

const ASK = '/test.Service/Ask';
const TALK = '/test.Service/Talk';
const MOST = 300_000;

/** Of tests that wait for ever when it is broken. */
const HANGS = { timeout: 20_000 };

const same = (bytes: Buffer): Buffer => bytes;
const echo: ServerMethod = { kind: 'unary', largest: MOST, call: (request, answer) => answer(undefined, request) };
const failing = (how: CallStatus): ServerMethod => ({
  kind: 'unary',
  largest: MOST,
  call: (_, answer) => answer(how, Buffer.alloc(0)),
});

function ask(client: Client, message: Buffer, path = ASK): Promise<Buffer | ServiceError> {
  return new Promise((resolve) => {
    client.makeUnaryRequest(path, same, same, message, (error, answer) => resolve(error ?? answer ?? Buffer.of()));
  });
}

function failure(outcome: Buffer | ServiceError): CallStatus {
  assert.ok(!Buffer.isBuffer(outcome), 'it was answered');
  return { code: outcome.code, details: outcome.details };
}

/** What came back of a call of bare HTTP/2, once its stream is closed. */
interface Answered {
  readonly headers: IncomingHttpHeaders;
  /** Undefined where the headers are all there is. */
  readonly trailers: IncomingHttpHeaders | undefined;
  readonly body: Buffer;
}

const HEADERS = { ':method': 'POST', ':path': ASK, 'content-type': 'application/grpc', te: 'trailers' };

async function answered(stream: ClientHttp2Stream): Promise<Answered> {
  let headers: IncomingHttpHeaders = {};
  let trailers: IncomingHttpHeaders | undefined;
  const chunks: Buffer[] = [];
  stream.on('error', () => undefined);
  stream.on('response', (came) => (headers = came));
  stream.on('trailers', (came: IncomingHttpHeaders) => (trailers = came));
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await new Promise((resolve) => stream.once('close', resolve));
  return { headers, trailers, body: Buffer.concat(chunks) };
}

test('a call gets its answer, an empty one and one of many packets too', async () => {
  await using at = await servedGrpc({ [ASK]: echo });
  const client = at.client();
  const messages = [0, 1, 100, MOST].map((size) => Buffer.alloc(size, 'ä'));
  assert.deepEqual(await Promise.all(messages.map((message) => ask(client, message))), messages);
});

test('more calls at once than a connection may have all get their answers', async () => {
  await using at = await servedGrpc({ [ASK]: echo });
  const client = at.client();
  const messages = Array.from({ length: 500 }, (_, index) => Buffer.from(String(index)));
  assert.deepEqual(await Promise.all(messages.map((message) => ask(client, message))), messages);
  assert.equal(at.accepted.length, 1);
});

test('an answer is headers, one message and trailers; a status that is not OK is headers alone', async () => {
  const how = { code: status.NOT_FOUND, details: '100 %' };
  await using at = await servedGrpc({ [ASK]: echo, '/test.Service/Fail': failing(how) });
  const session = at.session();
  const stream = session.request(HEADERS);
  stream.end(framed(Buffer.from('x')));
  const { headers, trailers, body } = await answered(stream);
  assert.equal(headers[':status'], 200);
  assert.equal(headers['content-type'], 'application/grpc+proto');
  assert.deepEqual(body, framed(Buffer.from('x')));
  assert.equal(trailers?.['grpc-status'], '0');
  const failed = session.request({ ...HEADERS, ':path': '/test.Service/Fail' });
  failed.end(framed(Buffer.from('x')));
  const only = await answered(failed);
  assert.equal(only.headers[':status'], 200);
  assert.equal(only.headers['content-type'], 'application/grpc+proto');
  assert.equal(only.headers['grpc-status'], '5');
  assert.equal(only.headers['grpc-message'], '100%20%25');
  assert.equal(only.trailers, undefined);
});

test('a status is told with its text, whatever letters that has, and half of one', async () => {
  const details = 'kann nicht: 100 % voll – überall; siehe #3\r\n\0 😀';
  await using at = await servedGrpc({ [ASK]: failing({ code: status.ABORTED, details: `${details}\ud83d` }) });
  const outcome = failure(await ask(at.client(), Buffer.from('x')));
  assert.deepEqual(outcome, { code: status.ABORTED, details: `${details}\ufffd` });
});

test('what is no method is UNIMPLEMENTED', async () => {
  await using at = await servedGrpc({ [ASK]: echo });
  const client = at.client();
  for (const path of ['/test.Service/Other', '/', '/__proto__', `${ASK}/`]) {
    const { code, details } = failure(await ask(client, Buffer.of(), path));
    assert.equal(code, status.UNIMPLEMENTED);
    assert.ok(details.endsWith(path));
  }
});

test('a request may be as large as its method says, and no larger', async () => {
  await using at = await servedGrpc({ [ASK]: { ...echo, largest: 99 } });
  const client = at.client();
  assert.deepEqual(await ask(client, Buffer.alloc(99)), Buffer.alloc(99));
  const { code, details } = failure(await ask(client, Buffer.alloc(100)));
  assert.equal(code, status.RESOURCE_EXHAUSTED);
  assert.match(details, /larger than max \(100 vs 99\)/);
});

test('a client that compresses is told that nobody does here', async () => {
  await using at = await servedGrpc({ [ASK]: echo });
  const client = at.client({ 'grpc.default_compression_algorithm': compressionAlgorithms.gzip });
  const { code, details } = failure(await ask(client, Buffer.alloc(1_000)));
  assert.equal(code, status.UNIMPLEMENTED);
  assert.match(details, /compressed/);
  const stream = at.session().request(HEADERS);
  stream.end(framed(Buffer.of()));
  assert.equal((await answered(stream)).headers['grpc-accept-encoding'], 'identity');
});

test('each content type of gRPC is served, and nothing else', async () => {
  await using at = await servedGrpc({ [ASK]: echo });
  const session = at.session();
  for (const type of ['application/grpc', 'application/grpc+proto', 'application/grpc;charset=utf-8']) {
    const stream = session.request({ ...HEADERS, 'content-type': type });
    stream.end(framed(Buffer.from('x')));
    assert.equal((await answered(stream)).trailers?.['grpc-status'], '0', type);
  }
  for (const type of ['text/plain', 'application/json', '']) {
    // It stays half-open, and its stream is closed nevertheless.
    const stream = session.request({ ...HEADERS, 'content-type': type });
    stream.write(framed(Buffer.from('x')));
    assert.equal((await answered(stream)).headers[':status'], 415, type);
  }
});

test('a request may come byte by byte, and is answered once its client has said all', async () => {
  const heard: Buffer[] = [];
  const method: ServerMethod = {
    kind: 'unary',
    largest: MOST,
    call: (request, answer) => {
      heard.push(request);
      answer(undefined, request);
    },
  };
  await using at = await servedGrpc({ [ASK]: method });
  const session = at.session();
  const stream = session.request(HEADERS);
  for (const byte of framed(Buffer.from('hello'))) {
    await new Promise((resolve) => stream.write(Buffer.of(byte), resolve));
    await new Promise<void>((resolve) => session.ping(() => resolve()));
  }
  assert.deepEqual(heard, []);
  stream.end();
  assert.deepEqual((await answered(stream)).body, framed(Buffer.from('hello')));
  assert.deepEqual(heard, [Buffer.from('hello')]);
});

test('a request that is not one whole message is UNIMPLEMENTED, and its method hears nothing of it', async () => {
  const method: ServerMethod = { kind: 'unary', largest: MOST, call: () => assert.fail('it was called') };
  await using at = await servedGrpc({ [ASK]: method });
  const session = at.session();
  for (const bytes of [[], [0, 0, 0], [0, 0, 0, 0, 2, 7], [0, 0, 0, 0, 1, 7, 8], [2, 0, 0, 0, 1, 7]]) {
    const stream = session.request(HEADERS);
    stream.end(Buffer.from(bytes));
    assert.equal((await answered(stream)).headers['grpc-status'], String(status.UNIMPLEMENTED), String(bytes));
  }
});

test('the first answer to a call counts, and one to a call that was taken back is for nobody', async () => {
  let answer: (message: string) => void = () => undefined;
  let isHeard: () => void = () => undefined;
  const method: ServerMethod = {
    kind: 'unary',
    largest: MOST,
    call: (_, done) => {
      answer = (message) => done(undefined, Buffer.from(message));
      isHeard();
    },
  };
  await using at = await servedGrpc({ [ASK]: method });
  const client = at.client();
  const heard = (): Promise<void> => new Promise((resolve) => (isHeard = resolve));
  const first = heard();
  const answers = ask(client, Buffer.of());
  await first;
  answer('first');
  answer('second');
  assert.deepEqual(await answers, Buffer.from('first'));

  const second = heard();
  const stream = at.session().request(HEADERS);
  stream.end(framed(Buffer.of()));
  await second;
  stream.close(constants.NGHTTP2_CANCEL);
  await answered(stream);
  answer('third');
  const third = heard();
  const last = ask(client, Buffer.of());
  await third;
  answer('fourth');
  assert.deepEqual(await last, Buffer.from('fourth'));
});

test('messages go both ways in their order, and a status comes behind all that was written', async () => {
  const { method, next } = talking(MOST);
  await using at = await servedGrpc({ [TALK]: method });
  const sizes = [5, 0, MOST, 1, 70_000];
  const stream = at.client().makeBidiStreamRequest(TALK, same, same);
  const ended = new Promise<CallStatus>((resolve) => stream.once('status', resolve));
  const messages: Buffer[] = [];
  stream.on('data', (message: Buffer) => messages.push(message));
  stream.on('error', () => undefined);
  for (const size of sizes) stream.write(Buffer.alloc(size, 'a'));
  stream.end();
  const told = await next();
  await told.on('end');
  assert.deepEqual(
    told.messages.map(({ length }) => length),
    sizes,
  );
  for (const message of told.messages) {
    const frame = framed(message);
    // In pieces, as one that is not copied.
    told.call.write([frame.subarray(0, 3), frame.subarray(3)]);
  }
  told.call.end({ code: status.ABORTED, details: 'enough' });
  told.call.write(framed(Buffer.from('too late')));
  told.call.end({ code: status.INTERNAL, details: 'too late' });
  const { code, details } = await ended;
  assert.deepEqual({ code, details }, { code: status.ABORTED, details: 'enough' });
  assert.deepEqual(messages, told.messages);
  await told.on('close');
  assert.deepEqual(told.events.slice(-2), ['end', 'close']);
});

test('a call without a message may end well', async () => {
  const { method, next } = talking();
  await using at = await servedGrpc({ [TALK]: method });
  const stream = at.session().request({ ...HEADERS, ':path': TALK });
  const { call } = await next();
  call.end();
  stream.end();
  assert.equal((await answered(stream)).headers['grpc-status'], '0');
});

test('of a message that cannot be taken it is told, and of nothing behind it once the call is ended', async () => {
  const { method, next } = talking(3);
  await using at = await servedGrpc({ [TALK]: method });
  const session = at.session();
  const good = framed(Buffer.from('abc'));
  for (const [bad, kind] of [
    [framed(Buffer.from('abcd')), 'too-large'],
    [Buffer.from([1, 0, 0, 0, 1, 7]), 'compressed'],
  ] as const) {
    const stream = session.request({ ...HEADERS, ':path': TALK });
    stream.write(Buffer.concat([good, bad, good]));
    const told = await next();
    await told.on(kind);
    told.call.end({ code: status.INVALID_ARGUMENT, details: 'bad' });
    stream.end(good);
    assert.equal((await answered(stream)).headers['grpc-status'], String(status.INVALID_ARGUMENT));
    await told.on('close');
    assert.deepEqual(told.events, ['message 1', kind, 'close']);
  }
});

test('what stands behind the message that ended its call is for nobody', async () => {
  const events: string[] = [];
  let isClosed: () => void = () => undefined;
  const closed = new Promise<void>((resolve) => (isClosed = resolve));
  const method: ServerMethod = {
    kind: 'stream',
    call: (call) =>
      call.listen(
        {
          onMessage: () => {
            events.push('message');
            call.end();
          },
          onProblem: () => events.push('problem'),
          onEnd: () => events.push('end'),
          onClose: isClosed,
        },
        3,
      ),
  };
  await using at = await servedGrpc({ [ASK]: method });
  const stream = at.session().request(HEADERS);
  stream.end(Buffer.concat(['abc', 'abc', 'abcd'].map((text) => framed(Buffer.from(text)))));
  await Promise.all([answered(stream), closed]);
  assert.deepEqual(events, ['message']);
});

test('a call that is held makes its client wait, and goes on where it was', HANGS, async () => {
  const { method, next } = talking(MOST);
  await using at = await servedGrpc({ [TALK]: method });
  const session = at.session();
  const stream = session.request({ ...HEADERS, ':path': TALK });
  stream.write(framed(Buffer.from('x')));
  const told = await next();
  await told.on('message 1');
  told.call.hold(true);
  const sent = new Promise((resolve) => stream.write(framed(Buffer.alloc(MOST, 'y')), resolve));
  // Time enough for all of it, there and back.
  for (let n = 0; n < 50; n++) await new Promise<void>((resolve) => session.ping(() => resolve()));
  assert.ok(stream.writableLength > 0, 'the client has got rid of all');
  assert.equal(told.messages.length, 1);
  told.call.hold(false);
  await sent;
  await told.on('message 2');
  assert.deepEqual(told.messages[1], Buffer.alloc(MOST, 'y'));
});

test('a held call whose client is gone is closed by its end, and one that is over cannot be held', HANGS, async () => {
  const { method, next } = talking(MOST);
  await using at = await servedGrpc({ [TALK]: method });
  const session = at.session();
  const gone = session.request({ ...HEADERS, ':path': TALK });
  gone.write(framed(Buffer.from('x')));
  const first = await next();
  await first.on('message 1');
  first.call.hold(true);
  gone.write(framed(Buffer.from('y')));
  gone.close(constants.NGHTTP2_NO_ERROR);
  while (!first.call.isOver) await new Promise<void>((resolve) => session.ping(() => resolve()));
  first.call.end();
  await first.on('close');

  const ended = session.request({ ...HEADERS, ':path': TALK });
  ended.write(framed(Buffer.from('x')));
  const second = await next();
  await second.on('message 1');
  second.call.end();
  second.call.hold(true);
  ended.end(framed(Buffer.alloc(MOST)));
  await second.on('close');
});

test(
  'a client that sends on behind its status loses what it sends, and keeps nobody from anything',
  HANGS,
  async () => {
    const { method, next } = talking();
    await using at = await servedGrpc({ [TALK]: method, [ASK]: echo });
    const session = at.session();
    const stream = session.request({ ...HEADERS, ':path': TALK });
    const { call, on, messages } = await next();
    call.end({ code: status.ABORTED, details: 'enough' });
    await once(stream, 'response');
    await new Promise((resolve) => stream.write(Buffer.alloc(1024 * 1024), resolve));
    const other = session.request(HEADERS);
    other.end(framed(Buffer.from('x')));
    assert.deepEqual((await answered(other)).body, framed(Buffer.from('x')));
    stream.end();
    await on('close');
    assert.deepEqual(messages, []);
  },
);
