/** A connection to brokers that do what brokers do seldom, or must not do. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { FakeClock } from '../support/clock.js';
import { testConnection, type TestConnection } from '../support/connection.js';
import { CONNECT, DISCONNECT, type Frame, FrameReader, SUBSCRIBE } from '../support/mqtt-frames.js';

const options = { timeout: 20_000 };
const CONNACK = Buffer.from('2003000000', 'hex');
const RESUMED = Buffer.from('2003010000', 'hex');

/** The answer to a SUBSCRIBE of one topic. */
function suback({ bytes }: Frame): Buffer {
  return Buffer.concat([Buffer.from('9004', 'hex'), bytes.subarray(2, 4), Buffer.from('0001', 'hex')]);
}

function publish(id: number): Buffer {
  return Buffer.concat([Buffer.from('320a0004696e2f78000' + String(id) + '00', 'hex'), Buffer.from(String(id))]);
}

interface Hostile extends AsyncDisposable {
  readonly url: string;
  readonly sockets: readonly Socket[];
  readonly frames: readonly Frame[];
}

/** A broker that does with each packet what the test says. */
async function hostileBroker(answer: (frame: Frame, socket: Socket) => void): Promise<Hostile> {
  const sockets: Socket[] = [];
  const frames: Frame[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const reader = new FrameReader();
    sockets.push(socket);
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      for (const frame of reader.push(chunk)) {
        frames.push(frame);
        answer(frame, socket);
      }
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`,
    sockets,
    frames,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

function welcome(frame: Frame, socket: Socket): void {
  if (frame.type === CONNECT) socket.write(CONNACK);
  if (frame.type === SUBSCRIBE) socket.write(suback(frame));
}

/** Several turns of the event loop, in which sockets are read: another connection comes up. */
async function roundTrip(): Promise<void> {
  await using broker = await hostileBroker(welcome);
  await using other = testConnection({ brokers: [broker.url], protocolVersion: '5', keepalive: 0 });
  await other.connection.start();
  await other.up();
}

function agentOf(broker: Hostile, more: Partial<Parameters<typeof testConnection>[0]> = {}): TestConnection {
  return testConnection({ brokers: [broker.url], protocolVersion: '5', keepalive: 0, ...more });
}

test('what waited in the session is held back too, before the connection is up', options, async () => {
  let subscribe: Frame | undefined;
  await using broker = await hostileBroker((frame, socket) => {
    if (frame.type === CONNECT) socket.write(Buffer.concat([RESUMED, publish(1)]));
    if (frame.type === SUBSCRIBE) subscribe = frame;
  });
  await using agent = agentOf(broker);
  agent.connection.message.connect(() => agent.connection.holdReading(), new AbortController().signal);
  await agent.connection.start();
  await agent.message(1);
  broker.sockets[0]?.write(publish(2));
  await roundTrip();
  assert.equal(agent.messages.length, 1);
  agent.connection.readOn();
  await agent.message(2);
  agent.connection.readOn();
  assert.ok(subscribe !== undefined);
  broker.sockets[0]?.write(suback(subscribe));
  await agent.up();
});

test('what is acknowledged after the goodbye is not written, and does not cut it short', options, async () => {
  let saidGoodbye = (): void => undefined;
  const goodbye = new Promise<void>((resolve) => (saidGoodbye = resolve));
  await using broker = await hostileBroker((frame, socket) => {
    welcome(frame, socket);
    if (frame.type === DISCONNECT) saidGoodbye();
  });
  const clock = new FakeClock();
  await using agent = agentOf(broker, { clock });
  await agent.connection.start();
  await agent.up();
  broker.sockets[0]?.write(publish(1));
  const message = await agent.message(1);
  let isStopped = false;
  const stopped = agent.connection.stop().then(() => (isStopped = true));
  await goodbye;
  message.ack();
  await roundTrip();
  assert.equal(isStopped, false, 'the broker has not closed yet');
  broker.sockets[0]?.end();
  await stopped;
  const [, , ...rest] = broker.frames.map(({ bytes }) => bytes.toString('hex'));
  assert.deepEqual(rest, ['e000']);
});

test('a PUBLISH before the broker has accepted the connection ends it, and is nobody’s message', options, async () => {
  await using broker = await hostileBroker((frame, socket) => {
    if (frame.type === CONNECT) socket.write(Buffer.concat([publish(1), CONNACK]));
  });
  await using agent = agentOf(broker);
  await agent.connection.start();
  const { reason } = await agent.down();
  assert.match(reason, /could not be read as MQTT: a PUBLISH came before the CONNACK/);
  assert.equal(agent.messages.length, 0);
});
