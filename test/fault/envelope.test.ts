/**
 * Hostile messages from the broker, through a real broker and the built daemon: each ends in one recorded end, is
 * acknowledged, and is answered where its ids can be read; the next good message is served as if nothing had been.
 */
import assert from 'node:assert/strict';
import { makeBench, type Bench } from '../support/bench.js';
import { fault, type FaultRun } from '../support/fault.js';
import { startServer } from '../support/http.js';
import { residentBytes } from '../support/memory.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { between } from '../support/seeded.js';
import type { Yggd } from '../support/yggd.js';

const MIB = 1024 * 1024;
const CLIENT = 'host-1';
const options = { skip: mosquittoMissing, timeout: 300_000 };

/** A payload that is refused. It is answered, unless it does not say to whom: an id or the directive cannot be read. */
interface Hostile {
  readonly payload: string | Buffer;
  readonly isAnswered: boolean;
}

/** `ID` stands for a fresh id. */
const field = (name: string, value: string): string =>
  `{"type":"data","message_id":"ID","directive":"echo","${name}":${value}}`;
const answered = (payload: string | Buffer): Hostile => ({ payload, isAnswered: true });
const unanswered = (payload: string | Buffer): Hostile => ({ payload, isAnswered: false });

const malformed: readonly Hostile[] = [
  ...['type', 'sent', 'response_to'].flatMap((name) =>
    ['7', '[]', '{}', 'true', '1e400'].map((value) => answered(field(name, value))),
  ),
  ...['7', '[]', 'true', '"x"', '{"a":[]}', '{"a\\r\\nb\\u0000":{}}'].map((value) =>
    answered(field('metadata', value)),
  ),
  ...['1.5', '"1"', '[]', '{}'].map((value) => answered(field('version', value))),
  answered(field('response_to', '"a\\u0000b"')),
  answered(field('response_to', `"${'r'.repeat(257)}"`)),
  answered(field('metadata', `{"a":"${'m'.repeat(64 * 1024)}"}`)),
  answered(field('content', '['.repeat(100_000) + ']'.repeat(100_000))),
  answered(field('content', '{"a":'.repeat(65) + '1' + '}'.repeat(65))),
  answered(field('content', '['.repeat(1_000_000))),
  answered(field('content', '"\u0000"')),
  answered(Buffer.from(field('content', '"\xff\xc0\xaf\xed\xa0\x80"'), 'latin1')),
  answered(field('content', 'NaN')),
  unanswered('{"type":"data","message_id":"ID","directive":"../../etc"}'),
  unanswered('{"type":"data","message_id":"ID","directive":"__proto__"}'),
  unanswered('{"type":"data","message_id":"ID","directive":"a\\r\\nb"}'),
  unanswered('{"type":"data","message_id":7,"directive":"echo"}'),
  unanswered('{"type":"data","message_id":["a"],"directive":"echo"}'),
  unanswered(''),
  unanswered('\0'),
  unanswered('[]'),
  unanswered('null'),
  unanswered('\uFEFF{"type":"data"}'),
  unanswered(Buffer.from([0xff, 0xfe, 0x00])),
  unanswered('{"__proto__":{"type":"data","message_id":"ID","directive":"echo"}}'),
  unanswered('{"message_id":'),
];

/** What is odd but right: it comes back as it went. */
const odd: readonly (readonly [metadata: string, content: string])[] = [
  ['{"__proto__":"x","constructor":"y","toString":"z"}', '{"__proto__":{"a":1},"a":1,"a":2}'],
  ['{"a":"\\r\\nX-Injected: 1","b":"\\u0000","\\u202e":"c"}', '"\\u0000\\r\\n\\ud800"'],
  ['{"expires":"never","ttl":"-1","priority":"10","content-digest":"x"}', '[1e400,-0,12345678901234567890,1.0]'],
  ['null', '[['.repeat(31) + ']]'.repeat(31)],
];

/** A ping that is answered: what came before it has been dealt with, and the agent lives. */
async function assertAlive(bench: Bench, yggd: Yggd): Promise<void> {
  await bench.operator.answerTo(await bench.operator.command('ping'));
  assert.equal(yggd.child.exitCode, null);
  assert.deepEqual(yggd.other, [], 'a line of the log that is none');
}

/** Stops the agent, which writes what is due; as often as it got a message at QoS 1, it has acknowledged one. */
async function assertAllAcknowledged({ broker }: Bench, yggd: Yggd): Promise<void> {
  assert.equal(await yggd.stop(), 0);
  await broker.line(new RegExp(`Client ${CLIENT} .*disconnected`));
  const count = (pattern: RegExp): number => broker.lines.filter((line) => pattern.test(line)).length;
  const sent = count(new RegExp(`Sending PUBLISH to ${CLIENT} \\(d\\d, q1,`));
  assert.equal(count(new RegExp(`Received PUBACK from ${CLIENT} `)), sent);
}

/** The error code of each answer to this message, or what its content is. */
function answersTo({ operator }: Bench, id: string): string[] {
  return operator.everything
    .filter((heard) => heard.response_to === id && heard.type === 'data')
    .map((heard) => heard.metadata?.['error-code'] ?? heard.raw.slice(heard.raw.indexOf('"content":')));
}

async function sendHostile(bench: Bench, run: FaultRun, { payload, isAnswered }: Hostile): Promise<void> {
  const { operator } = bench;
  const id = operator.newId();
  const bytes = Buffer.isBuffer(payload)
    ? Buffer.from(payload.toString('latin1').replace('"ID"', `"${id}"`), 'latin1')
    : Buffer.from(payload.replace('"ID"', `"${id}"`));
  const qos = between(run.random, 0, 2) as 0 | 1 | 2;
  await operator.client.publishAsync(`yggdrasil/${CLIENT}/data/in`, bytes, { qos });
  if (!isAnswered) return;
  const { metadata } = await operator.answerTo(id);
  assert.equal(metadata?.['error-code'], 'malformed', payload.toString('latin1').slice(0, 100));
  // eslint-disable-next-line no-control-regex -- control characters are what it looks for
  assert.match(metadata['error'] ?? '', /^[^\0-\x1f\x7f-\x9f]{1,1024}$/);
}

fault('envelope', 'deep nesting, NUL, CR LF, __proto__, wrong types, empty, invalid UTF-8', options, async (run) => {
  await using bench = await makeBench();
  await bench.home.addWorker('echo-worker');
  const yggd = await bench.startWith(['echo']);
  for (const round of run.each(1, 20)) {
    for (const hostile of malformed) await sendHostile(bench, run, hostile);
    await assertAlive(bench, yggd);
    const refused = await yggd.lines('data.refused', round * malformed.length);
    assert.equal(refused.length, round * malformed.length, 'each is refused once');
    for (const { text = '' } of refused) assert.ok(text.length < 1_024 && !/[\r\n\0]/.test(text));
    for (const [metadata, content] of odd) {
      const id = bench.operator.newId();
      const head = `{"type":"data","message_id":"${id}","directive":"echo"`;
      await bench.operator.publish('data/in', `${head},"metadata":${metadata},"content":${content}}`);
      await bench.operator.answerTo(id);
      assert.deepEqual(answersTo(bench, id), [`"content":${content}}`]);
    }
    await assertAlive(bench, yggd);
    run.count(malformed.length + odd.length);
  }
  await assertAllAcknowledged(bench, yggd);
});

fault('envelope', 'CR LF and names of headers in the metadata of a result that is posted', options, async (run) => {
  await using bench = await makeBench();
  await using server = await startServer((_request, response) => response.end());
  await bench.home.addSdkWorker(
    'post-worker',
    `await serve({ handler: 'post' }, ({ content, metadata }) => ({ content, metadata, directive: '${server.origin}/x' }));`,
  );
  const yggd = await bench.startWith(['post'], [`--content-hosts=${server.origin}`]);
  const metadata = {
    a: 'x\r\nX-Injected: 1\r\n\r\nGET / HTTP/1.1',
    'b\r\nX-Injected': '1',
    host: 'evil.example',
    'content-length': '1',
    'Transfer-Encoding': 'chunked',
    cookie: 'a=b',
    ['__proto__']: 'x',
    'x-fine': 'é',
  };
  for (const round of run.each(3, 100)) {
    const seen = server.seen.next(AbortSignal.timeout(30_000));
    await bench.operator.send('post', `"${round}"`, { metadata });
    const { headers, body } = await seen;
    assert.equal(body.toString(), `"${round}"`);
    assert.equal(headers['host'], `127.0.0.1:${server.port}`);
    for (const name of ['x-injected', 'a', 'cookie', 'transfer-encoding']) assert.equal(headers[name], undefined);
    assert.equal(headers['x-fine'], Buffer.from('é').toString('latin1'));
    run.count(1);
  }
  assert.equal(server.requests.length, run.rounds, 'one request each, none smuggled');
  await assertAlive(bench, yggd);
  await assertAllAcknowledged(bench, yggd);
});

fault('envelope', '256 MiB, and max-message-size to the byte', options, async (run) => {
  await using bench = await makeBench();
  await bench.home.addWorker('echo-worker');
  const yggd = await bench.startWith(['echo'], ['--max-message-size=1MiB']);
  const { operator } = bench;
  /** A data message of so many bytes in all. */
  const sized = (id: string, bytes: number): Buffer => {
    const whole = Buffer.alloc(bytes, 0x78);
    whole.write(`{"type":"data","message_id":"${id}","directive":"echo","content":"`);
    whole.write('"}', bytes - 2);
    return whole;
  };
  // The largest packet there is, less topic, packet id and properties.
  const largest = 256 * MIB - 1 - Buffer.byteLength(`yggdrasil/${CLIENT}/data/in`) - 16;
  const sizes = [MIB - 1, MIB, MIB + 1, 2 * MIB];
  for (const round of run.each(1, 3)) {
    for (const size of sizes) {
      const id = operator.newId();
      await operator.publish('data/in', sized(id, size));
      await operator.answerTo(id);
      const [answer = '', ...more] = answersTo(bench, id);
      assert.deepEqual(more, []);
      assert.match(answer, size > MIB ? /^too-large$/ : /^"content":"x+"}$/);
    }
    const before = residentBytes(yggd.pid, 'VmHWM');
    const id = operator.newId();
    await operator.publish('data/in', sized(id, largest));
    assert.equal((await operator.answerTo(id)).metadata?.['error-code'], 'too-large');
    const grown = residentBytes(yggd.pid, 'VmHWM') - before;
    const told = `VmHWM grew by ${(grown / MIB).toFixed(1)} MiB from ${(before / MIB).toFixed(0)} MiB`;
    run.test.diagnostic(`round ${round}: ${told}`);
    assert.ok(grown < 64 * MIB, `256 MiB passed: ${told}`);
    await assertAlive(bench, yggd);
    run.count(sizes.length + 1);
  }
  await assertAllAcknowledged(bench, yggd);
});

fault('envelope', 'unknown directive', options, async (run) => {
  await using bench = await makeBench();
  await bench.home.addWorker('echo-worker');
  const yggd = await bench.startWith(['echo'], ['--unknown-directive-lifetime=1s']);
  for (const _round of run.each(1, 10)) {
    const names = ['nobody', 'toString', 'constructor', 'hasOwnProperty', 'ECHO', 'echo.', `e${'x'.repeat(63)}`];
    const ids = await Promise.all(names.map((name) => bench.operator.send(name, '1')));
    for (const id of ids) {
      await bench.operator.answerTo(id);
      assert.deepEqual(answersTo(bench, id), ['unroutable']);
    }
    await assertAlive(bench, yggd);
    run.count(names.length);
  }
  await assertAllAcknowledged(bench, yggd);
});

fault('envelope', 'topics, properties and retained messages as MQTT allows them', options, async (run) => {
  await using bench = await makeBench();
  await bench.home.addWorker('echo-worker');
  const { operator } = bench;
  // Kept by the broker before the agent comes: a command is ignored, and so is data without an id; data with one is taken.
  const stays = { retain: true };
  await operator.publish('control/in', '{"type":"command","content":{"command":"disconnect"}}', stays);
  const kept = await operator.send('echo', '0', { options: stays });
  const yggd = await bench.startWith(['echo']);
  await operator.answerTo(kept);
  assert.match(String((await yggd.line('command.ignored')).text), /retained/);
  for (const each of ['data/in', 'control/in']) await operator.publish(each, '', stays);
  run.count(2);
  const root = `yggdrasil/${CLIENT}/`;
  await operator.client.subscribeAsync(`${root}r/#`, { qos: 1 });
  const responseTopic = `${root}r/${'t'.repeat(65_535 - root.length - 2)}`;
  const correlationData = Buffer.alloc(65_535, 0x63);
  const userProperties = { a: 'u'.repeat(65_535), [`n${'n'.repeat(65_534)}`]: '', ['__proto__']: 'x' };
  const commands = [
    '{}',
    '7',
    '{"command":7}',
    `{"command":"${'a.'.repeat(500_000)}@"}`,
    '{"command":"\\u001b[2J\\r\\n"}',
  ];
  const reply = (id: string): Promise<{ topic: string; correlation?: string }> =>
    operator.until((heard) => heard.response_to === id, 'the reply');
  for (const _round of run.each(1, 20)) {
    // A response topic, correlation data and user properties of the greatest length, and the topic by its alias.
    const properties = { responseTopic, correlationData, userProperties, topicAlias: 1 };
    const { topic, correlation } = await reply(await operator.send('echo', '1', { options: { properties } }));
    assert.equal(topic, responseTopic);
    assert.equal(correlation, correlationData.toString());
    // Response topics that may not be: the reply goes to data/out.
    for (const other of [`${root}data/in`, `${root}control/in`, 'other/x', '$SYS/x']) {
      const id = await operator.send('echo', '2', { options: { properties: { responseTopic: other } } });
      assert.equal((await reply(id)).topic, `${root}data/out`);
    }
    // Empty on every topic that is heard, and a few commands that are none.
    for (const each of ['data/in', 'control/in']) await operator.publish(each, '');
    for (const content of commands) {
      const head = `{"type":"command","message_id":"${operator.newId()}"`;
      await operator.publish('control/in', `${head},"content":${content}}`);
    }
    await assertAlive(bench, yggd);
    run.count(7 + commands.length);
  }
  for (const { text = '' } of yggd.log) assert.ok(text.length < 1_024, text.slice(0, 200));
  await assertAllAcknowledged(bench, yggd);
});
