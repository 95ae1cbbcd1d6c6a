/** The operator's hands: `ygg` asks a real agent with a real broker, in text, in a pipe, as JSON and on a terminal. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { makeBench, type Bench } from '../support/bench.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { tempDir } from '../support/temp.js';
import { ygg, yggInto, yggJson, yggOnTerminal } from '../support/ygg.js';
import { Home } from '../support/yggd.js';

const skip = mosquittoMissing;

interface MessageView {
  readonly key: number;
  readonly state: string;
  readonly message_id: string;
  readonly failure: { readonly code: string } | null;
}

async function messagesOf(bench: Bench, ...words: string[]): Promise<readonly MessageView[]> {
  return (await yggJson(bench.home, ['messages', 'list', ...words])) as readonly MessageView[];
}

test('status and workers: for a person, for a pipe and as JSON; a worker is restarted', { skip }, async () => {
  await using bench = await makeBench();
  const { home } = bench;
  await home.addWorker('echo-worker');
  const yggd = await bench.startWith(['echo']);

  const status = (await yggJson(home, ['status'])) as {
    readonly client_id: string;
    readonly pid: number;
    readonly link: { readonly state: string; readonly session: object | null };
    readonly workers: readonly { readonly name: string; readonly pid: number; readonly directives: string[] }[];
  };
  assert.equal(status.client_id, 'host-1');
  assert.equal(status.pid, yggd.pid);
  assert.equal(status.link.state, 'up');
  const week = 7 * 24 * 3_600_000;
  assert.deepEqual(status.link.session, { resumed: false, expiry_ms: week, receive_maximum: 65_535 });
  const [worker] = status.workers;
  assert.deepEqual([worker?.name, worker?.directives], ['echo-worker', ['echo']]);

  const piped = await ygg(home, ['workers']);
  assert.match(piped.stdout, /^echo-worker\trunning\t\d+\t\d+ s\t0\t0\techo\t\n$/);
  const shown = await yggOnTerminal(home, ['status']);
  assert.equal(shown.code, 0, shown.stdout);
  assert.match(shown.stdout, /agent +yggd .*client id host-1, pid \d+/);
  assert.match(shown.stdout, /session +new, kept for 7 d, 65535 at once\r/);
  assert.match(shown.stdout, /WORKER +STATE +PID .*\r\necho-worker +running/);

  const again = yggd.next('dispatcher.registered');
  const restarted = await ygg(home, ['workers', 'restart', 'echo-worker']);
  assert.deepEqual([restarted.code, restarted.stdout], [0, 'echo-worker is being restarted\n']);
  await again;
  const [now] = (await yggJson(home, ['workers'])) as readonly { readonly pid: number }[];
  assert.notEqual(now?.pid, worker?.pid);
  const unknown = await ygg(home, ['workers', 'restart', 'no-worker']);
  assert.deepEqual([unknown.code, unknown.stderr], [1, 'ygg: there is no worker "no-worker"\n']);
});

test('a message that waits is listed, shown and cancelled, and its sender is answered', { skip }, async () => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  await bench.startWith([]);
  const id = await operator.send('nobody', '"\\u001b[2J hello"', { metadata: { name: 'value' } });
  await operator.send('other-one', '1');
  let waiting = await messagesOf(bench, '--directive', 'nobody');
  while (waiting.length === 0) waiting = await messagesOf(bench, '--directive', 'nobody');
  assert.deepEqual(
    waiting.map(({ state, message_id }) => [state, message_id]),
    [['accepted', id]],
  );
  const key = String(waiting[0]?.key);
  assert.equal((await messagesOf(bench, '--state', 'dead')).length, 0);
  assert.equal((await messagesOf(bench, '--older-than', '1h')).length, 0);
  assert.equal((await messagesOf(bench, '--limit', '1')).length, 1);

  const shown = (await yggJson(home, ['messages', 'show', key])) as { readonly content: string };
  assert.equal(shown.content, '"\\u001b[2J hello"');
  assert.equal((await ygg(home, ['messages', 'show', key, '--content'])).stdout, '"\\u001b[2J hello"');
  assert.match((await ygg(home, ['messages', 'show', key])).stdout, /^metadata name\tvalue$/m);

  const cancelled = await ygg(home, ['messages', 'cancel', key, '999999']);
  assert.equal(cancelled.stdout, `${key} cancelled\n`);
  assert.deepEqual([cancelled.code, cancelled.stderr], [1, 'ygg: 999999: there is no message 999999\n']);
  assert.equal((await operator.answerTo(id)).metadata?.['error-code'], 'cancelled');
  assert.deepEqual(await messagesOf(bench, '--directive', 'nobody'), []);
});

test('a dead message is replayed and answered', { skip }, async () => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  const gate = home.path('gate');
  await home.addRun('flaky-worker', ['--handler', 'flaky'], ['/bin/sh', '-c', `test -e ${gate} && cat || exit 75`]);
  await bench.startWith(['flaky'], ['--max-attempts=1']);
  const id = await operator.send('flaky', '"once more"');
  assert.equal((await operator.answerTo(id)).metadata?.['error-code'], 'worker-failed');
  const [dead] = await messagesOf(bench, '--state', 'dead');
  assert.deepEqual([dead?.message_id, dead?.failure?.code], [id, 'worker-failed']);

  await writeFile(gate, '');
  operator.forget();
  const replayed = await ygg(home, ['messages', 'replay', '--all', '--directive', 'flaky']);
  assert.match(replayed.stdout, new RegExp(`^${dead?.key} replayed, new_key \\d+\\n$`));
  assert.equal((await operator.answerTo(id)).content, 'once more');
  assert.deepEqual(await messagesOf(bench, '--state', 'dead'), []);
  const nothing = await ygg(home, ['messages', 'replay', '--all']);
  assert.deepEqual([nothing.code, nothing.stdout], [0, 'no message matches\n']);
  assert.match((await ygg(home, ['messages', 'replay'])).stderr, /name the keys to replay, or say --all/);
});

test('the link goes down and up by hand, and the fleet is told', { skip }, async () => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  await bench.startWith([]);
  await operator.status(({ state }) => state === 'online');
  operator.forget();
  assert.equal((await ygg(home, ['link', 'down'])).stdout, 'disconnected\n');
  await operator.status(({ state }) => state === 'offline');
  const down = (await yggJson(home, ['status'])) as {
    readonly link: { readonly state: string; readonly reason: string; readonly session: object | null };
  };
  assert.equal(down.link.state, 'down');
  assert.match(down.link.reason, /ygg link up/);
  assert.equal(down.link.session, null);
  operator.forget();
  assert.equal((await ygg(home, ['link', 'up'])).code, 0);
  await operator.status(({ state }) => state === 'online');
  assert.match((await ygg(home, ['status'])).stdout, /^session\tresumed, kept for 7 d/m);
});

test('many messages in a pipe whose reader has seen enough: no complaint', { skip }, async () => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  await bench.startWith([]);
  for (let n = 0; n < 600; n++) await operator.send('nobody', String(n));
  const all = async (): Promise<number> => (await messagesOf(bench)).length;
  while ((await all()) < 600);
  assert.equal((await ygg(home, ['messages'])).stdout.split('\n').filter(Boolean).length, 600);
  const first = await yggInto('head -n 1', home, ['messages']);
  assert.match(first.stdout, /^\d+\tin\taccepted\tnobody\t.*\n$/);
  assert.deepEqual([first.code, first.stderr], [0, '']);
});

test('no agent, no permission, wrong words: one clear line and an exit code each', { skip }, async () => {
  await using dir = await tempDir();
  const nowhere = await ygg(undefined, ['status', `--runtime-dir=${dir.path}`]);
  assert.equal(nowhere.code, 3);
  assert.match(nowhere.stderr, /^ygg: no agent listens at .*admin\.sock: start it/);
  assert.equal(nowhere.stderr.trim().split('\n').length, 1);
  await using home = await Home.make();
  for (const [words, problem] of [
    [['statsu'], /Did you mean status\?/],
    [['messages', 'show', 'x1'], /a key is a number/],
    [['messages', 'list', '--state', 'gone'], /Allowed choices are accepted/],
    [['messages', 'list', '--older-than', 'soon'], /a time such as 90s/],
    [['status', '--watch', '0'], /from 0\.2 to 86400/],
  ] as const) {
    const { code, stderr } = await ygg(home, words);
    assert.notEqual(code, 0, words.join(' '));
    assert.match(stderr, problem);
  }
});

test('another user is told which group it takes, and gets nothing', { skip: skip || notRoot() }, async () => {
  await using bench = await makeBench();
  const { home } = bench;
  await bench.startWith([]);
  const { code, stderr, stdout } = await ygg(home, ['status'], 65534);
  assert.deepEqual([code, stdout], [77, '']);
  assert.match(stderr, /this user may not reach .*admin\.sock/);
});

function notRoot(): string | false {
  return process.getuid?.() === 0 ? false : 'to become another user takes root';
}
