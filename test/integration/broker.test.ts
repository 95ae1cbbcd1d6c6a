import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createConnection, createServer } from 'node:net';
import { suite, test } from 'node:test';
import { connectAsync, type MqttClient } from 'mqtt';
import { EmbeddedBroker, type BrokerAddress } from '../../src/broker/index.js';
import { recordingLog, type RecordingLog } from '../support/log.js';
import { tempDir } from '../support/temp.js';

const never = new AbortController().signal;

/** A broker in a directory of its own; both go with the scope, also when the test fails. */
async function embeddedBroker(): Promise<
  AsyncDisposable & { broker: EmbeddedBroker; log: RecordingLog; stateDir: string }
> {
  const dir = await tempDir();
  const log = recordingLog();
  const broker = new EmbeddedBroker({ stateDir: dir.path, port: 0, log });
  return {
    broker,
    log,
    stateDir: dir.path,
    async [Symbol.asyncDispose]() {
      await broker.stop();
      await dir[Symbol.asyncDispose]();
    },
  };
}

function client(address: BrokerAddress, other: { password?: string; clientId?: string } = {}): Promise<MqttClient> {
  const { username, password } = address;
  // Without a limit of its own mqtt would try again for ever.
  const options = { protocolVersion: 4, reconnectPeriod: 0, username, password, ...other } as const;
  return connectAsync(address.url, options, false);
}

function nextMessage(reader: MqttClient): Promise<string> {
  return new Promise((resolve) => {
    reader.once('message', (topic, payload) => resolve(`${topic}: ${payload.toString()}`));
  });
}

suite('the embedded broker', { timeout: 30_000 }, () => {
  test('carries a message at QoS 1 between two clients that know the password', async () => {
    await using own = await embeddedBroker();
    const { broker, log } = own;
    const address = await broker.start(never);
    assert.equal(address.host, '127.0.0.1');
    assert.equal(await broker.start(never), address, 'a second start is the first');
    const reader = await client(address);
    const writer = await client(address);
    await reader.subscribeAsync('yggdrasil/+/control/out', { qos: 1 });
    const message = nextMessage(reader);
    await writer.publishAsync('yggdrasil/a/control/out', 'hello', { qos: 1 });
    assert.equal(await message, 'yggdrasil/a/control/out: hello');
    await Promise.all([reader.endAsync(), writer.endAsync()]);
    await broker.stop();
    assert.ok(!JSON.stringify(log.lines).includes(address.password), 'the password is in no log line');
  });

  test('refuses a wrong password as mosquitto does, and nobody without one', async () => {
    await using own = await embeddedBroker();
    const { broker, log } = own;
    const address = await broker.start(never);
    await assert.rejects(client(address, { password: 'guess', clientId: 'guesser' }), { code: 5 });
    await assert.rejects(connectAsync(address.url, { protocolVersion: 4, reconnectPeriod: 0 }, false), { code: 5 });
    const line = await log.line('broker.refused');
    assert.equal(line.level, 'warn');
    await broker.stop();
  });

  test('publishes the will of a client whose connection is cut', async () => {
    await using own = await embeddedBroker();
    const { broker } = own;
    const address = await broker.start(never);
    const reader = await client(address);
    await reader.subscribeAsync('will', { qos: 1 });
    const { username, password } = address;
    const will = { topic: 'will', payload: Buffer.from('gone'), qos: 1, retain: false } as const;
    const dying = await connectAsync(address.url, { protocolVersion: 4, reconnectPeriod: 0, username, password, will });
    const message = nextMessage(reader);
    dying.stream.destroy();
    assert.equal(await message, 'will: gone');
    await reader.endAsync();
    await broker.stop();
  });

  test('stops with clients connected and half connected, and starts again with the same password', async () => {
    await using own = await embeddedBroker();
    const { broker, stateDir } = own;
    const address = await broker.start(never);
    const connected = await client(address);
    const silent = createConnection(address.port, address.host);
    await once(silent, 'connect');
    const cut = Promise.all([once(connected.stream, 'close'), once(silent, 'close')]);
    await broker.stop();
    await cut;
    await broker.stop();
    const next = new EmbeddedBroker({ stateDir, port: address.port, log: own.log });
    assert.deepEqual(await next.start(never), address);
    await next.stop();
  });

  test('does not outlive a start that was broken off', async () => {
    await using own = await embeddedBroker();
    const { broker } = own;
    const scope = new AbortController();
    const starting = broker.start(scope.signal);
    scope.abort(new Error('enough'));
    await assert.rejects(starting, /enough/);
    await broker.stop();
    const started = broker.start(never);
    const stopped = broker.stop();
    const { port, host } = await started;
    await stopped;
    await assert.rejects(once(createConnection(port, host), 'connect'), { code: 'ECONNREFUSED' });
  });

  test('names the port that is taken', async () => {
    await using dir = await tempDir();
    const taken = createServer();
    taken.listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const address = taken.address();
    assert.ok(typeof address === 'object' && address !== null);
    const broker = new EmbeddedBroker({ stateDir: dir.path, port: address.port, log: recordingLog() });
    await assert.rejects(broker.start(never), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'broker.listen_failed');
      assert.match(error.message, new RegExp(`127\\.0\\.0\\.1:${address.port}: another program`));
      assert.match(error.message, /--embedded-broker PORT/);
      return true;
    });
    await broker.stop();
    taken.close();
    await once(taken, 'close');
  });
});
