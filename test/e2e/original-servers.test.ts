/** Foreman's pull client as its packages have it: the proxy is broker and HTTP server, the worker wants detached content. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { startServer } from '../support/http.js';
import { mosquittoMissing, startMosquitto } from '../support/mosquitto.js';
import { Operator } from '../support/operator.js';
import { Home, ROOT, Yggd } from '../support/yggd.js';

/** Tells what it was called with at the URL it is given, as the worker of Foreman does. */
const WORKER = `#!/usr/bin/env node
import(${JSON.stringify(join(ROOT, 'dist/worker.js'))}).then(({ serve }) =>
  serve({ handler: 'foreman', detachedContent: true }, ({ content, metadata }) => ({
    directive: metadata.return_url,
    metadata: { 'Content-Type': 'application/json', Authorization: 'Basic eDp5' },
    content: JSON.stringify({
      event: metadata.event,
      script: content.toString(),
      workdir: process.env.WORKDIR,
      argument: process.argv[2],
    }),
  })),
);
`;
const START = '11111111-1111-4111-8111-111111111111';
const CANCEL = '22222222-2222-4222-8222-222222222222';
const options = { skip: mosquittoMissing, timeout: 60_000 };

test('a job of Foreman, notified twice and then cancelled, is fetched once and reported', options, async () => {
  await using broker = await startMosquitto();
  await using proxy = await startServer(({ method, url }, response) => {
    if (method === 'GET' && url === '/ssh/jobs/5b1c') response.end('#!/bin/sh\necho hello\n');
    else if (url === '/ssh/jobs/5b1c/cancel' || url === '/ssh/jobs/5b1c/update') response.end();
    else response.writeHead(404).end();
  });
  await using operator = await Operator.connect(broker.url, 'host.example.com');
  await using home = await Home.make();
  // The package's file is named by directive and holds the executable.
  const exec = `exec = "${home.path('workers')}/foreman_ygg_worker once"`;
  await home.writeWorkerFile('foreman', `${exec}\nprotocol = "grpc"\nenv = ["WORKDIR=/var/tmp"]\n`);
  await home.addProgram('foreman_ygg_worker', WORKER);
  const args = [`--broker=${broker.url}`, '--client-id=host.example.com', `--content-hosts=${proxy.origin}`];
  await using yggd = await Yggd.start({ home, args });
  await operator.status(({ dispatchers }) => 'foreman' in dispatchers, 'the worker among the dispatchers');

  const scope = AbortSignal.timeout(30_000);
  const update = (): Promise<unknown> => proxy.seen.next(scope, ({ method }) => method === 'POST');
  const notify = (id: string, event: string, path: string): Promise<void> => {
    const head = `"type":"data","message_id":"${id}","version":1,"sent":"2026-11-21T05:50:11+01:00","directive":"foreman"`;
    const metadata = `{"event":"${event}","job_uuid":"5b1c","username":"0c1d","password":"b2e9","return_url":"${proxy.origin}/ssh/jobs/5b1c/update"}`;
    return operator.publish('data/in', `{${head},"content":"${proxy.origin}${path}","metadata":${metadata}}`);
  };

  const started = update();
  await notify(START, 'start', '/ssh/jobs/5b1c');
  await started;
  // The proxy says it until it has seen the GET; once too often runs nothing twice.
  await notify(START, 'start', '/ssh/jobs/5b1c');
  const cancelled = update();
  await notify(CANCEL, 'cancel', '/ssh/jobs/5b1c/cancel');
  await cancelled;

  assert.deepEqual(
    proxy.requests.map(({ method, url }) => `${method} ${url}`),
    ['GET /ssh/jobs/5b1c', 'POST /ssh/jobs/5b1c/update', 'GET /ssh/jobs/5b1c/cancel', 'POST /ssh/jobs/5b1c/update'],
  );
  const updates = proxy.requests.filter(({ method }) => method === 'POST');
  assert.deepEqual(
    updates.map(({ body }) => JSON.parse(body.toString()) as unknown),
    [
      { event: 'start', script: '#!/bin/sh\necho hello\n', workdir: '/var/tmp', argument: 'once' },
      { event: 'cancel', script: '', workdir: '/var/tmp', argument: 'once' },
    ],
  );
  for (const { headers } of updates) {
    assert.equal(headers['content-type'], 'application/json');
    assert.equal(headers['authorization'], undefined);
    assert.match(String(headers['user-agent']), /^yggd\//);
  }
  assert.equal(await yggd.stop(), 0);
});
