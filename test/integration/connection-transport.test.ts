import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import test from 'node:test';
import { Aedes } from 'aedes';
import { Connection } from '../../src/connection/index.js';
import { makeAuthority, makeCertificates } from '../support/authority.js';
import { FakeClock } from '../support/clock.js';
import { startConnectProxy } from '../support/connect-proxy.js';
import { testConnection, type TestConnection } from '../support/connection.js';
import { freePorts, mosquittoMissing, startMosquitto } from '../support/mosquitto.js';
import { CONNECT, FrameReader, PUBLISH, SUBSCRIBE } from '../support/mqtt-frames.js';
import { tempDir } from '../support/temp.js';

const options = { skip: mosquittoMissing, timeout: 15_000 };
const slow = { first: 60_000, cap: 60_000 };

async function roundTrip(agent: TestConnection): Promise<void> {
  await agent.connection.start();
  await agent.up();
  await agent.connection.publish('in/a', Buffer.from('hello'));
  assert.equal((await agent.message()).payload.toString(), 'hello');
}

test('mqtts and wss with a client certificate; ws without', options, async () => {
  await using dir = await tempDir();
  const { authority, server, client } = await makeCertificates(dir.path);
  const tls = { caFile: authority.caFile, ...server, requireClientCertificate: true };
  await using broker = await startMosquitto({ tls, websockets: true, secureWebsockets: tls });
  for (const url of [
    `mqtts://localhost:${broker.tlsPort}`,
    `ssl://127.0.0.1:${broker.tlsPort}`,
    `wss://localhost:${broker.wssPort}/mqtt`,
    `ws://127.0.0.1:${broker.wsPort}/mqtt`,
  ]) {
    await using agent = testConnection({
      brokers: [url],
      tls: () => ({ ca: authority.ca, cert: client.cert, key: client.key }),
    });
    await roundTrip(agent);
    await agent.connection.stop();
  }
});

test('TLS failures say what to do', options, async () => {
  await using dir = await tempDir();
  const { authority, server, client } = await makeCertificates(dir.path);
  const expired = await authority.issue('expired', { altNames: ['IP:127.0.0.1'], isExpired: true });
  const otherName = await authority.issue('other', { altNames: ['DNS:elsewhere'] });
  const stranger = await makeAuthority(dir.path, 'stranger');
  const ca = authority.ca;
  const cases = [
    { server, tls: { ca: stranger.ca }, pattern: /authority this machine does not know\. Add/ },
    { server: expired, tls: { ca }, pattern: /certificate has expired/ },
    { server: otherName, tls: { ca }, pattern: /stands for another name/ },
    { server, tls: { ca }, isMutual: true, pattern: /client certificate|does not accept our certificate/ },
    { server, tls: { ca, cert: client.cert, key: server.key }, pattern: /key/, code: 'credentials' },
    { server, tls: { ca, cert: client.cert }, pattern: /a certificate but no key/, code: 'credentials' },
  ];
  for (const { server, tls, isMutual, pattern, code } of cases) {
    await using broker = await startMosquitto({
      tls: { caFile: authority.caFile, ...server, requireClientCertificate: isMutual === true },
    });
    await using agent = testConnection({
      brokers: [`mqtts://127.0.0.1:${broker.tlsPort}`],
      tls: () => tls,
      backoff: slow,
    });
    await agent.connection.start();
    const down = await agent.down();
    assert.match(down.reason, pattern);
    assert.equal(down.code, code ?? 'tls');
  }
});

test(
  'renew takes a new pair, keeps the session, and keeps the old pair when the new one is wrong',
  options,
  async () => {
    await using dir = await tempDir();
    const { authority, server, client } = await makeCertificates(dir.path);
    const next = await authority.issue('next', { commonName: 'client-1' });
    const tls = { caFile: authority.caFile, ...server, requireClientCertificate: true };
    await using broker = await startMosquitto({ tls });
    let pair = { cert: client.cert, key: client.key };
    await using agent = testConnection({
      brokers: [`mqtts://127.0.0.1:${broker.tlsPort}`],
      tls: () => ({ ca: authority.ca, ...pair }),
    });
    await agent.connection.start();
    await agent.up();
    pair = { cert: next.cert, key: client.key };
    const kept = await agent.connection.renew();
    assert.equal(kept.kind, 'kept');
    assert.equal(agent.downs.length, 0);
    await agent.connection.reconnect(0);
    assert.equal((await agent.up(2)).sessionPresent, true, 'the last good pair is used');
    pair = { cert: next.cert, key: next.key };
    assert.deepEqual(await agent.connection.renew(), { kind: 'renewed' });
    assert.equal((await agent.up(3)).sessionPresent, true);
  },
);

test('a proxy carries mqtt and ws, with its credentials, which no text holds', options, async () => {
  await using broker = await startMosquitto({ websockets: true });
  await using proxy = await startConnectProxy();
  for (const [url, port] of [
    [broker.url, broker.port],
    [`ws://127.0.0.1:${broker.wsPort}/`, broker.wsPort],
  ] as const) {
    await using agent = testConnection({
      brokers: [url],
      proxy: () => `http://user:se%20cret@127.0.0.1:${proxy.port}`,
    });
    await roundTrip(agent);
    const asked = proxy.asked.at(-1);
    assert.equal(asked?.target, `127.0.0.1:${port}`);
    const basic = Buffer.from('user:se cret').toString('base64');
    assert.equal(asked.headers['proxy-authorization'], `Basic ${basic}`);
  }
  await using refusing = await startConnectProxy(407);
  await using agent = testConnection({
    brokers: [broker.url],
    proxy: () => `http://user:se%20cret@127.0.0.1:${refusing.port}`,
    backoff: slow,
  });
  await agent.connection.start();
  const down = await agent.down();
  assert.equal(down.code, 'proxy');
  assert.match(down.reason, /answered HTTP 407\. Check the user and password/);
  assert.doesNotMatch(JSON.stringify([down, agent.log.lines]), /cret/);
});

test('a bad password is told once and tried again for ever', options, async () => {
  await using broker = await startMosquitto({ users: { ann: 'right' } });
  for (const protocolVersion of ['5', '3.1.1'] as const) {
    let password = 'wrong';
    await using agent = testConnection({
      brokers: [broker.url],
      protocolVersion,
      credentials: () => ({ username: 'ann', password }),
    });
    await agent.connection.start();
    const down = await agent.down(3);
    assert.equal(down.code, 'refused');
    assert.match(
      down.reason,
      protocolVersion === '5' ? /refused the connection: not authorised|bad user name/ : /refused/,
    );
    assert.match(down.reason, /Check /);
    assert.equal(
      agent.log.lines.filter((line) => line.event === 'connection.failed' && line.level === 'warn').length,
      1,
    );
    password = 'right';
    await agent.up();
    await agent.connection.stop();
  }
});

test('a payload above the limit is cut, in its place, and acknowledged in its turn', options, async () => {
  await using broker = await startMosquitto({ websockets: true });
  for (const protocolVersion of ['5', '3.1.1'] as const) {
    await using agent = testConnection({ brokers: [broker.url], protocolVersion, maxMessageSize: 100_000 });
    await agent.connection.start();
    await agent.up();
    const large = Buffer.alloc(3_000_000, 'x');
    await Promise.all([
      agent.connection.publish('in/a', Buffer.from('before')),
      agent.connection.publish('in/b', large, { correlationData: Buffer.from('c'), responseTopic: 'answer' }),
      agent.connection.publish('in/c', Buffer.alloc(100_000)),
      agent.connection.publish('in/d', Buffer.from('after')),
    ]);
    await agent.message(4);
    assert.deepEqual(
      agent.messages.map(({ topic, payload, truncatedFrom }) => [topic, payload.length, truncatedFrom]),
      [
        ['in/a', 6, undefined],
        ['in/b', 65_536, 3_000_000],
        ['in/c', 100_000, undefined],
        ['in/d', 5, undefined],
      ],
    );
    assert.equal(agent.messages[1]?.responseTopic, protocolVersion === '5' ? 'answer' : undefined);
    for (const delivery of agent.messages.toReversed()) delivery.ack();
    agent.connection.flushAcks();
    assert.equal(agent.connection.unacknowledged, 0);
    await agent.connection.stop();
  }
});

test('a broker that speaks 3.1.1 only is met at once, and remembered', { timeout: 15_000 }, async () => {
  const aedes = await Aedes.createBroker();
  const server = createServer((socket) => aedes.handle(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = address !== null && typeof address === 'object' ? address.port : 0;
  try {
    await using agent = testConnection({ brokers: [`tcp://127.0.0.1:${port}`], backoff: slow });
    await agent.connection.start();
    assert.equal((await agent.up()).protocolVersion, '3.1.1');
    assert.equal(agent.downs.length, 0, 'no back-off between the two');
    await agent.connection.reconnect(0);
    await agent.up(2);
    assert.equal(agent.log.lines.filter((line) => line.event === 'connection.version').length, 1);
  } finally {
    server.close();
    await new Promise<void>((resolve) => aedes.close(resolve));
  }
});

test('the brokers are tried in turn, and the first is gone back to when it accepts', options, async () => {
  const [port] = await freePorts(1);
  await using second = await startMosquitto();
  const clock = new FakeClock();
  await using agent = testConnection({ brokers: [`mqtt://127.0.0.1:${port}`, second.url], clock, keepalive: 0 });
  await agent.connection.start();
  assert.equal((await agent.up()).broker, second.url);
  const first = createServer((socket) => socket.destroy());
  first.listen(port, '127.0.0.1');
  await once(first, 'listening');
  const probed = once(first, 'connection');
  await clock.advance(600_001);
  await probed;
  const down = await agent.down();
  assert.equal(down.code, 'moving');
  await second.line(/Received DISCONNECT from client-1/);
  first.close();
  await agent.connection.stop();
});

test('a name without an address and a port where no MQTT is spoken are told as such', { timeout: 15_000 }, async () => {
  await using nowhere = testConnection({ brokers: ['mqtt://name.invalid'], backoff: slow });
  await nowhere.connection.start();
  const down = await nowhere.down();
  assert.equal(down.code, 'unresolved');
  assert.match(down.reason, /name\.invalid:1883: its name has no address here/);
  const server = createServer((socket) => socket.end('220 mail ready\r\n'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = address !== null && typeof address === 'object' ? address.port : 0;
  await using mail = testConnection({ brokers: [`mqtt://127.0.0.1:${port}`], backoff: slow });
  await mail.connection.start();
  assert.match((await mail.down()).code, /protocol|closed/);
  server.close();
});

test(
  'an attempt ends after the connect time-out, and stop works in the middle of one',
  { timeout: 15_000 },
  async () => {
    const sockets: { destroy(): void }[] = [];
    const server = createServer((socket) => sockets.push(socket));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const url = `mqtt://127.0.0.1:${address !== null && typeof address === 'object' ? address.port : 0}`;
    await using silent = testConnection({ brokers: [url], connectTimeout: 50, backoff: slow });
    await silent.connection.start();
    assert.equal((await silent.down()).code, 'timeout');
    const accepted = once(server, 'connection');
    await using stopped = testConnection({ brokers: [url] });
    await stopped.connection.start();
    await accepted;
    await stopped.connection.stop();
    assert.equal(stopped.downs.length, 0);
    for (const socket of sockets) socket.destroy();
    server.close();
  },
);

test('many starts and stops leave no handle behind', options, async () => {
  await using broker = await startMosquitto();
  const [closed] = await freePorts(1);
  const count = (): number => process.getActiveResourcesInfo().length;
  const settled = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  await settled();
  const before = count();
  for (let i = 0; i < 200; i++) {
    const connection = new Connection({ brokers: [`mqtt://127.0.0.1:${closed}`], clientId: 'c' });
    await connection.start();
    if (i % 2 === 0) await connection.down.next(AbortSignal.timeout(5_000));
    await connection.stop();
  }
  for (let i = 0; i < 30; i++) {
    await using agent = testConnection({ brokers: [broker.url] });
    await agent.connection.start();
    if (i % 2 === 0) await agent.up();
  }
  await settled();
  // The time-outs of this test itself are 100 of AbortSignal, which do not count as resources.
  assert.ok(count() <= before + 2, `${before} handles became ${count()}: ${process.getActiveResourcesInfo().join()}`);
});

test('a broker that answers a publication with PUBREC is told from one', options, async () => {
  const server = createServer((socket) => {
    const frames = new FrameReader();
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      for (const { type, bytes, packetId = 0 } of frames.push(chunk)) {
        if (type === CONNECT) socket.write(Buffer.of(0x20, 2, 0, 0));
        if (type === SUBSCRIBE) socket.write(Buffer.of(0x90, 3, ...bytes.subarray(2, 4), 1));
        if (type === PUBLISH) socket.write(Buffer.of(0x50, 2, packetId >> 8, packetId & 255));
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  try {
    await using agent = testConnection({ brokers: [`mqtt://127.0.0.1:${port}`], protocolVersion: '3.1.1' });
    await agent.connection.start();
    await agent.up();
    await assert.rejects(agent.connection.publish('out', Buffer.from('x')), { code: 'connection.closed' });
    const down = await agent.down();
    assert.equal(down.code, 'protocol');
    assert.match(down.reason, /a PUBREC came/);
  } finally {
    server.close();
  }
});
