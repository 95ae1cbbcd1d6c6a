/** Metrics and health of a real agent with a real broker, as Prometheus sees them, and as a hostile client tries them. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmod, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { makeBench } from '../support/bench.js';
import { DiskShim, diskShimMissing } from '../support/disk-shim.js';
import { ask, metricsOf, promtoolMissing, samplesIn, say, scrapeUntil } from '../support/metrics.js';
import { mosquittoMissing } from '../support/mosquitto.js';

const skip = mosquittoMissing;
const LISTEN = '--metrics-listen=0';

interface Health {
  readonly status: string;
  readonly reasons: readonly string[];
  readonly connection: { readonly state: string; readonly broker: string; readonly reason: string };
}

test('what becomes of messages is counted and measured, stage by stage', { skip }, async () => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  await home.addWorker('echo-worker');
  await home.addRun('failing-worker', ['--handler', 'failing'], ['/bin/sh', '-c', 'exit 75']);
  const yggd = await bench.startWith(['echo', 'failing'], [LISTEN, '--max-attempts=1']);
  const where = await metricsOf(yggd);

  for (let n = 0; n < 5; n++) await operator.answerTo(await operator.send('echo', String(n)));
  const id = await operator.send('echo', '1');
  await operator.answerTo(id);
  await operator.send('echo', '1', { id });
  await operator.answerTo(await operator.send('failing', '1'));
  await operator.publish('data/in', 'no JSON at all');

  const { samples } = await scrapeUntil(
    where,
    (now) =>
      now.get('yggdrasil_answer_duration_seconds_count') === 7 &&
      now.get('yggdrasil_messages_refused_total{reason="malformed"}') === 1 &&
      now.get('yggdrasil_results_ended_total{state="sent",reason=""}') === 7 &&
      now.get('yggdrasil_journal_pending') === 0,
  );
  const expected: Readonly<Record<string, number>> = {
    'yggdrasil_messages_accepted_total{directive="echo"}': 6,
    'yggdrasil_messages_dispatched_total{directive="echo"}': 6,
    'yggdrasil_messages_ended_total{directive="echo",state="delivered",reason=""}': 6,
    'yggdrasil_messages_ended_total{directive="echo",state="dead",reason="worker-failed"}': 0,
    'yggdrasil_messages_ended_total{directive="failing",state="dead",reason="worker-failed"}': 1,
    yggdrasil_messages_duplicate_total: 1,
    'yggdrasil_results_accepted_total{worker="echo-worker"}': 6,
    'yggdrasil_results_accepted_total{worker="agent"}': 1,
    'yggdrasil_stage_duration_seconds_count{stage="journal"}': 7,
    'yggdrasil_stage_duration_seconds_count{stage="queue"}': 7,
    'yggdrasil_stage_duration_seconds_count{stage="outbox"}': 7,
    'yggdrasil_stage_duration_seconds_count{stage="acknowledge"}': 7,
    'yggdrasil_worker_duration_seconds_count{directive="echo"}': 6,
    'yggdrasil_worker_duration_seconds_count{directive="failing"}': 1,
    yggdrasil_message_duration_seconds_count: 6,
    'yggdrasil_worker_state{worker="echo-worker",state="running"}': 1,
    'yggdrasil_worker_state{worker="echo-worker",state="backoff"}': 0,
    'yggdrasil_worker_registered{worker="echo-worker"}': 1,
    'yggdrasil_worker_restarts_total{worker="echo-worker"}': 0,
    yggdrasil_connection_up: 1,
    yggdrasil_connections_total: 1,
    // The message that failed, and the one that was none.
    yggdrasil_journal_dead: 2,
    yggdrasil_ready: 1,
  };
  for (const [name, value] of Object.entries(expected)) assert.equal(samples.get(name), value, name);
  for (const name of [
    'yggdrasil_stage_duration_seconds_sum{stage="journal"}',
    'yggdrasil_worker_duration_seconds_sum{directive="echo"}',
    'yggdrasil_answer_duration_seconds_sum',
    'yggdrasil_journal_commits_total',
    'yggdrasil_journal_size_bytes',
    'yggdrasil_disk_free_bytes',
    'yggdrasil_worker_resident_memory_bytes{worker="echo-worker"}',
    'yggdrasil_worker_start_time_seconds{worker="echo-worker"}',
    'process_resident_memory_bytes',
    'process_virtual_memory_bytes',
    'process_open_fds',
    'process_max_fds',
    'process_cpu_seconds_total',
    'yggdrasil_event_loop_active_seconds_total',
  ]) {
    assert.equal((samples.get(name) ?? 0) > 0, true, `${name} is ${samples.get(name)}`);
  }
  // An answer takes longer than its stages, and no longer than the test.
  const whole = samples.get('yggdrasil_answer_duration_seconds_sum') ?? 0;
  const worker = samples.get('yggdrasil_worker_duration_seconds_sum{directive="echo"}') ?? 0;
  assert.equal(whole > worker && whole < 60, true, `${whole} and ${worker}`);
});

test('directives that a sender makes up make no series', { skip }, async () => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  await home.addWorker('echo-worker');
  const where = await metricsOf(await bench.startWith(['echo'], [LISTEN]));
  const { document: before } = await scrapeUntil(where, (now) => now.has('yggdrasil_journal_pending'));
  for (let n = 0; n < 200; n++) await operator.send(`made-up-${n}`, '1');
  // What waits is counted when a scrape begins, and what has come when it ends.
  const { document } = await scrapeUntil(
    where,
    (now) => now.get('yggdrasil_queue_messages{directive="other",state="accepted"}') === 200,
  );
  assert.doesNotMatch(document, /made/);
  assert.equal(samplesIn(document).get('yggdrasil_messages_accepted_total{directive="other"}'), 200);
  assert.equal((samplesIn(document).get('yggdrasil_queue_oldest_seconds') ?? 0) > 0, true);
  assert.equal(document.split('\n').length - before.split('\n').length < 10, true);
});

test('promtool and OpenMetrics: both formats are what they claim', { skip: skip || promtoolMissing }, async () => {
  await using bench = await makeBench();
  await bench.home.addWorker('echo-worker');
  const where = await metricsOf(await bench.startWith(['echo'], [LISTEN]));
  await bench.operator.answerTo(await bench.operator.send('echo', '1'));
  const { document } = await scrapeUntil(where, (now) => now.get('yggdrasil_message_duration_seconds_count') === 1);
  const checked = spawnSync('promtool', ['check', 'metrics'], { input: document, encoding: 'utf8' });
  assert.deepEqual([checked.status, checked.stdout, checked.stderr], [0, '', '']);

  const plain = await ask(where, '/metrics');
  assert.equal(plain.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
  const accept = 'application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1';
  const open = await ask(where, '/metrics', { headers: { accept } });
  assert.equal(open.headers['content-type'], 'application/openmetrics-text; version=1.0.0; charset=utf-8');
  assert.match(open.body, /\n# EOF\n$/);
  assert.match(open.body, /^# TYPE yggdrasil_messages_accepted counter$/m);
  assert.match(open.body, /^# UNIT yggdrasil_spool_bytes bytes$/m);
  assert.deepEqual([...samplesIn(open.body).keys()], [...samplesIn(plain.body).keys()]);
});

test('ready without a broker, and it says so; counted when the broker comes and goes', { skip }, async () => {
  await using bench = await makeBench();
  const { broker } = bench;
  await broker.stop();
  const yggd = await bench.start([LISTEN]);
  const where = await metricsOf(yggd);
  const away = await ask(where, '/readyz');
  assert.equal(away.status, 200);
  assert.equal(away.headers['content-type'], 'application/json; charset=utf-8');
  const health = JSON.parse(away.body) as Health;
  assert.deepEqual([health.status, health.reasons], ['ready', []]);
  assert.notEqual(health.connection.state, 'up');
  await scrapeUntil(where, (now) => (now.get('yggdrasil_connection_failures_total{reason="unreachable"}') ?? 0) > 0);

  await broker.restart();
  await scrapeUntil(where, (now) => now.get('yggdrasil_connection_up') === 1);
  const { connection } = JSON.parse((await ask(where, '/readyz')).body) as Health;
  assert.deepEqual(connection, { state: 'up', broker: connection.broker, reason: '' });
  assert.match(connection.broker, /^mqtt:\/\/127\.0\.0\.1:\d+$/);
  await broker.stop();
  await scrapeUntil(
    where,
    (now) =>
      now.get('yggdrasil_connection_up') === 0 &&
      (now.get('yggdrasil_connection_ends_total{reason="closed"}') ?? 0) === 1,
  );
});

test(
  'a journal that takes no write: neither alive nor ready, with the reason, until it does again',
  { skip: skip || diskShimMissing },
  async () => {
    await using bench = await makeBench();
    await using disk = await DiskShim.make(bench.home);
    const where = await metricsOf(await bench.start([LISTEN], disk));
    assert.deepEqual(JSON.parse((await ask(where, '/healthz')).body), { status: 'alive', reasons: [] });
    const until = async (path: string, status: number): Promise<Health> => {
      for (;;) {
        const answer = await ask(where, path);
        if (answer.status === status) return JSON.parse(answer.body) as Health;
      }
    };
    await disk.behave({ sync: 'EIO' });
    const failing = await until('/healthz', 503);
    assert.equal(failing.status, 'failing');
    assert.match(failing.reasons.join(), /^the journal in .* cannot be written/);
    const unready = await until('/readyz', 503);
    assert.deepEqual([unready.status, unready.reasons.length], ['not ready', 1]);
    await scrapeUntil(where, (now) => (now.get('yggdrasil_journal_commit_failures_total') ?? 0) > 0);
    await disk.behave({});
    assert.equal((await until('/healthz', 200)).status, 'alive');
    assert.equal((await until('/readyz', 200)).status, 'ready');
  },
);

test('while it drains it is alive and not ready; a Unix socket outlives a kill', { skip }, async () => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  await home.addRun('slow-worker', ['--handler', 'slow'], ['/bin/sh', '-c', 'cat >/dev/null; exec sleep 600']);
  const socketPath = home.path('run', 'metrics.sock');
  const yggd = await bench.startWith(['slow'], [`--metrics-listen=unix:${socketPath}`, '--drain-timeout=60s']);
  assert.equal((await stat(socketPath)).mode & 0o777, 0o660);
  // The runtime directory, which it was the first to make, lets workers pass.
  assert.equal((await stat(home.path('run'))).mode & 0o777, 0o711);
  assert.equal((await ask({ socketPath }, '/readyz')).status, 200);
  await operator.send('slow', '1');
  await scrapeUntil(
    { socketPath },
    (now) => now.get('yggdrasil_queue_messages{directive="slow",state="dispatching"}') === 1,
  );
  const stopping = yggd.next('agent.stopping');
  yggd.child.kill('SIGTERM');
  await stopping;
  const answer = await ask({ socketPath }, '/readyz');
  assert.equal(answer.status, 503);
  assert.deepEqual((JSON.parse(answer.body) as Health).reasons, ['the agent is stopping']);
  assert.equal((await ask({ socketPath }, '/healthz')).status, 200);
  yggd.child.kill('SIGKILL');
  await yggd.ended;

  // What a killed one left is taken away by the next.
  await bench.start([`--metrics-listen=unix:${socketPath}`]);
  assert.equal((await ask({ socketPath }, '/readyz', { headers: { host: 'any.example.com' } })).status, 200);
});

test('places where it cannot listen: one error that says why, and the agent does not start', { skip }, async (t) => {
  await using bench = await makeBench();
  const { home } = bench;
  const refused = async (listen: string, problem: RegExp): Promise<void> => {
    const yggd = bench.spawn([`--metrics-listen=${listen}`]);
    const { code } = await yggd.ended;
    const said = [...yggd.other, ...yggd.log.map(({ text }) => text)].join('\n');
    assert.match(said, problem);
    assert.equal(code, 69, said);
  };
  const yggd = await bench.start([LISTEN]);
  const { port } = await metricsOf(yggd);
  yggd.child.kill('SIGTERM');
  await yggd.ended;
  const holder = await bench.start([`--metrics-listen=127.0.0.1:${port}`, `--state-dir=${home.path('other')}`]);
  await refused(String(port), /cannot serve metrics at 127\.0\.0\.1:\d+: another program listens there/);
  holder.child.kill('SIGTERM');
  await holder.ended;

  await mkdir(home.path('open'));
  await chmod(home.path('open'), 0o777);
  await refused(`unix:${home.path('open', 'm.sock')}`, /can be written by every user/);
  await mkdir(home.path('closed'));
  await symlink(home.path('open'), home.path('closed', 'link'));
  await refused(`unix:${home.path('closed', 'link', 'm.sock')}`, /can be written by every user/);
  await writeFile(home.path('closed', 'file'), 'precious');
  await refused(`unix:${home.path('closed', 'file')}`, /something else at this path, which is no socket/);
  assert.equal((await stat(home.path('closed', 'file'))).size, 'precious'.length);

  await t.test('what is no address is an error of the configuration', async () => {
    for (const wrong of [
      'nowhere',
      '70000',
      'example.com:9464',
      '::1:9464',
      'unix:relative',
      'unix:/',
      '[127.0.0.1]:1',
    ]) {
      const wrongly = bench.spawn([`--metrics-listen=${wrong}`]);
      assert.equal((await wrongly.ended).code, 78, wrong);
      assert.match([...wrongly.other, ...wrongly.log.map(({ text }) => text)].join('\n'), /metrics-listen/);
    }
  });
});

test('hostile clients: refused, bounded, and nobody else notices', { skip }, async () => {
  await using bench = await makeBench();
  const where = await metricsOf(await bench.start([LISTEN, '--metrics-hosts=edge.example.com']));
  const { port } = where;
  const status = async (path: string, options?: Parameters<typeof ask>[2]): Promise<number> =>
    (await ask(where, path, options)).status;

  for (const host of ['evil.example.com', 'localhost.evil.com', '127.0.0.1.evil.com', '[::1', 'a b', '127.1'])
    assert.equal(await status('/metrics', { headers: { host } }), 421, host);
  for (const host of ['localhost', `localhost:${port}`, 'LOCALHOST', '127.0.0.1', '[::1]:80', 'edge.example.com:1'])
    assert.equal(await status('/metrics', { headers: { host } }), 200, host);
  for (const path of ['/', '/metrics/', '//metrics', '/metrics/../healthz', '/%6detrics', '/debug/pprof'])
    assert.equal(await status(path), 404, path);
  assert.equal(await status('/metrics?name=x'), 200);
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'TRACE', 'PATCH']) {
    const answer = await say(port, `${method} /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n`);
    assert.match(answer, /^HTTP\/1\.1 405 [^]*\r\nAllow: GET, HEAD\r\n/, method);
  }
  const head = await ask(where, '/metrics', { method: 'HEAD' });
  assert.deepEqual([head.status, head.body], [200, '']);
  assert.equal(head.headers['access-control-allow-origin'], undefined);

  const own = `Host: localhost\r\n`;
  const lines: readonly (readonly [string, RegExp])[] = [
    ['GET /metrics HTTP/1.1\r\n\r\n', /^HTTP\/1\.1 421 /],
    ['GET /metrics HTTP/1.1\r\nHost:\r\n\r\n', /^HTTP\/1\.1 421 /],
    ['GET /metrics HTTP/1.0\r\n\r\n', /^HTTP\/1\.1 421 /],
    [`GET /metrics HTTP/1.1\r\n${own}Host: evil.com\r\n\r\n`, /^HTTP\/1\.1 400 /],
    [`GET http://evil.com/metrics HTTP/1.1\r\n${own}\r\n`, /^HTTP\/1\.1 404 /],
    [`GET /metrics HTTP/1.1\r\n${own}Content-Length: 1000000000\r\n\r\nxx`, /^HTTP\/1\.1 413 [^]*Connection: close/],
    [`GET /metrics HTTP/1.1\r\n${own}Transfer-Encoding: chunked\r\n\r\nffffffff\r\n`, /^HTTP\/1\.1 413 /],
    [`GET /metrics HTTP/1.1\r\n${own}X: ${'x'.repeat(20_000)}\r\n\r\n`, /^HTTP\/1\.1 431 /],
    ['CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: localhost\r\n\r\n', /^$/],
    [`GET /metrics HTTP/1.1\r\n${own}Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n`, /^$/],
    ['\0\x01\x02 not HTTP at all\r\n\r\n', /^HTTP\/1\.1 400 /],
  ];
  for (const [bytes, answer] of lines) assert.match(await say(port, bytes), answer, bytes.slice(0, 60));

  // Silent and slow ones are cut off; those beyond the bound are not let in; then there is room again.
  const idle = Array.from({ length: 64 }, () => connect(port, '127.0.0.1'));
  const closed = idle.map((socket) => {
    socket.on('error', () => undefined).resume();
    return new Promise((resolve) => socket.once('close', resolve));
  });
  for (const socket of idle) socket.write('GET /met');
  await Promise.all(closed);
  assert.equal(await status('/healthz'), 200);
});

test('an agent that nobody watches does not even load it', { skip }, async () => {
  await using bench = await makeBench();
  const loaded = async (name: string, args: readonly string[]): Promise<string> => {
    const coverage = bench.home.path(name);
    const yggd = await bench.start(args, { env: { NODE_V8_COVERAGE: coverage } });
    assert.equal(await yggd.stop(), 0);
    const files = await readdir(coverage);
    return (await Promise.all(files.map((file) => readFile(join(coverage, file), 'utf8')))).join('\n');
  };
  assert.match(await loaded('with', [LISTEN]), /chunks\/agent-metrics-/);
  const without = await loaded('without', []);
  assert.match(without, /chunks\/yggd/);
  assert.doesNotMatch(without, /agent-metrics|chunks\/traces/);
});
