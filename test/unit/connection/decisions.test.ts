import assert from 'node:assert/strict';
import test from 'node:test';
import { type BrokerAddress, Connection, parseBrokerAddress, withoutUser } from '../../../src/connection/index.js';
import { closedFailure, networkFailure } from '../../../src/connection/failure.js';
import { keepAlive } from '../../../src/connection/keepalive.js';
import { connectRefusal, serverEnd, subscribeRefusal } from '../../../src/connection/refusal.js';
import { Scope } from '../../../src/connection/scope.js';
import { VersionMemory } from '../../../src/connection/version-memory.js';
import { FakeClock } from '../../support/clock.js';

const broker: BrokerAddress = parseBrokerAddress('mqtts://ann:secret@broker.example:8884');
const HOUR = 3_600_000;

test('auto meets a broker with 5, with 3.1.1 after a refusal, and with 5 again after a day', () => {
  let now = 0;
  const memory = new VersionMemory('auto', () => now);
  assert.equal(memory.next('a'), '5');
  assert.equal(memory.learn('a', 'refused'), true);
  assert.equal(memory.next('a'), '3.1.1');
  assert.equal(memory.next('b'), '5', 'each broker for itself');
  now = 24 * HOUR - 1;
  assert.equal(memory.next('a'), '3.1.1');
  now = 24 * HOUR;
  assert.equal(memory.next('a'), '5');
});

test('two closes in a row before an answer mean 3.1.1; an answer between them does not', () => {
  const memory = new VersionMemory('auto', () => 0);
  assert.equal(memory.learn('a', 'closed-early'), false);
  memory.learn('a', 'answered');
  assert.equal(memory.learn('a', 'closed-early'), false);
  assert.equal(memory.learn('a', 'none'), false);
  assert.equal(memory.learn('a', 'closed-early'), true);
  assert.equal(memory.next('a'), '3.1.1');
  // Closed with 3.1.1 as well: the version was not the reason.
  assert.equal(memory.learn('a', 'closed-early'), false);
  assert.equal(memory.learn('a', 'closed-early'), false);
  assert.equal(memory.next('a'), '5');
});

test('a version that is set is never changed', () => {
  const memory = new VersionMemory('5', () => 0);
  assert.equal(memory.learn('a', 'refused'), false);
  assert.equal(memory.next('a'), '5');
});

test('a broker’s address is taken apart, and shown without its user', () => {
  assert.equal(broker.text, 'mqtts://broker.example:8884');
  assert.deepEqual([broker.username, broker.password, broker.isTls], ['ann', 'secret', true]);
  assert.equal(parseBrokerAddress('ssl://h').port, 8883);
  assert.equal(parseBrokerAddress('tcp://h').port, 1883);
  assert.equal(parseBrokerAddress('wss://h/mqtt?x=1').path, '/mqtt?x=1');
  assert.equal(parseBrokerAddress('ws://h').port, 80);
  assert.equal(parseBrokerAddress('mqtt://[::1]:9').host, '::1');
  assert.equal(parseBrokerAddress('mqtt://a%zz@h').username, 'a%zz');
  assert.equal(withoutUser('mqtt://a:b@c@h:1'), 'mqtt://h:1');
  for (const wrong of ['', 'h:1883', 'http://h', 'mqtt://'])
    assert.throws(() => parseBrokerAddress(wrong), { code: 'config.invalid' });
  assert.throws(() => new Connection({ brokers: [], clientId: 'c' }), { code: 'config.no_broker' });
});

test('each failure says what was attempted and what to do, and holds no secret', () => {
  const coded = (code: string, message = code): Error => Object.assign(new Error(message), { code });
  const cases = [
    [networkFailure(coded('EAI_AGAIN'), broker), 'unresolved', /DNS/],
    [networkFailure(new AggregateError([coded('ECONNREFUSED')]), broker), 'unreachable', /listens on port 8884/],
    [networkFailure(coded('EHOSTUNREACH'), broker), 'unreachable', /EHOSTUNREACH.*firewall/],
    [networkFailure(coded('ECONNRESET'), broker), 'closed', /while it was being made/],
    [networkFailure(coded('CERT_NOT_YET_VALID'), broker), 'tls', /clock/],
    [networkFailure(coded('EPROTO', 'ssl wrong version number'), broker), 'tls', /not TLS\. Check scheme and port/],
    [networkFailure(coded('ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED'), broker), 'tls', /Set cert-file and key-file/],
    [networkFailure(coded('ERR_SSL_SOMETHING_NEW'), broker), 'tls', /certificates on both sides/],
    [closedFailure(undefined, broker, false), 'closed', /before it answered\. Check the broker’s log/],
    [closedFailure(coded('ECONNRESET'), broker, true), 'closed', /was lost \(ECONNRESET\)/],
    [connectRefusal(4, broker), 'refused', /bad user name or password\. Check `username`/],
    [connectRefusal(0x87, broker), 'refused', /not authorised\. Check/],
    [connectRefusal(0x85, broker), 'refused', /client-id/],
    [connectRefusal(0x8c, broker), 'refused', /another way to authenticate/],
    [connectRefusal(0xee, broker), 'refused', /unknown reason \(238\)/],
    [subscribeRefusal(['a', 'b'], broker, undefined), 'refused', /subscription to a, b\. Allow/],
    [serverEnd(0x8e, broker), 'dismissed', /another client connected with the same client id/],
    [serverEnd(0x99, broker), 'server', /Payload format invalid/],
  ] as const;
  for (const [failure, code, pattern] of cases) {
    assert.equal(failure.code, code);
    assert.match(failure.reason, pattern);
    assert.match(failure.reason, /broker\.example:8884/);
    assert.doesNotMatch(JSON.stringify([failure, failure.error.details]), /secret/);
  }
  assert.equal(connectRefusal(1, broker).evidence, 'refused');
  assert.equal(closedFailure(undefined, broker, false).evidence, 'closed-early');
  assert.equal(connectRefusal(4, broker).error.code, 'connection.refused');
});

test('the keepalive pings after half an interval of silence, and takes one and a half for death', async () => {
  const clock = new FakeClock();
  let received = 0;
  let sent = 0;
  let pings = 0;
  let pending = 0;
  let isDead = false;
  using scope = new Scope();
  keepAlive(
    {
      interval: 60_000,
      clock,
      lastReceived: () => received,
      lastSent: () => sent,
      largestPending: () => pending,
      ping: () => {
        pings += 1;
        sent = clock.monotonic();
      },
      onDead: () => (isDead = true),
    },
    scope.signal,
  );
  await clock.advance(15_000);
  assert.equal(pings, 0);
  await clock.advance(15_000);
  assert.equal(pings, 1);
  // Bytes of one large message arrive for minutes: the broker lives, and still hears from us.
  for (let i = 0; i < 20; i++) {
    received = clock.monotonic();
    await clock.advance(15_000);
  }
  assert.ok(pings >= 10);
  assert.equal(isDead, false);
  // A message of ours that takes five minutes at 1 kB/s: until then the broker cannot answer anything.
  pending = 300_000;
  received = clock.monotonic();
  await clock.advance(375_000);
  assert.equal(isDead, false);
  pending = 0;
  received = clock.monotonic();
  await clock.advance(90_000);
  assert.equal(isDead, true);
  assert.equal(clock.pending, 0);
});

test('a scope ends with its parent, and leaves no listener on it', () => {
  const parent = new Scope();
  const child = new Scope(parent.signal);
  child.end();
  assert.equal(parent.signal.aborted, false);
  const second = new Scope(parent.signal);
  parent.end(new Error('why'));
  assert.equal((second.signal.reason as Error).message, 'why');
  assert.equal(new Scope(parent.signal).signal.aborted, true);
});
