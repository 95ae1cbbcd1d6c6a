import { createServer, type Server } from 'node:net';
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { Aedes } from 'aedes';
import { mosquittoMissing, startMosquitto } from '../support/mosquitto.js';
import { Operator } from '../support/operator.js';
import { tempDir } from '../support/temp.js';
import { Home, Yggd, type LogEntry } from '../support/yggd.js';

// At debug each attempt is told; at info only a change.
const PATIENT = [
  '--log-level=debug',
  '--client-id=bad',
  '--mqtt-reconnect-delay=100ms',
  '--mqtt-reconnect-delay-max=200ms',
];

/** The n-th line (from 1) of a failed attempt. */
async function failed(yggd: Yggd, n: number): Promise<LogEntry> {
  const seen = new Set<LogEntry>();
  let last: LogEntry = {};
  while (seen.size < n) {
    last = await yggd.line('connection.failed', (entry) => !seen.has(entry));
    seen.add(last);
  }
  return last;
}

suite('a broker that refuses', { timeout: 120_000, skip: mosquittoMissing, concurrency: 2 }, () => {
  test('a bad password: says which settings to check, tries on, and is in when the password is right', async () => {
    await using home = await Home.make();
    await using broker = await startMosquitto({ users: { agent: 'right', op: 'op' } });
    const file = home.path('config/password');
    await writeFile(file, 'wrong\n', { mode: 0o600 });
    const args = [...PATIENT, `--broker=${broker.url}`, '--username=agent', `--password-file=${file}`];
    await using yggd = await Yggd.start({ home, args });
    const { text, level } = await failed(yggd, 1);
    assert.match(String(text), /refused the connection: (bad user name or password|not authorised)\. Check .*user/);
    assert.equal(level, 'warn');
    await failed(yggd, 3);
    await writeFile(file, 'right\n');
    yggd.child.kill('SIGHUP');
    await yggd.line('connection.up');
    await using operator = await Operator.connect(broker.url, 'bad', { username: 'op', password: 'op' });
    await operator.status(({ state }) => state === 'online');
    assert.doesNotMatch(JSON.stringify(yggd.log), /wrong\\n|"wrong"|right/);
  });

  test('rules that do not let it write to its topics: says which, and stays', async () => {
    await using home = await Home.make();
    await using dir = await tempDir();
    const acl = join(dir.path, 'acl');
    await writeFile(acl, 'topic readwrite other/#\n', { mode: 0o644 });
    await using broker = await startMosquitto({ config: [`acl_file ${acl}`] });
    await using yggd = await Yggd.start({ home, args: [...PATIENT, `--broker=${broker.url}`, '--mqtt-version=5'] });
    // mosquitto grants every subscription and filters later; so what is refused is what we publish.
    const { text } = await yggd.line('presence.not_told');
    assert.match(String(text), /reason code 135\): allow this client to write to yggdrasil\/bad\/control\/out/);
    assert.equal(yggd.child.exitCode, null);
  });

  test('a broker of 3.1.1 alone for an agent that was told to speak 5: says which setting, and tries on', async () => {
    await using home = await Home.make();
    const aedes = await Aedes.createBroker();
    const server = createServer((socket) => void aedes.handle(socket));
    const port = await listen(server);
    try {
      const args = [...PATIENT, `--broker=mqtt://127.0.0.1:${port}`];
      {
        await using yggd = await Yggd.start({ home, args: [...args, '--mqtt-version=5'] });
        const { text } = await failed(yggd, 3);
        assert.match(String(text), /does not speak this version of MQTT\. Set `mqtt-version` to auto\./);
        assert.equal(yggd.child.exitCode, null);
        assert.equal(await yggd.stop(), 0);
      }
      await using yggd = await Yggd.start({ home, args });
      await yggd.line('connection.up');
    } finally {
      await new Promise<void>((resolve) => aedes.close(resolve));
      server.close();
    }
  });

  test('nobody there, then somebody: connects when the broker comes, and a message is answered', async () => {
    await using home = await Home.make();
    await home.addWorker('echo-worker');
    await using broker = await startMosquitto();
    await broker.stop();
    await using yggd = await Yggd.start({ home, args: [...PATIENT, `--broker=${broker.url}`] });
    const { text } = await failed(yggd, 2);
    assert.match(String(text), /the connection was refused\. Check that the broker runs and listens on port \d+/);
    await broker.restart();
    await yggd.line('connection.up');
    await using operator = await Operator.connect(broker.url, 'bad');
    const id = await operator.send('echo', '"hi"');
    assert.equal((await operator.answerTo(id)).content, 'hi');
  });

  test('what answers there is not a broker, or not the TLS that was meant: says so', async () => {
    await using home = await Home.make();
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.end('HTTP/1.1 400 Bad Request\r\n\r\n');
    });
    const port = await listen(server);
    try {
      for (const [scheme, complaint] of [
        ['mqtt', /mqtt:\/\/127\.0\.0\.1:\d+ sent could not be read as MQTT: .*Check that the address is a broker’s/],
        ['mqtts', /not TLS\. Check scheme and port/],
        ['ws', /refused the websocket with HTTP 400|websocket/],
      ] as const) {
        await using yggd = await Yggd.start({ home, args: [...PATIENT, `--broker=${scheme}://127.0.0.1:${port}`] });
        assert.match(String((await failed(yggd, 2)).text), complaint);
      }
    } finally {
      server.close();
    }
  });
});

suite('messages that cannot be read', { timeout: 60_000, skip: mosquittoMissing }, () => {
  test('each is told with its topic and the cause, and the next good one is answered', async () => {
    await using home = await Home.make();
    await home.addWorker('echo-worker');
    await using broker = await startMosquitto();
    await using yggd = await Yggd.start({ home, args: [...PATIENT, `--broker=${broker.url}`] });
    await using operator = await Operator.connect(broker.url, 'bad');
    await operator.status(({ dispatchers }) => 'echo' in dispatchers);
    const refusals: readonly (readonly [payload: string | Buffer, cause: RegExp])[] = [
      ['{', /JSON/],
      [Buffer.from('{"type":"data","directive":"\xff"}', 'latin1'), /UTF-8/],
      ['[1]', /object/],
      ['{"type":"data","message_id":"a"}', /directive/],
      ['{"type":"data","message_id":"b","directive":7}', /directive/],
      ['{"type":"data","message_id":"c","directive":"echo","metadata":[]}', /metadata/],
      ['{"type":"data","message_id":"d","directive":"../echo"}', /directive/],
      [
        `{"type":"data","message_id":"e","directive":"echo","content":${'['.repeat(100)}${']'.repeat(100)}}`,
        /deep|nest/,
      ],
    ];
    for (const [payload, cause] of refusals) {
      const before = new Set(yggd.log);
      await operator.publish('data/in', payload);
      const line = await yggd.line('data.refused', (entry) => !before.has(entry));
      assert.match(String(line.text), cause);
      assert.equal(line['topic'], 'yggdrasil/bad/data/in');
    }
    await operator.publish('control/in', '{"type":"command","content":7}');
    const command = await yggd.line('command.malformed');
    assert.match(String(command.text), /cannot be read: .*content/);
    assert.equal(command['topic'], 'yggdrasil/bad/control/in');
    const id = await operator.send('echo', '1');
    assert.equal((await operator.answerTo(id)).content, 1);
  });
});

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  return address.port;
}
