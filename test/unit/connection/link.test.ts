/** One connection to a broker that the test plays, chunk by chunk. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Duplex } from 'node:stream';
import { test } from 'node:test';
import { parseBrokerAddress } from '../../../src/connection/broker-address.js';
import { Link } from '../../../src/connection/link.js';
import type { Delivery } from '../../../src/connection/ports.js';
import { FakeClock, settle } from '../../support/clock.js';

/** The transport: what the test pushes comes from the broker, in just these chunks. */
class Wire extends Duplex {
  readonly written: Buffer[] = [];

  override _read(): void {
    // The test pushes.
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.written.push(chunk);
    this.emit('wrote');
    done();
  }
}

/** Two packets that the package reads, the second in a turn of its own: what comes meanwhile waits before it. */
const PONGS = Buffer.from('d000d000', 'hex');

function publish(id: number): Buffer {
  return Buffer.concat([Buffer.of(0x32, 10), Buffer.from('0004696e2f78', 'hex'), Buffer.of(0, id, 0, 48 + id)]);
}

async function openLink(): Promise<{ wire: Wire; link: Link; messages: Delivery[] }> {
  const wire = new Wire();
  const messages: Delivery[] = [];
  const link = new Link({
    transport: wire,
    broker: parseBrokerAddress('mqtt://broker.example'),
    protocolVersion: '5',
    clientId: 'c',
    username: undefined,
    password: undefined,
    will: undefined,
    subscriptions: [],
    keepalive: 0,
    sessionExpiry: 0,
    maxMessageSize: 1_000_000,
    receiveMaximum: 100,
    clock: new FakeClock(),
    onMessage: (delivery) => messages.push(delivery),
  });
  if (wire.written.length === 0) await once(wire, 'wrote');
  wire.push(Buffer.from('2003000000', 'hex'));
  assert.equal((await link.opened).kind, 'open');
  return { wire, link, messages };
}

test('what the mqtt package reads is announced in the order of arrival, also when chunks wait for it', async () => {
  const { wire, link, messages } = await openLink();
  link.holdReading();
  wire.push(PONGS);
  wire.push(Buffer.concat([publish(1), publish(2)]));
  for (let id = 3; id <= 5; id++) wire.push(publish(id));
  wire.push(Buffer.concat([publish(6), publish(7)]));
  for (let id = 8; id <= 9; id++) wire.push(publish(id));
  await settle();
  assert.equal(messages.length, 0);
  link.readOn();
  await settle();
  const ids = messages.map(({ payload }) => Number(payload.toString()));
  assert.deepEqual(ids, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  const written = wire.written.length;
  for (const message of messages) message.ack();
  await settle();
  assert.equal(Buffer.concat(wire.written.slice(written)).toString('hex'), ids.map((id) => `4002000${id}`).join(''));
  const closed = link.close();
  wire.push(null);
  await closed;
});
