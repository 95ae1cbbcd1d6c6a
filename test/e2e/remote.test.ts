/** The operator from afar: `ygg ping`, `send` and `listen` through a real broker to a real agent. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { makeBench, type Bench } from '../support/bench.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { ygg, type YggRun } from '../support/ygg.js';

const skip = mosquittoMissing;

function through({ broker }: Bench, ...words: string[]): Promise<YggRun> {
  return ygg(undefined, [...words, `--broker=${broker.url}`]);
}

test('ping and send: an answer is printed, an error is one, silence has an end', { skip }, async () => {
  await using bench = await makeBench();
  const { home } = bench;
  await home.addWorker('echo-worker');
  await bench.startWith(['echo']);

  const pong = await through(bench, 'ping', 'host-1');
  assert.equal(pong.code, 0, pong.stderr);
  assert.match(pong.stdout, /^pong from host-1 after \d+ ms\n$/);
  const silence = await through(bench, 'ping', 'host-2', '--timeout=300ms');
  assert.deepEqual(
    [silence.code, silence.stdout, silence.stderr],
    [69, '', 'ygg: no answer from host-2 within 0.3 s\n'],
  );

  assert.equal((await through(bench, 'send', 'host-1', 'echo', '--content', 'hello', '--wait')).stdout, '"hello"\n');
  assert.equal(
    (await through(bench, 'send', 'host-1', 'echo', '--content', '[1, 12345678901234567890]', '--wait')).stdout,
    '[1, 12345678901234567890]\n',
  );
  await writeFile(home.path('bytes'), Buffer.from([0, 255]));
  const bytes = await through(bench, 'send', 'host-1', 'echo', `--file=${home.path('bytes')}`, '--wait', '--json');
  assert.equal((JSON.parse(bytes.stdout) as { readonly content: string }).content, 'AP8=');
  assert.match((await through(bench, 'send', 'host-1', 'echo')).stdout, /^[0-9a-f-]{36}\n$/);

  const expired = await through(bench, 'send', 'host-1', 'nobody', '--metadata', 'ttl=0', '--wait');
  assert.deepEqual([expired.code, expired.stdout], [1, '']);
  assert.match(expired.stderr, /^ygg: the agent answers: it expired/);
});

test('listen prints what the fleet says, in lines and as JSON', { skip }, async () => {
  await using bench = await makeBench();
  await bench.startWith([]);
  const line = await through(bench, 'listen', '--count=1');
  assert.match(line.stdout, /^\d{4}-\d\d-\d\dT[\d:.]+Z\thost-1\tconnection-status\tonline\t\n$/);
  const { stdout } = await through(bench, 'listen', 'host-1', '--count=1', '--json');
  const status = JSON.parse(stdout) as { readonly client: string; readonly content: { readonly state: string } };
  assert.deepEqual([status.client, status.content.state], ['host-1', 'online']);
});

test('what is no sound envelope is printed as far as it goes, and steers nothing', { skip }, async () => {
  await using bench = await makeBench();
  const retained = { qos: 1, retain: true } as const;
  const says = (client: string, payload: string): Promise<unknown> =>
    bench.operator.client.publishAsync(`yggdrasil/${client}/control/out`, payload, retained);
  await says('null-one', '{"type":"connection-status","content":null}');
  await says('loud-one', '{"type":"event","content":"\\u001b[2J","topic":"mine"}');
  assert.match(
    (await through(bench, 'listen', 'null-one', '--count=1')).stdout,
    /\tnull-one\tconnection-status\t\t\n$/,
  );
  assert.match((await through(bench, 'listen', 'loud-one', '--count=1')).stdout, /\tevent\t\\u001b\[2J\t\n$/);
  const { stdout } = await through(bench, 'listen', 'loud-one', '--count=1', '--json');
  assert.equal((JSON.parse(stdout) as { readonly topic: string }).topic, 'yggdrasil/loud-one/control/out');
});

test('a broker that is not there, wrong words and wrong files: one clear line', { skip: false }, async () => {
  const cases: readonly (readonly [readonly string[], number, RegExp])[] = [
    [['ping', 'host-1', '--broker=mqtt://127.0.0.1:1'], 69, /^ygg: cannot reach the broker: .*127\.0\.0\.1:1/],
    [['ping', 'a/b', '--broker=mqtt://127.0.0.1:1'], 64, /it is no client id/],
    [['ping', 'host-1', '--broker=gopher://x'], 78, /broker/],
    [['ping', 'host-1', '--broker=mqtt://127.0.0.1:1', '--password-file=/nowhere'], 78, /\/nowhere/],
    [['send', 'host-1', 'echo', '--metadata', 'x', '--broker=mqtt://127.0.0.1:1'], 64, /it must be name=value/],
    [
      ['send', 'host-1', 'echo', '--file=/nowhere', '--broker=mqtt://127.0.0.1:1'],
      65,
      /\/nowhere cannot be read: ENOENT/,
    ],
    [['send', 'host-1', '--broker=mqtt://127.0.0.1:1'], 65, /name the directive/],
    [['send', 'host-1', 'echo', '--from=-', '--broker=mqtt://127.0.0.1:1'], 65, /--from takes directives/],
  ];
  for (const [words, exit, problem] of cases) {
    const { code, stderr, stdout } = await ygg(undefined, words);
    assert.deepEqual([code, stdout], [exit, ''], `${words.join(' ')}: ${stderr}`);
    assert.match(stderr, problem);
    assert.doesNotMatch(stderr, /\n {4}at /, 'no stack trace');
  }
});
