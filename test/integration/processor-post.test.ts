/** Results to URLs over real sockets: order, repetition, headers, and lanes that do not hold each other up. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { FakeClock } from '../support/clock.js';
import { startServer, type Answer } from '../support/http.js';
import { startProcessor, WORKER, type Setup } from './processor-setup.js';
import type { MessageKey } from '../../src/message/index.js';
import type { ServerResponse } from 'node:http';

const SOON = 20_000;

/** Resolves once all these results have ended. Ask before they are sent. */
function ends(setup: Setup, count: number): Promise<MessageKey[]> {
  const keys: MessageKey[] = [];
  return new Promise((resolve) => {
    setup.ended.connect((key) => {
      keys.push(key);
      if (keys.length === count) resolve(keys);
    }, AbortSignal.timeout(SOON));
  });
}

test('a result for a URL is posted with its metadata as headers, and never announced to the router', async () => {
  await using server = await startServer((_request, response) => response.end('thanks'));
  await using setup = await startProcessor({ urls: { contentHosts: [server.origin] } });
  const done = ends(setup, 1);
  await setup.reply({
    id: 'reply-1',
    to: `${server.origin}/results?job=7`,
    content: Buffer.from('{"exit": 0}'),
    metadata: {
      'Content-Type': 'application/json',
      'X-Word': 'grün',
      Authorization: 'Bearer x',
      Cookie: 'a=b',
      Host: 'evil.example',
      'Content-Length': '1',
      'Transfer-Encoding': 'chunked',
      'Proxy-Authorization': 'x',
      Expect: '100-continue',
      'User-Agent': 'forged',
      'Idempotency-Key': 'forged',
      'bad name': '1',
      'X-Split': 'a\r\nX-Injected: b',
    },
  });
  await done;
  const [request] = server.requests;
  assert.equal(request?.method, 'POST');
  assert.equal(request.url, '/results?job=7');
  assert.equal(request.body.toString(), '{"exit": 0}');
  const { headers } = request;
  assert.equal(headers['content-type'], 'application/json');
  assert.equal(Buffer.from(String(headers['x-word']), 'latin1').toString(), 'grün');
  assert.equal(headers['host'], `127.0.0.1:${server.port}`);
  assert.equal(headers['content-length'], '11');
  assert.equal(headers['user-agent'], 'yggd/1.2.3');
  assert.equal(headers['idempotency-key'], 'reply-1');
  for (const name of ['authorization', 'cookie', 'transfer-encoding', 'proxy-authorization', 'expect', 'x-split']) {
    assert.equal(headers[name], undefined, name);
  }
  assert.equal(headers['x-injected'], undefined);
  const warning = await setup.log.line('post.header_dropped');
  assert.deepEqual(warning.fields['names'], ['bad name', 'X-Split']);
  assert.deepEqual(setup.consumed, []);
});

test('a result that names no URL is announced to the router', async () => {
  await using setup = await startProcessor();
  const key = await setup.reply({ to: 'echo', content: Buffer.from('1') });
  assert.deepEqual(setup.consumed, [key]);
});

test('an empty result and one of many bytes arrive whole', async () => {
  await using server = await startServer((_request, response) => response.end());
  await using setup = await startProcessor({ urls: { contentHosts: [server.origin] } });
  const big = randomBytes(500_000);
  const done = ends(setup, 2);
  await setup.reply({ to: server.origin, content: Buffer.alloc(0) });
  await setup.reply({ to: server.origin, content: big });
  await done;
  assert.equal(server.requests[0]?.body.length, 0);
  assert.equal(server.requests[0].headers['content-length'], '0');
  assert.deepEqual(server.requests[1]?.body, big);
  assert.equal(server.requests[1].headers['content-length'], '500000');
});

test('results of one worker for one URL go in order, one in flight, through 408, 429, 5xx and a cut connection', async () => {
  let inFlight = 0;
  let most = 0;
  let count = 0;
  const failures: ((response: ServerResponse) => void)[] = [
    ...[408, 429, 500, 502, 503].map((status) => (response: ServerResponse) => void response.writeHead(status).end()),
    (response) => response.destroy(),
  ];
  await using server = await startServer((_request, response) => {
    inFlight += 1;
    most = Math.max(most, inFlight);
    count += 1;
    setImmediate(() => {
      inFlight -= 1;
      // Every second request fails until there are no failures left.
      const fail = count % 2 === 0 ? failures.shift() : undefined;
      if (fail === undefined) response.end();
      else fail(response);
    });
  });
  await using setup = await startProcessor({ urls: { contentHosts: [server.origin] } });
  const done = ends(setup, 10);
  const sent: MessageKey[] = [];
  for (let i = 0; i < 10; i++) {
    sent.push(await setup.reply({ id: `id-${i}`, to: server.origin, content: Buffer.from(String(i)) }));
  }
  assert.deepEqual(await done, sent);
  assert.equal(most, 1);
  const bodies = server.requests.map(({ body }) => body.toString());
  assert.deepEqual([...new Set(bodies)], ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
  assert.deepEqual(bodies, [...bodies].sort());
  assert.equal(bodies.length, 16);
  for (const { body, headers } of server.requests) assert.equal(headers['idempotency-key'], `id-${body.toString()}`);
});

test('a redirect and a 4xx are final: the result is kept as dead and the next one goes', async () => {
  const statuses = [302, 400, 200];
  await using server = await startServer((_request, response) => {
    response.writeHead(statuses.shift() ?? 200, { location: '/elsewhere' }).end();
  });
  await using setup = await startProcessor({ urls: { contentHosts: [server.origin] } });
  const done = ends(setup, 3);
  for (let i = 0; i < 3; i++) await setup.reply({ to: server.origin, content: Buffer.from(String(i)) });
  await done;
  assert.deepEqual(
    server.requests.map(({ url, body }) => [url, body.toString()]),
    [
      ['/', '0'],
      ['/', '1'],
      ['/', '2'],
    ],
  );
  const refused = setup.log.lines.filter(({ event }) => event === 'post.refused');
  assert.deepEqual(
    refused.map(({ fields }) => /status (\d+)/.exec(String(fields['reason']))?.[1]),
    ['302', '400'],
  );
});

test('a URL that hangs delays only itself, and is tried again after the stall time', async () => {
  const clock = new FakeClock();
  let hung = 0;
  const answer: Answer = (request, response) => {
    if (request.url === '/hangs' && (hung += 1) === 1) return;
    response.end();
  };
  await using server = await startServer(answer);
  await using setup = await startProcessor({ urls: { contentHosts: [server.origin] }, clock });
  const others = ends(setup, 4);
  const seen = server.seen.next(AbortSignal.timeout(SOON));
  const stuck = await setup.reply({ to: `${server.origin}/hangs`, content: Buffer.from('a') });
  await seen;
  for (let i = 0; i < 4; i++) await setup.reply({ to: `${server.origin}/fine`, content: Buffer.from(String(i)) });
  await others;
  const after = ends(setup, 1);
  await clock.advance(30_500);
  const line = await setup.log.line('post.retry');
  assert.match(String(line.fields['reason']), /nothing came for 30 s/);
  assert.deepEqual(await after, [stuck]);
});

test('a result whose URL is not allowed is dead at once', async () => {
  await using setup = await startProcessor();
  const done = ends(setup, 2);
  await setup.reply({ to: 'http://127.0.0.1:9/', content: Buffer.from('x') });
  await setup.reply({ to: 'ftp://example.com/', content: Buffer.from('x') });
  await done;
  assert.match(String((await setup.log.line('post.refused')).fields['reason']), /plain http .* content-hosts/);
});

test('Retry-After of a POST is honoured, and a result is given up when its lifetime is over', async () => {
  const clock = new FakeClock();
  await using server = await startServer((_request, response) => {
    response.writeHead(503, { 'retry-after': new Date(clock.now() + 50_000).toUTCString() }).end();
  });
  await using setup = await startProcessor({
    urls: { contentHosts: [server.origin] },
    clock,
    limits: { resultLifetime: 60_000 },
  });
  const done = ends(setup, 1);
  const retried = setup.log.written.next(AbortSignal.timeout(SOON), ({ event }) => event === 'post.retry');
  const key = await setup.reply({ to: server.origin, content: Buffer.from('x') });
  assert.equal((await retried).fields['delay'], 50_000);
  await setup.store.probe();
  const second = setup.log.written.next(AbortSignal.timeout(SOON), ({ event }) => event === 'post.retry');
  await clock.advance(50_000);
  await second;
  await setup.store.probe();
  await clock.advance(10_000);
  assert.deepEqual(await done, [key]);
  assert.equal(server.requests.length, 2);
});

test('a stop lets a POST in flight end within its grace, and breaks it off after that', async () => {
  for (const isPatient of [true, false]) {
    const held: ServerResponse[] = [];
    await using server = await startServer((_request, response) => held.push(response));
    await using setup = await startProcessor({ urls: { contentHosts: [server.origin] } });
    const done = ends(setup, 1);
    const seen = server.seen.next(AbortSignal.timeout(SOON));
    const key = await setup.reply({ to: server.origin, content: Buffer.from('x') });
    await seen;
    const stopped = setup.processor.stop(isPatient ? 30_000 : 0);
    if (isPatient) {
      held[0]?.end();
      assert.deepEqual(await done, [key]);
    }
    await stopped;
    assert.equal(setup.store.outbound(key)?.state, isPatient ? undefined : 'queued');
  }
});

test('what an earlier run left for a URL is posted after the start', async () => {
  await using server = await startServer((_request, response) => response.end());
  await using setup = await startProcessor({ urls: { contentHosts: [server.origin] } });
  const accepted = setup.store.acceptResult({
    worker: WORKER,
    handlers: [],
    messageId: 'left',
    responseTo: '',
    directive: server.origin,
    metadata: {},
    content: Buffer.from('x'),
    arrivedAt: Date.now(),
  });
  assert.equal(accepted.kind, 'accepted');
  await accepted.durable;
  const done = ends(setup, 1);
  await setup.processor.start();
  await done;
  assert.equal(server.requests[0]?.body.toString(), 'x');
});
