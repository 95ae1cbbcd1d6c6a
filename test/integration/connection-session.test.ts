import assert from 'node:assert/strict';
import test from 'node:test';
import { startConnectProxy } from '../support/connect-proxy.js';
import { testConnection } from '../support/connection.js';
import { type Mosquitto, mosquittoMissing, startMosquitto } from '../support/mosquitto.js';

const options = { skip: mosquittoMissing, timeout: 10_000 };

for (const version of ['5', '3.1.1'] as const) {
  test(`MQTT ${version}: what is published comes back through the subscription`, options, async () => {
    await using broker = await startMosquitto();
    await using agent = testConnection({ brokers: [broker.url], protocolVersion: version });
    await agent.connection.start();
    const session = await agent.up();
    assert.equal(session.protocolVersion, version);
    assert.equal(session.sessionPresent, false);
    assert.equal(session.broker, broker.url);
    assert.deepEqual(agent.connection.state, { kind: 'up', session });
    const outcome = await agent.connection.publish('in/a', Buffer.from('hello'), { correlationData: Buffer.from('c') });
    assert.deepEqual(outcome, { kind: 'acknowledged', reasonCode: 0 });
    const delivery = await agent.message();
    assert.equal(delivery.topic, 'in/a');
    assert.equal(delivery.payload.toString(), 'hello');
    assert.equal(delivery.qos, 1);
    assert.equal(delivery.correlationData?.toString(), version === '5' ? 'c' : undefined);
    assert.equal(delivery.truncatedFrom, undefined);
    delivery.ack();
    await broker.line(/Received PUBACK from client-1/);
    assert.equal(agent.connection.unacknowledged, 0);
  });

  test(`MQTT ${version}: PUBACKs leave in the order of arrival, whatever the order of ack()`, options, async () => {
    await using broker = await startMosquitto();
    await using agent = testConnection({ brokers: [broker.url], protocolVersion: version });
    await agent.connection.start();
    await agent.up();
    for (let i = 1; i <= 5; i++) await agent.connection.publish('in/a', Buffer.from(String(i)));
    await agent.message(5);
    assert.equal(agent.connection.unacknowledged, 5);
    for (const i of [2, 4, 1, 3]) agent.messages[i]?.ack();
    await agent.connection.publish('out', Buffer.from('a round trip'));
    assert.equal(
      broker.lines.filter((line) => line.includes('Received PUBACK')).length,
      0,
      'the first is not acknowledged',
    );
    agent.messages[0]?.ack();
    agent.messages[0]?.ack();
    await agent.connection.publish('out', Buffer.from('a round trip'));
    const acked = await pubacks(broker, 5);
    assert.deepEqual(
      acked,
      [...acked].sort((a, b) => a - b),
    );
    assert.equal(acked.length, 5);
  });

  test(`MQTT ${version}: what is not acknowledged comes again on the next connection`, options, async () => {
    await using broker = await startMosquitto();
    await using agent = testConnection({ brokers: [broker.url], protocolVersion: version });
    await agent.connection.start();
    await agent.up();
    await agent.connection.publish('in/a', Buffer.from('kept'));
    await agent.connection.publish('in/a', Buffer.from('later'));
    const stale = await agent.message(1);
    const second = await agent.message(2);
    second.ack();
    await agent.connection.reconnect(0);
    const session = await agent.up(2);
    assert.equal(session.sessionPresent, true);
    await agent.message(4);
    assert.equal(agent.messages[2]?.payload.toString(), 'kept');
    assert.equal(agent.messages[2].dup, true);
    assert.equal(agent.messages[3]?.payload.toString(), 'later');
    // Acknowledging the delivery of the dead connection does nothing on this one.
    stale.ack();
    await agent.connection.publish('out', Buffer.from('a round trip'));
    assert.equal(agent.connection.unacknowledged, 2);
    assert.equal((await pubacks(broker, 0)).length, 0);
    agent.messages[2].ack();
    agent.messages[3].ack();
    agent.connection.flushAcks();
    await agent.connection.publish('out', Buffer.from('a round trip'));
    assert.equal((await pubacks(broker, 2)).length, 2);
  });
}

test('what is held back is read on, and held back nothing is lost', options, async () => {
  await using broker = await startMosquitto();
  await using sender = testConnection({ brokers: [broker.url], clientId: 'sender', subscriptions: ['other'] });
  await using agent = testConnection({ brokers: [broker.url], protocolVersion: '3.1.1' });
  for (const each of [sender, agent]) {
    await each.connection.start();
    await each.up();
  }
  agent.connection.holdReading();
  for (let n = 0; n < 20; n++) await sender.connection.publish('in/a', Buffer.from(`${n}`));
  // The broker has written them before it acknowledged the last one.
  assert.equal(agent.messages.length, 0);
  agent.connection.readOn();
  agent.connection.readOn();
  await agent.message(20);
  assert.deepEqual(
    agent.messages.map(({ payload }) => Number(payload.toString())),
    Array.from({ length: 20 }, (_, n) => n),
  );
});

test('stop writes the acknowledgements that are due and says goodbye, so no will is published', options, async () => {
  await using broker = await startMosquitto();
  await using watcher = testConnection({ brokers: [broker.url], clientId: 'watcher', subscriptions: ['will'] });
  await watcher.connection.start();
  await watcher.up();
  await using agent = testConnection({
    brokers: [broker.url],
    protocolVersion: '3.1.1',
    will: () => Promise.resolve({ topic: 'will', payload: Buffer.from('dead'), retain: false }),
  });
  await agent.connection.start();
  await agent.up();
  await agent.connection.publish('in/a', Buffer.from('x'));
  const delivery = await agent.message();
  delivery.ack();
  await agent.connection.stop();
  await broker.line(/Received DISCONNECT from client-1/);
  assert.equal((await pubacks(broker, 1)).length, 1);
  assert.equal(agent.connection.state.kind, 'stopped');
  assert.equal((await agent.down()).code, 'stopped');
  await assert.rejects(agent.connection.publish('out', Buffer.alloc(0)), { code: 'connection.closed' });
  await watcher.connection.publish('will', Buffer.from('end'));
  assert.equal((await watcher.message()).payload.toString(), 'end', 'nothing came before it');
});

test('the will is asked before each attempt and published when the connection is cut', options, async () => {
  await using broker = await startMosquitto();
  await using watcher = testConnection({ brokers: [broker.url], clientId: 'watcher', subscriptions: ['will'] });
  await watcher.connection.start();
  await watcher.up();
  await using proxy = await startConnectProxy();
  let asked = 0;
  await using agent = testConnection({
    brokers: [broker.url],
    protocolVersion: '3.1.1',
    proxy: () => `http://127.0.0.1:${proxy.port}`,
    will: () => Promise.resolve({ topic: 'will', payload: Buffer.from(`will ${++asked}`), retain: false }),
  });
  await agent.connection.start();
  await agent.up();
  await agent.connection.reconnect(0);
  await agent.up(2);
  proxy.cut();
  assert.equal((await watcher.message()).payload.toString(), 'will 2');
});

test('after disconnect it stays down until connect, and the session is kept', options, async () => {
  await using broker = await startMosquitto();
  await using other = testConnection({ brokers: [broker.url], clientId: 'other', subscriptions: [] });
  await using agent = testConnection({ brokers: [broker.url] });
  await other.connection.start();
  await agent.connection.start();
  await agent.up();
  await other.up();
  await agent.connection.disconnect();
  assert.deepEqual(agent.connection.state, { kind: 'down' });
  assert.deepEqual(
    { ...agent.downs[0], cause: 0 },
    {
      code: 'requested',
      reason: agent.downs[0]?.reason,
      cause: 0,
      retryIn: undefined,
      wasUp: true,
    },
  );
  await other.connection.publish('in/a', Buffer.from('while away'));
  assert.equal(agent.ups.length, 1);
  agent.connection.connect();
  const session = await agent.up(2);
  assert.equal(session.sessionPresent, true);
  assert.equal((await agent.message()).payload.toString(), 'while away');
});

test('a broker that restarts is met again, and a publication that it cut is rejected', options, async () => {
  await using broker = await startMosquitto({ persistence: true });
  await using agent = testConnection({ brokers: [broker.url] });
  await agent.connection.start();
  await agent.up();
  broker.pause();
  const cut = agent.connection.publish('in/a', Buffer.from('x'));
  const rejected = assert.rejects(cut, { code: 'connection.closed' });
  await broker.kill();
  await rejected;
  const down = await agent.down();
  assert.equal(down.code, 'closed');
  assert.equal(down.wasUp, true);
  assert.ok(down.retryIn !== undefined && down.retryIn <= 20);
  await agent.down(2);
  assert.equal(agent.downs[1]?.code, 'unreachable');
  assert.match(agent.downs[1].reason, /the connection was refused\. Check that the broker runs/);
  await broker.restart();
  const session = await agent.up(2);
  assert.equal(session.sessionPresent, true);
  assert.deepEqual(await agent.connection.publish('in/a', Buffer.from('y')), { kind: 'acknowledged', reasonCode: 0 });
});

test('a half-open link is noticed by the keepalive', options, async () => {
  await using broker = await startMosquitto();
  await using agent = testConnection({
    brokers: [broker.url],
    keepalive: 1_000,
    backoff: { first: 60_000, cap: 60_000 },
  });
  await agent.connection.start();
  await agent.up();
  broker.pause();
  const down = await agent.down();
  assert.equal(down.code, 'keepalive');
  broker.resume();
});

test('a publication above the broker’s limit is not sent', options, async () => {
  await using broker = await startMosquitto({ config: ['max_packet_size 2000'] });
  await using agent = testConnection({ brokers: [broker.url] });
  await agent.connection.start();
  const session = await agent.up();
  assert.equal(session.maximumPacketSize, 2000);
  // 1 type + 2 remaining length + 2 + 4 topic + 2 packet id + 1 properties: the limit is hit exactly.
  const largest = 2000 - 12;
  const fits = await agent.connection.publish('in/a', Buffer.alloc(largest));
  assert.deepEqual(fits, { kind: 'acknowledged', reasonCode: 0 });
  const outcome = await agent.connection.publish('in/a', Buffer.alloc(largest + 1));
  assert.deepEqual(outcome, { kind: 'too-large', size: 2001, limit: 2000 });
  assert.equal(agent.downs.length, 0);
});

test('a reason code of the broker is the outcome of a publication, not an error', options, async () => {
  await using broker = await startMosquitto();
  await using agent = testConnection({ brokers: [broker.url], protocolVersion: '5' });
  await agent.connection.start();
  await agent.up();
  // 16: no matching subscribers.
  assert.deepEqual(await agent.connection.publish('nobody', Buffer.from('x')), {
    kind: 'acknowledged',
    reasonCode: 16,
  });
  assert.deepEqual(await agent.connection.publish('nobody', Buffer.from('x'), { qos: 0 }), {
    kind: 'acknowledged',
    reasonCode: 0,
  });
});

/** The packet ids the broker saw acknowledged, once there are `count`. */
async function pubacks(broker: Mosquitto, count: number): Promise<number[]> {
  const pattern = /Received PUBACK from client-1 \(Mid: (\d+)/;
  if (count > 0) await broker.line(pattern, count);
  return broker.lines.flatMap((line) => pattern.exec(line)?.[1] ?? []).map(Number);
}
