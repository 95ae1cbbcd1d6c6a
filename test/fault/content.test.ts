/**
 * CONTRACT section 4, group content: the built daemon at web servers that fail. Each message comes to one end, in the
 * journal too, and nobody else is held up by it.
 */
import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { gzipSync } from 'node:zlib';
import { LmdbJournal } from '../../src/datastore/index.js';
import { makeAuthority } from '../support/authority.js';
import { makeBench, type Bench } from '../support/bench.js';
import { bookWorker, RETURNING_ECHO } from '../support/book-worker.js';
import { fault, type FaultRun } from '../support/fault.js';
import { startServer, type SeenRequest, type TestServer } from '../support/http.js';
import { enter, Ledger } from '../support/ledger.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { tempDir } from '../support/temp.js';
import type { Yggd } from '../support/yggd.js';

const options = { skip: mosquittoMissing, timeout: 300_000 };
const LIMIT = 100 * 1024;

interface Attempt {
  readonly request: SeenRequest;
  readonly response: ServerResponse;
  /** How often this path was asked before. */
  readonly before: number;
}

/** What the server does at a path, by the first word of its name; at all others it is well. */
const WEB: Readonly<Record<string, (attempt: Attempt) => unknown>> = {
  missing: ({ response }) => response.writeHead(404).end(),
  broken: ({ response, before }) => (before < 2 ? response.writeHead(500).end() : response.end('"mended"')),
  busy: ({ response, before }) =>
    before === 0 ? response.writeHead(429, { 'retry-after': '2' }).end() : response.end('"had time"'),
  stalls: ({ response, before }) => {
    if (before > 0) return response.end('"all of it"');
    response.writeHead(200, { 'content-length': '20' });
    return response.write('"a part');
  },
  large: ({ response }) => response.end(Buffer.alloc(LIMIT + 1)),
  bomb: ({ response }) =>
    response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(Buffer.alloc(100 * LIMIT))),
  digest: ({ response }) => response.end('"another body"'),
  refuses: ({ response }) => response.writeHead(403).end(),
  dead: ({ response }) => response.writeHead(503).end(),
  hangs: ({ response, before }) => (before === 0 ? undefined : response.writeHead(204).end()),
};

interface ContentBench extends AsyncDisposable {
  readonly bench: Bench;
  readonly yggd: Yggd;
  readonly web: TestServer;
  /** When each path was asked, in milliseconds. */
  readonly asked: ReadonlyMap<string, readonly number[]>;
  readonly ledger: Ledger;
}

/** `fetch` gets the body that its URL stands for; `post` sends its answer to the URL it is given. */
async function contentBench(hosts: readonly string[] = [], stall = '1s'): Promise<ContentBench> {
  const ledger = new Ledger();
  const asked = new Map<string, number[]>();
  const web = await startServer((request, response) => {
    const times = asked.get(request.url) ?? [];
    asked.set(request.url, [...times, performance.now()]);
    const key = request.headers['idempotency-key'];
    if (typeof key === 'string') {
      response.once('finish', () => response.statusCode < 300 && ledger.note('posted', key));
    }
    const does = WEB[/^\/(\w+)/.exec(request.url)?.[1] ?? ''];
    if (does === undefined) response.end('"well"');
    else does({ request, response, before: times.length });
  });
  const bench = await makeBench();
  const { home } = bench;
  const fetch = { handler: 'fetch', options: 'detachedContent: true', body: RETURNING_ECHO };
  await home.addProgram('fetch-worker', bookWorker(home, 'fetch-worker', fetch));
  const body = `await context.send({ directive: message.json(), content: '"a result"', messageId: message.messageId });
  note('returned', message.messageId);`;
  await home.addProgram('post-worker', bookWorker(home, 'post-worker', { handler: 'post', body }));
  const allowed = [web.origin, ...hosts].map((host) => `--content-hosts=${host}`);
  const limits = [`--content-limit=${LIMIT}`, `--fetch-stall=${stall}`, '--result-lifetime=6s'];
  const yggd = await bench.startWith(['fetch', 'post'], [...allowed, ...limits]);
  return {
    ...{ bench, yggd, web, asked, ledger },
    [Symbol.asyncDispose]: async () => {
      await bench[Symbol.asyncDispose]();
      await web[Symbol.asyncDispose]();
    },
  };
}

/** A message for `directive` about a URL; its id. */
async function send(content: ContentBench, directive: string, url: string, metadata = {}): Promise<string> {
  const id = content.bench.operator.newId();
  await content.bench.operator.send(directive, JSON.stringify(url), { id, metadata });
  content.ledger.note('taken', id);
  return id;
}

/** Closes the ledger, stops the agent, and looks into its journal: nothing is left there but these dead. */
async function close(run: FaultRun, content: ContentBench, worker: string, dead: number): Promise<void> {
  const { bench, yggd, ledger } = content;
  enter(ledger, { ...bench, worker });
  const taken = ledger.ids('taken');
  run.count(taken.length, ledger.verdict().duplicated.length);
  assert.deepEqual(ledger.verdict().unexplained, []);
  assert.equal(await yggd.stop(), 0);
  const journal = new LmdbJournal(bench.home.path('state', 'journal'));
  await journal.open();
  try {
    assert.equal(journal.count('records'), 0, 'all have come to an end');
    assert.equal(journal.count('dead'), dead, 'dead messages');
  } finally {
    await journal.close();
  }
}

interface FetchCase {
  readonly fault: string;
  readonly path: string;
  /** The code of the error answer, or the body that came in the end. */
  readonly end: { readonly code: string } | { readonly content: string };
  readonly metadata?: Readonly<Record<string, string>>;
  /** Milliseconds that lie at least between the first two requests. */
  readonly apart?: number;
}

const FETCHES: readonly FetchCase[] = [
  { fault: '404', path: '/missing', end: { code: 'fetch-failed' } },
  { fault: '500, then well again', path: '/broken', end: { content: 'mended' } },
  { fault: '429 with Retry-After', path: '/busy', end: { content: 'had time' }, apart: 1_900 },
  { fault: 'stall in the middle of a body', path: '/stalls', end: { content: 'all of it' } },
  { fault: 'oversize', path: '/large', end: { code: 'too-large' } },
  { fault: 'gzip bomb', path: '/bomb', end: { code: 'too-large' } },
  {
    fault: 'wrong digest',
    path: '/digest',
    end: { code: 'digest-mismatch' },
    metadata: { 'content-digest': `sha-256:${'0'.repeat(64)}` },
  },
];

for (const { fault: name, path, end, metadata, apart = 0 } of FETCHES) {
  fault('content', `GET: ${name}`, options, async (run) => {
    await using content = await contentBench();
    const { bench, web, asked } = content;
    let dead = 0;
    for (const round of run.each(1, 10)) {
      const [bad, good] = [`${path}?${round}`, `/good?${round}`];
      const id = await send(content, 'fetch', `${web.origin}${bad}`, metadata);
      // Nobody waits for it.
      const other = await send(content, 'fetch', `${web.origin}${good}`);
      assert.equal((await bench.operator.answerTo(other)).content, 'well');
      await judge(content, id, end);
      dead += 'code' in end ? 1 : 0;
      const [first = 0, second = Infinity] = asked.get(bad) ?? [];
      assert.ok(second - first >= apart, `asked again after ${second - first} ms`);
    }
    await close(run, content, 'fetch-worker', dead);
  });
}

/** It has this end, and no other. */
async function judge({ bench }: ContentBench, id: string, end: FetchCase['end']): Promise<void> {
  const answer = await bench.operator.answerTo(id);
  if ('content' in end) assert.equal(answer.content, end.content);
  else
    assert.deepEqual([answer.metadata?.['status'], answer.metadata?.['error-code']], ['error', end.code], answer.raw);
  assert.equal(bench.operator.everything.filter((heard) => heard.response_to === id).length, 1);
}

fault('content', 'GET: redirect to a forbidden address', options, async (run) => {
  await using forbidden = await startServer((_request, response) => response.end('"a secret"'));
  await using redirecting = await startServer((_request, response) =>
    response.writeHead(302, { location: forbidden.origin }).end(),
  );
  await using content = await contentBench([redirecting.origin]);
  for (const _ of run.each(1, 10)) {
    await judge(content, await send(content, 'fetch', redirecting.origin), { code: 'fetch-failed' });
  }
  assert.equal(forbidden.requests.length, 0, 'nobody asked the forbidden one');
  await close(run, content, 'fetch-worker', run.rounds);
});

fault('content', 'GET: bad TLS', options, async (run) => {
  await using dir = await tempDir();
  const pair = await (await makeAuthority(dir.path)).issue('unknown', { altNames: ['DNS:localhost'] });
  await using server = await startServer((_request, response) => response.end('"not to be trusted"'), pair);
  await using content = await contentBench([server.origin]);
  for (const _ of run.each(1, 5)) {
    const id = await send(content, 'fetch', server.origin, { ttl: '3' });
    const other = await send(content, 'fetch', `${content.web.origin}/good`);
    assert.equal((await content.bench.operator.answerTo(other)).content, 'well');
    await judge(content, id, { code: 'expired' });
  }
  assert.equal(server.requests.length, 0);
  await close(run, content, 'fetch-worker', 0);
});

fault('content', 'POST: refused', options, async (run) => {
  await using content = await contentBench();
  const { web, yggd } = content;
  for (const round of run.each(1, 10)) {
    const refused = yggd.line('post.refused', ({ reason }) => String(reason).includes(`/refuses/${round} `));
    const id = await send(content, 'post', `${web.origin}/refuses/${round}`);
    await refused;
    content.ledger.note('refused', id);
  }
  assert.equal(web.requests.length, run.rounds, 'each was asked once');
  content.ledger.assertSound();
  await close(run, content, 'post-worker', run.rounds);
});

fault('content', 'POST: hanging', options, async (run) => {
  await using content = await contentBench();
  const { web, ledger } = content;
  for (const round of run.each(1, 10)) {
    const id = await send(content, 'post', `${web.origin}/hangs?${round}`);
    await posted(content, id);
  }
  for (const id of ledger.ids('taken')) {
    const keys = web.requests.filter(({ headers }) => headers['idempotency-key'] === id);
    assert.ok(keys.length >= 2, 'the same id with each try');
  }
  ledger.assertSound();
  await close(run, content, 'post-worker', 0);
});

fault('content', 'POST: 5xx for ever', options, async (run) => {
  await using content = await contentBench([], '30s');
  const { web, yggd, ledger } = content;
  for (const round of run.each(1, 5)) {
    const id = await send(content, 'post', `${web.origin}/dead?${round}`);
    // Results to another URL of the same worker go on meanwhile.
    for (let n = 0; n < 5; n++) await posted(content, await send(content, 'post', `${web.origin}/well?${n}`));
    await yggd.line('result.dead');
    yggd.forget();
    ledger.note('refused', id);
  }
  ledger.assertSound();
  await close(run, content, 'post-worker', run.rounds);
});

/** The server has said yes to the result of this message. */
async function posted({ web, ledger }: ContentBench, id: string): Promise<void> {
  // The yes is noted when it is written, a little after the request was seen.
  const isPosted = (): boolean => ledger.times('posted', id).length > 0;
  while (!isPosted()) {
    await web.seen.next(AbortSignal.timeout(30_000));
    for (let turn = 0; turn < 20 && !isPosted(); turn++) await new Promise((resolve) => setImmediate(resolve));
  }
}
