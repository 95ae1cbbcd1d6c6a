/** `ygg logs`: the agent's own log, from its memory. A real agent and broker. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { makeBench } from '../support/bench.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { FollowingYgg } from '../support/ygg-follow.js';
import { ygg, yggInto, yggOnTerminal } from '../support/ygg.js';

const skip = mosquittoMissing;
const ESC = '\u001b';

test('the log is shown as the agent wrote it, in text, in a pipe and as JSON, without a secret', { skip }, async () => {
  await using bench = await makeBench();
  const { home } = bench;
  const address = bench.broker.url.replace('://', '://ann:hunter2@');
  const yggd = await bench.start([`--broker=${address}`]);
  await yggd.line('agent.ready');
  const piped = await ygg(home, ['logs']);
  assert.deepEqual([piped.code, piped.stderr], [0, '']);
  assert.match(piped.stdout, /^\d{4}-.*Z\tinfo\tagent\.starting\tyggd .* starts\t\{"clientId":"host-1",/m);
  const lines = (await ygg(home, ['logs', '--json'])).stdout.trimEnd().split('\n');
  const entries = lines.map((line) => JSON.parse(line) as { event: string; level: string; time: string });
  // The same lines, in the same order.
  assert.deepEqual(entries, yggd.log.slice(0, entries.length));
  assert.ok(entries.some(({ event }) => event === 'agent.ready'));
  assert.equal((await ygg(home, ['logs', '-n', '2'])).stdout.split('\n').length, 3);
  const grave = (await ygg(home, ['logs', '--level', 'warn', '--json'])).stdout.trimEnd().split('\n').filter(Boolean);
  assert.ok(grave.every((line) => /"level":"(warn|error)"/.test(line)));

  const shown = await yggOnTerminal(home, ['logs']);
  assert.match(shown.stdout, new RegExp(`Z ${ESC}\\[32mINFO ${ESC}\\[0m yggd .* starts {2}clientId=host-1`));
  const plain = await yggInto('cat', home, ['logs']);
  assert.ok(!plain.stdout.includes(ESC));
  for (const { stdout } of [piped, shown, plain]) assert.ok(!stdout.includes('hunter2'));

  const fine = await ygg(home, ['logs', '--level', 'debug']);
  assert.match(fine.stderr, /^ygg: the agent logs at info: for more set log-level = "debug" .* `ygg reload`\n$/);
  assert.match(
    (await ygg(home, ['logs', '--level', 'loud'])).stderr,
    /Allowed choices are error, warn, info, debug, trace/,
  );
});

test('one who follows sees what comes, more of it after a reload, until Ctrl-C', { skip }, async () => {
  await using bench = await makeBench();
  const { home } = bench;
  await bench.start();
  await using piped = FollowingYgg.start(home, ['logs', '-f', '--json']);
  await using terminal = FollowingYgg.onTerminal(home, ['logs', '-f', '--level', 'warn']);
  await piped.line(/"event":"agent\.ready"/);
  await writeFile(home.path('config/config.toml'), 'log-level = "debug"\nmqtt-keepalive = "50s"\n');
  await ygg(home, ['reload']);
  await piped.line(/"event":"config\.reloaded".*"changed":\["log-level"\]/);
  await terminal.line(/WARN .* these settings need a restart {2}settings=\["mqtt-keepalive"\]/);
  await home.addProgram('loud-worker', '#!/bin/sh\nexec sleep 1000\n');
  await piped.line(/"level":"debug","event":"worker\.starting"/);
  assert.ok(!terminal.lines.some((line) => / (INFO|DEBUG) /.test(line)));
  assert.equal(await piped.interrupt(), 'SIGINT');
  assert.equal(await terminal.interrupt(), 130);
  assert.deepEqual(piped.complaints, []);
});
