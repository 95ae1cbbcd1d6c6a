/** A connection whose packets are read partly by us and partly by the mqtt package: nothing of that shows. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { testConnection } from '../support/connection.js';

const CONNACK = Buffer.from('2003000000', 'hex');
const PONG = Buffer.from('d000', 'hex');
/** The id of a subscription: the mqtt package is left to read that. */
const SUBSCRIPTION_ID = '0b05';

function publish(id: number, properties: string): Buffer {
  const hex = '0004696e2f78' + `000${id}` + (properties.length / 2).toString(16).padStart(2, '0');
  const body = Buffer.concat([Buffer.from(hex + properties, 'hex'), Buffer.from(`payload ${id}`)]);
  return Buffer.concat([Buffer.of(0x32, body.length), body]);
}

/** A broker that says CONNACK and SUBACK, and then what the test writes; `received` is what came after that. */
async function scriptedBroker(): Promise<
  AsyncDisposable & { readonly url: string; socket(): Promise<Socket>; readonly received: () => string }
> {
  let received = Buffer.alloc(0);
  const server = createServer().listen(0, '127.0.0.1');
  const subscribed = new Promise<Socket>((resolve) => {
    server.on('connection', (socket) => {
      let packets = 0;
      socket.on('error', () => undefined);
      socket.on('data', (chunk) => {
        packets += 1;
        if (packets === 1) socket.write(CONNACK);
        else if (packets === 2) {
          socket.write(Buffer.concat([Buffer.from('9004', 'hex'), chunk.subarray(2, 4), Buffer.from('0001', 'hex')]));
          resolve(socket);
        } else received = Buffer.concat([received, chunk]);
      });
    });
  });
  await once(server, 'listening');
  return {
    url: `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`,
    socket: () => subscribed,
    received: () => received.toString('hex'),
    [Symbol.asyncDispose]: async () => {
      (await subscribed).destroy();
      server.close();
    },
  };
}

test('messages keep their order and wait for their acknowledgement, whoever reads them', async () => {
  await using broker = await scriptedBroker();
  await using agent = testConnection({ brokers: [broker.url], protocolVersion: '5', keepalive: 0 });
  await agent.connection.start();
  await agent.up();
  const socket = await broker.socket();
  const packets = [
    publish(1, ''),
    publish(2, SUBSCRIPTION_ID),
    publish(3, ''),
    PONG,
    publish(4, ''),
    publish(5, SUBSCRIPTION_ID),
    publish(6, ''),
  ];
  socket.write(Buffer.concat(packets));
  await agent.message(6);
  socket.write(publish(7, ''));
  await agent.message(7);
  assert.deepEqual(
    agent.messages.map(({ payload }) => payload.toString()),
    [1, 2, 3, 4, 5, 6, 7].map((id) => `payload ${id}`),
  );
  assert.equal(agent.connection.unacknowledged, 7);
  assert.equal(broker.received(), '', 'a PUBACK left before its message was acknowledged');
  for (const message of agent.messages.toReversed()) message.ack();
  await once(socket, 'data');
  assert.equal(broker.received(), [1, 2, 3, 4, 5, 6, 7].map((id) => `4002000${id}`).join(''));
});

test('a PUBACK that nobody waits for means nothing, and a malformed one ends the link', async () => {
  await using broker = await scriptedBroker();
  await using agent = testConnection({ brokers: [broker.url], protocolVersion: '5', keepalive: 0 });
  await agent.connection.start();
  await agent.up();
  const socket = await broker.socket();
  const outcome = agent.connection.publish('out', Buffer.from('x'));
  const [published] = (await once(socket, 'data')) as [Buffer];
  const id = published.subarray(7, 9).toString('hex');
  socket.write(Buffer.from(`40027777` + `4003${id}10` + `40030777ff`, 'hex'));
  assert.deepEqual(await outcome, { kind: 'acknowledged', reasonCode: 0x10 });
  // The last one was malformed: there is no such reason.
  assert.match((await agent.down()).reason, /could not be read as MQTT: Invalid puback reason code/);
});
