/** Detached content over real sockets: what is dispatched, what is tried again, and what is given up. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { Signal } from '../../src/signal/index.js';
import { FakeClock } from '../support/clock.js';
import { startServer, type Answer, type TestServer } from '../support/http.js';
import { directiveOf, ECHO, startProcessor, type Setup, type SetupOptions } from './processor-setup.js';

interface Scene extends AsyncDisposable {
  readonly server: TestServer;
  readonly setup: Setup;
}

/** A server that is listed, and a worker that wants detached content. */
async function scene(answer: Answer, options: SetupOptions = {}): Promise<Scene> {
  const server = await startServer(answer);
  const setup = await startProcessor({ urls: { contentHosts: [server.origin] }, ...options });
  await setup.register(ECHO, true);
  return {
    server,
    setup,
    [Symbol.asyncDispose]: async () => {
      await setup[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

/** Lets time pass until this has come: the network keeps to no clock of ours. */
async function advanceUntil(clock: FakeClock, event: Promise<unknown>): Promise<void> {
  let hasCome = false;
  const come = event.then(() => (hasCome = true));
  const isPending = (): boolean => !hasCome;
  while (isPending()) await clock.advance(500);
  await come;
}

/** Resolves when the connection that a server announced has closed, by an error or not. */
function closeOf([socket]: readonly unknown[]): Promise<unknown> {
  return new Promise((resolve) => {
    if (socket instanceof Socket) socket.once('close', resolve);
  });
}

async function codeOf(setup: Setup, id: string): Promise<string | undefined> {
  return (await setup.answerTo(id)).metadata['error-code'];
}

test('the body of the URL takes the place of the content, fetched as yggd/VERSION', async () => {
  await using s = await scene((_request, response) => response.end('a playbook'));
  const key = await s.setup.send({ content: `${s.server.origin}/play?token=x#part` });
  await s.setup.ready(key);
  assert.equal((await s.setup.body(key)).toString(), 'a playbook');
  const [request] = s.server.requests;
  assert.equal(request?.url, '/play?token=x');
  assert.equal(request.headers['user-agent'], 'yggd/1.2.3');
  assert.equal(request.headers['authorization'], undefined);
  assert.equal(s.setup.store.inbound(key)?.isFetched, true);
});

test('an empty body is dispatched, also a compressed one without bytes', async () => {
  await using s = await scene((request, response) => {
    if (request.url === '/gzip') response.setHeader('content-encoding', 'gzip');
    response.end();
  });
  for (const path of ['/plain', '/gzip']) {
    const key = await s.setup.send({ content: `${s.server.origin}${path}` });
    await s.setup.ready(key);
    assert.equal((await s.setup.body(key)).length, 0);
  }
});

test('a body over 64 KiB is kept in a file, whole', async () => {
  const body = randomBytes(300_000);
  await using s = await scene((_request, response) => response.end(body));
  const digest = createHash('sha256').update(body).digest('hex').toUpperCase();
  const key = await s.setup.send({
    content: `${s.server.origin}/big`,
    metadata: { 'content-digest': `sha-256:${digest}` },
  });
  await s.setup.ready(key);
  assert.equal(s.setup.store.inbound(key)?.content.kind, 'file');
  assert.deepEqual(await s.setup.body(key), body);
});

test('a compressed body arrives as what it was before', async () => {
  const text = 'all work and no play '.repeat(100);
  await using s = await scene((request, response) => {
    const isGzip = request.url === '/gzip';
    response.setHeader('content-encoding', isGzip ? 'gzip' : 'br');
    response.end(isGzip ? gzipSync(text) : brotliCompressSync(text));
  });
  for (const path of ['/gzip', '/br']) {
    const key = await s.setup.send({ content: `${s.server.origin}${path}` });
    await s.setup.ready(key);
    assert.equal((await s.setup.body(key)).toString(), text);
  }
});

test('a gzip bomb is given up as too large and leaves no file', async () => {
  const bomb = gzipSync(Buffer.alloc(20_000_000));
  await using s = await scene(
    (_request, response) => {
      response.setHeader('content-encoding', 'gzip');
      response.end(bomb);
    },
    { limits: { contentLimit: 1_000_000 } },
  );
  await s.setup.send({ id: 'bomb', content: `${s.server.origin}/bomb` });
  assert.equal(await codeOf(s.setup, 'bomb'), 'too-large');
  const dead = await s.setup.answerTo('bomb');
  assert.match(dead.metadata['error'] ?? '', /larger than 1000000 bytes/);
});

test('a body over the limit is given up, whether its length is announced or not', async () => {
  await using s = await scene(
    (request, response) => {
      if (request.url === '/chunked') response.write(Buffer.alloc(600));
      response.end(Buffer.alloc(600));
    },
    { limits: { contentLimit: 1000 } },
  );
  const fits = await s.setup.send({ content: `${s.server.origin}/fits` });
  await s.setup.ready(fits);
  await s.setup.send({ id: 'chunked', content: `${s.server.origin}/chunked` });
  assert.equal(await codeOf(s.setup, 'chunked'), 'too-large');
  await using t = await scene((_request, response) => response.end(Buffer.alloc(1001)), {
    limits: { contentLimit: 1000 },
  });
  await t.setup.send({ id: 'announced', content: `${t.server.origin}/` });
  assert.equal(await codeOf(t.setup, 'announced'), 'too-large');
});

test('a body with another digest is given up', async () => {
  await using s = await scene((_request, response) => response.end('forged'));
  const metadata = { 'content-digest': `sha-256:${'0'.repeat(64)}` };
  await s.setup.send({ id: 'd', content: s.server.origin, metadata });
  assert.equal(await codeOf(s.setup, 'd'), 'digest-mismatch');
});

test('a 4xx is final, and the message says so without the query of its URL', async () => {
  await using s = await scene((_request, response) => response.writeHead(404).end('gone'));
  await s.setup.send({ id: 'x', content: `${s.server.origin}/secret?token=hush` });
  const answer = await s.setup.answerTo('x');
  assert.equal(answer.metadata['error-code'], 'fetch-failed');
  assert.equal(answer.metadata['error'], `${s.server.origin}/secret answered with status 404`);
  assert.equal(s.server.requests.length, 1);
});

test('408, 425, 429, 5xx, a cut body and a cut gzip are tried again', async () => {
  const answers: ((response: ServerResponse) => void)[] = [
    ...[408, 425, 429, 500, 503].map((status) => (response: ServerResponse) => void response.writeHead(status).end()),
    (response) => {
      response.writeHead(200, { 'content-length': '100' });
      response.write('half', () => response.destroy());
    },
    (response) => {
      response.writeHead(200, { 'content-encoding': 'gzip' });
      response.end(gzipSync('whole').subarray(0, 15));
    },
    (response) => void response.end('whole'),
  ];
  await using s = await scene((_request, response) => answers.shift()?.(response));
  const key = await s.setup.send({ content: s.server.origin });
  await s.setup.ready(key);
  assert.equal((await s.setup.body(key)).toString(), 'whole');
  assert.equal(s.setup.store.inbound(key)?.fetches, 7);
});

test('after ten failed fetches a message is given up', async () => {
  await using s = await scene((_request, response) => response.writeHead(500).end());
  await s.setup.send({ id: 'ten', content: s.server.origin });
  const answer = await s.setup.answerTo('ten');
  assert.equal(answer.metadata['error-code'], 'fetch-failed');
  assert.match(answer.metadata['error'] ?? '', /in 10 tries: .* status 500/);
  assert.equal(s.server.requests.length, 10);
});

test('Retry-After is honoured', async () => {
  const clock = new FakeClock();
  let asked = 0;
  const again = new Signal<number>('again');
  await using s = await scene(
    (_request, response) => {
      asked += 1;
      again.emit(asked);
      if (asked === 1) response.writeHead(503, { 'retry-after': '40' });
      response.end('late');
    },
    { clock },
  );
  const key = await s.setup.send({ content: s.server.origin });
  const line = await s.setup.log.line('fetch.retry');
  assert.equal(line.fields['delay'], 40_000);
  // The wait is in the journal: it begins when its commit is through.
  await s.setup.store.probe();
  await clock.advance(39_000);
  assert.equal(asked, 1);
  await clock.advance(1_500);
  await s.setup.ready(key);
  assert.equal(asked, 2);
});

test('a server that stalls is tried again after the stall time', async () => {
  const clock = new FakeClock();
  const answers: Answer[] = [
    (_request, response) => void response.write('begin'),
    (_request, response) => void response.end('whole'),
  ];
  await using s = await scene((request, response) => answers.shift()?.(request, response), { clock });
  const seen = s.server.seen.next(AbortSignal.timeout(10_000));
  const key = await s.setup.send({ content: s.server.origin });
  await seen;
  await advanceUntil(clock, s.setup.log.line('fetch.retry'));
  await advanceUntil(clock, s.setup.ready(key));
  assert.equal((await s.setup.body(key)).toString(), 'whole');
  assert.match(String(s.setup.log.lines.find(({ event }) => event === 'fetch.retry')?.fields['reason']), /for 30 s/);
});

test('content that holds no URL is given up as malformed', async () => {
  await using s = await scene((_request, response) => response.end());
  const contents = [
    { url: s.server.origin },
    'not a url',
    7,
    'ftp://example.com/x',
    `${s.server.origin}/${'x'.repeat(40_000)}`,
  ];
  for (const [index, content] of contents.entries()) {
    await s.setup.send({ id: `c${index}`, content });
    assert.equal(await codeOf(s.setup, `c${index}`), 'malformed');
  }
});

test('a slow host takes only its share of the places, and others overtake it', async () => {
  const held: ServerResponse[] = [];
  let isSlow = true;
  await using slow = await startServer((_request, response) => (isSlow ? held.push(response) : response.end()));
  await using fast = await startServer((_request, response) => response.end('fast'));
  await using setup = await startProcessor({
    urls: { contentHosts: [`http://localhost:${slow.port}`, fast.origin] },
    resolve: () => Promise.resolve(['127.0.0.1']),
    limits: { fetchConcurrency: 4, fetchesPerHost: 2 },
  });
  await setup.register(ECHO, true);
  const slowKeys = await Promise.all(
    Array.from({ length: 5 }, () => setup.send({ content: `http://localhost:${slow.port}/` })),
  );
  for (let i = 0; i < 5; i++) await setup.ready(await setup.send({ content: fast.origin }));
  assert.equal(slow.requests.length, 2);
  assert.equal(setup.processor.gauges.fetchesWaiting, 3);
  isSlow = false;
  for (const response of held) response.end();
  for (const key of slowKeys) await setup.ready(key);
});

test('a message that is cancelled while its content comes ends its connection', async () => {
  await using s = await scene((_request, response) => void response.write('drip'));
  const seen = s.server.seen.next(AbortSignal.timeout(10_000));
  const connection = once(s.server.server, 'connection');
  const key = await s.setup.send({ id: 'stop', content: s.server.origin });
  await seen;
  const closed = closeOf(await connection);
  const record = s.setup.store.inbound(key);
  assert.equal(record?.state, 'fetching');
  await s.setup.store.cancel(record.directiveKey, 'stop');
  s.setup.processor.cancelled(key);
  await closed;
  assert.deepEqual(s.setup.processed, []);
});

test('a message that expires while its content comes is ended as expired', async () => {
  await using s = await scene((_request, response) => void response.write('drip'));
  await s.setup.send({ id: 'old', content: s.server.origin, metadata: { ttl: '0.2' } });
  assert.equal(await codeOf(s.setup, 'old'), 'expired');
});

test('a stop breaks fetches off, leaves the message as it was and no socket open', async () => {
  await using s = await scene((_request, response) => void response.write('drip'));
  const seen = s.server.seen.next(AbortSignal.timeout(10_000));
  const connection = once(s.server.server, 'connection');
  const key = await s.setup.send({ content: s.server.origin });
  await seen;
  const closed = closeOf(await connection);
  await s.setup.processor.stop();
  await s.setup.processor.stop();
  await closed;
  assert.equal(s.setup.store.inbound(key)?.fetches, 0);
  assert.deepEqual(await readdir(join(s.setup.stateDir, 'content')), []);
});

test('messages wait for their worker, and a worker that registers anew without detached content gets the URL', async () => {
  await using server = await startServer((_request, response) => void response.write('drip'));
  await using setup = await startProcessor({ urls: { contentHosts: [server.origin] } });
  const seen = server.seen.next(AbortSignal.timeout(10_000));
  const key = await setup.send({ content: server.origin });
  assert.deepEqual(setup.processed, []);
  await setup.register(ECHO, true);
  await seen;
  await setup.register(ECHO, false);
  await setup.ready(key);
  assert.equal((await setup.body(key)).toString(), JSON.stringify(server.origin));
  assert.equal(setup.store.inbound(key)?.isFetched, false);
});

test('a message without detached content goes on at once, and an unknown one is unroutable when its time is over', async () => {
  await using setup = await startProcessor();
  await setup.register(ECHO, false);
  const key = await setup.send({ content: { any: 'thing' } });
  await setup.ready(key);
  const unknown = await setup.send({ id: 'who', directive: directiveOf('nobody'), content: 1 });
  setup.processor.lapse(unknown);
  assert.equal(await codeOf(setup, 'who'), 'unroutable');
  const expired = await setup.send({ id: 'late', content: 1, metadata: { expires: '2020-01-01T00:00:00Z' } });
  assert.equal(await codeOf(setup, 'late'), 'expired');
  assert.ok(!setup.processed.includes(expired));
});
