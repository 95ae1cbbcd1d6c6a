/** What comes on control/in, and what it does. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { directiveKey, parseDirective } from '../../../src/message/index.js';
import type { DataCancel } from '../../../src/router/index.js';
import { settle } from '../../support/clock.js';
import {
  commandMessage,
  CONTROL_IN,
  CONTROL_OUT,
  DATA_IN,
  DATA_OUT,
  dataMessage,
  openTestRouter,
  until,
  type TestRouter,
  type TestRouterOptions,
} from '../../support/router.js';

const forever = new AbortController().signal;

async function openUp(options?: TestRouterOptions): Promise<TestRouter> {
  const t = await openTestRouter(options);
  await t.router.start();
  await t.connection.open();
  await settle();
  return t;
}

const events = (t: TestRouter): unknown[] =>
  t
    .on(CONTROL_OUT)
    .filter(({ type }) => type === 'event')
    .map(({ content, response_to }) => [content, response_to]);
const states = (t: TestRouter): unknown[] =>
  t
    .on(CONTROL_OUT)
    .filter(({ type }) => type === 'connection-status')
    .map(({ content }) => (content as { state: unknown }).state);

describe('ping', () => {
  test('is answered with a pong that names it, and acknowledged', async () => {
    await using t = await openUp();
    const delivered = t.connection.deliver(CONTROL_IN, commandMessage('c1', 'ping'));
    await settle();
    assert.deepEqual(events(t), [['pong', 'c1']]);
    assert.equal(delivered.isAcknowledged, true);
    const pong = t.connection.published.at(-1);
    assert.deepEqual([pong?.options.qos, pong?.options.retain], [1, false]);
  });

  test('is answered at once while the window is full of results', async () => {
    await using t = await openUp({ connection: { answers: false, receiveMaximum: 10 } });
    for (const published of t.connection.published) published.answer();
    for (let i = 0; i < 20; i++) await t.result(`${i}`);
    assert.ok(t.on(DATA_OUT).length < 10);
    t.connection.deliver(CONTROL_IN, commandMessage('c1', 'ping'));
    await settle();
    assert.deepEqual(events(t), [['pong', 'c1']]);
  });

  test('that came before the link was quite up is answered when it is', async () => {
    await using t = await openTestRouter({ settings: { receiveMaximum: 1 } });
    await t.router.start();
    const first = t.connection.deliver(CONTROL_IN, commandMessage('c1', 'ping'));
    const second = t.connection.deliver(CONTROL_IN, commandMessage('c2', 'ping'));
    assert.equal(first.isAcknowledged, false);
    await t.connection.open();
    await settle();
    assert.deepEqual(events(t), [['pong', 'c1']]);
    assert.equal(first.isAcknowledged, true);
    assert.equal(second.isAcknowledged, false, 'beyond the bound the broker keeps it');
  });

  test('in a flood that the broker does not let us answer is answered as far as a bound', async () => {
    await using t = await openUp({ connection: { answers: false, receiveMaximum: 1 } });
    for (let i = 0; i < 300; i++) t.connection.deliver(CONTROL_IN, commandMessage(`c${i}`, 'ping'));
    await settle();
    t.connection.answers = true;
    for (const published of [...t.connection.published]) published.answer();
    await settle();
    assert.equal(events(t).length, 256);
  });
});

describe('what is no command to carry out', () => {
  for (const [name, payload, options, event] of [
    ['empty', '', {}, 'command.ignored'],
    ['retained', commandMessage('c', 'ping'), { retain: true }, 'command.ignored'],
    ['too large', commandMessage('c', 'ping'), { truncatedFrom: 99_999_999 }, 'command.ignored'],
    ['malformed', '{"type":"command"}', {}, 'command.malformed'],
    ['unknown', commandMessage('c', 'dance'), {}, 'command.refused'],
  ] as const) {
    test(`${name}: a line in the log, an acknowledgement, nothing else`, async () => {
      await using t = await openUp();
      const delivered = t.connection.deliver(CONTROL_IN, payload, options);
      await settle();
      assert.equal(delivered.isAcknowledged, true);
      assert.deepEqual(events(t), []);
      assert.equal((await t.log.line(event)).level, 'warn');
    });
  }

  test('a message on a topic that is not the agent’s is acknowledged and ignored', async () => {
    await using t = await openUp();
    const delivered = t.connection.deliver('yggdrasil/other/control/in', commandMessage('c', 'ping'));
    await settle();
    assert.equal(delivered.isAcknowledged, true);
    assert.deepEqual(events(t), []);
    assert.equal((await t.log.line('router.foreign_topic')).level, 'warn');
  });
});

describe('disconnect', () => {
  test('tells the event and offline, flushes the acknowledgements, then stays away until told to link up', async () => {
    await using t = await openUp();
    let told = 0;
    t.router.disconnectCommand.connect(() => (told += 1), forever);
    t.router.connectionLost.connect(() => assert.fail('it was our own wish'), forever);
    const delivered = t.connection.deliver(CONTROL_IN, commandMessage('c1', 'disconnect'));
    await until(() => t.connection.calls.includes('disconnect'));
    await settle();
    assert.deepEqual(events(t), [['disconnect', 'c1']]);
    assert.deepEqual(states(t), ['online', 'offline']);
    assert.deepEqual(t.connection.calls, ['start', 'flushAcks', 'disconnect']);
    assert.equal(delivered.isAcknowledged, true);
    assert.equal(told, 1);
    assert.equal(t.store.isCommandRecorded('c1'), true);

    let restored = 0;
    t.router.connectionRestored.connect(() => (restored += 1), forever);
    await t.router.linkUp();
    assert.equal(t.connection.calls.at(-1), 'connect');
    await t.connection.open();
    assert.equal(restored, 1, 'who was told of the disconnect is told of the return');
  });
});

describe('reconnect', () => {
  test('is recorded and its PUBACK flushed before it takes effect; offline is told', async () => {
    await using t = await openUp();
    t.connection.called.connect((call) => {
      if (call === 'flushAcks') assert.equal(t.store.isCommandRecorded('c1'), true);
    }, forever);
    t.connection.deliver(CONTROL_IN, commandMessage('c1', 'reconnect', { delay: '60' }));
    await until(() => t.connection.calls.includes('reconnect 60000'));
    assert.deepEqual(t.connection.calls, ['start', 'flushAcks', 'reconnect 60000']);
    assert.deepEqual(states(t), ['online', 'offline']);
  });

  test('that comes again is acknowledged and ignored, also when both copies come at once', async () => {
    await using t = await openUp();
    t.connection.deliver(CONTROL_IN, commandMessage('c1', 'reconnect'));
    t.connection.deliver(CONTROL_IN, commandMessage('c1', 'reconnect'));
    await until(() => t.connection.calls.includes('reconnect 0'));
    await settle();
    await t.connection.open();
    const again = t.connection.deliver(CONTROL_IN, commandMessage('c1', 'reconnect'));
    await settle();
    assert.equal(again.isAcknowledged, true);
    assert.deepEqual(
      t.connection.calls.filter((call) => call.startsWith('reconnect')),
      ['reconnect 0'],
    );
  });

  test('without an id is carried out each time', async () => {
    await using t = await openUp();
    t.connection.deliver(CONTROL_IN, commandMessage('', 'reconnect'));
    await until(() => t.connection.calls.includes('reconnect 0'));
    await settle();
    await t.connection.open();
    t.connection.deliver(CONTROL_IN, commandMessage('', 'reconnect'));
    await until(() => t.connection.calls.filter((call) => call === 'reconnect 0').length === 2);
  });

  test('with a bad delay is refused, and the connection stays', async () => {
    await using t = await openUp();
    const delivered = t.connection.deliver(CONTROL_IN, commandMessage('c1', 'reconnect', { delay: 'soon' }));
    await settle();
    assert.equal(delivered.isAcknowledged, true);
    assert.deepEqual(t.connection.calls, ['start']);
    assert.match((await t.log.line('command.refused')).text, /delay must be a number of seconds from 0 to 86400/);
  });
});

describe('a command that the disk cannot record', () => {
  interface Disk {
    isFull: boolean;
  }

  async function openFaulty(settings = {}): Promise<{ t: TestRouter; disk: Disk }> {
    const disk: Disk = { isFull: true };
    const t = await openUp({
      settings,
      wrapStore: (store) =>
        new Proxy(store, {
          get: (target, name) => {
            const value: unknown = Reflect.get(target, name);
            if (disk.isFull && (name === 'recordCommand' || name === 'cancel')) {
              return () => Promise.reject(new Error('no space left'));
            }
            return typeof value === 'function' ? (value.bind(target) as unknown) : value;
          },
        }),
    });
    return { t, disk };
  }

  const reconnects = (t: TestRouter): number => t.connection.calls.filter((call) => call === 'reconnect 0').length;

  test('is tried until it is recorded, then carried out; a ping behind it is answered meanwhile', async () => {
    const { t, disk } = await openFaulty();
    await using _ = t;
    const command = t.connection.deliver(CONTROL_IN, commandMessage('c1', 'reconnect'));
    const ping = t.connection.deliver(CONTROL_IN, commandMessage('c2', 'ping'));
    const bad = t.connection.deliver(CONTROL_IN, commandMessage('c3', 'reconnect', { delay: 'soon' }));
    await settle();
    await t.clock.advance(3000);
    assert.deepEqual(events(t), [['pong', 'c2']]);
    assert.match((await t.log.line('command.refused')).text, /delay/);
    assert.equal(reconnects(t), 0);
    assert.equal(command.isAcknowledged || ping.isAcknowledged || bad.isAcknowledged, false, 'in their turn');
    disk.isFull = false;
    await t.clock.advance(1000);
    await until(() => reconnects(t) === 1);
    assert.equal(command.isAcknowledged && ping.isAcknowledged && bad.isAcknowledged, true);
    assert.equal(t.store.isCommandRecorded('c1'), true);
    assert.deepEqual(
      t.log.lines.filter(({ event }) => event === 'command.not_recorded').map(({ level }) => level),
      ['error', 'debug', 'debug', 'debug'],
    );
  });

  test('is left to the broker when the link ends, and carried out once when it comes again', async () => {
    const { t, disk } = await openFaulty();
    await using _ = t;
    t.connection.deliver(CONTROL_IN, commandMessage('c1', 'reconnect'));
    t.connection.deliver(CONTROL_IN, commandMessage('c2', 'cancel', { directive: 'echo', messageID: 'm1' }));
    await settle();
    t.connection.cut();
    await settle();
    disk.isFull = false;
    await t.clock.advance(5000);
    assert.equal(reconnects(t), 0);
    assert.equal(t.store.isCommandRecorded('c1'), false);
    await t.connection.open();
    const again = t.connection.deliver(CONTROL_IN, commandMessage('c1', 'reconnect'));
    await until(() => reconnects(t) === 1);
    assert.equal(again.isAcknowledged, true);
  });

  test('and comes a second time on the next link takes the place of the first, and happens once', async () => {
    let record: (error?: Error) => void = () => undefined;
    await using t = await openUp({
      wrapStore: (store) =>
        new Proxy(store, {
          get: (target, name) => {
            if (name === 'recordCommand') {
              return (id: string) =>
                new Promise<void>((resolve, reject) => {
                  record = (error) => (error === undefined ? resolve(target.recordCommand(id)) : reject(error));
                });
            }
            const value: unknown = Reflect.get(target, name);
            return typeof value === 'function' ? (value.bind(target) as unknown) : value;
          },
        }),
    });
    t.connection.deliver(CONTROL_IN, commandMessage('c1', 'reconnect'));
    t.connection.cut();
    await t.connection.open();
    const second = t.connection.deliver(CONTROL_IN, commandMessage('c1', 'reconnect'));
    const third = t.connection.deliver(CONTROL_IN, commandMessage('c1', 'reconnect'));
    await settle();
    record(new Error('EIO'));
    await settle();
    const acknowledged = (): boolean[] => [second.isAcknowledged, third.isAcknowledged];
    assert.deepEqual(acknowledged(), [false, false]);
    record();
    await until(() => reconnects(t) === 1);
    await settle();
    assert.deepEqual(acknowledged(), [true, true]);
    assert.equal(reconnects(t), 1);
  });

  test('and was recorded when its link had just ended is carried out, since it will not be when it comes again', async () => {
    const { t, disk } = await openFaulty();
    await using _ = t;
    disk.isFull = false;
    t.connection.deliver(CONTROL_IN, commandMessage('c1', 'reconnect'));
    t.connection.cut();
    await until(() => reconnects(t) === 1);
  });

  test('that is a cancel is acknowledged only once it is done', async () => {
    const { t, disk } = await openFaulty();
    await using _ = t;
    const cancel = commandMessage('c1', 'cancel', { directive: 'echo', messageID: 'm1' });
    const delivered = t.connection.deliver(CONTROL_IN, cancel);
    await t.clock.advance(2000);
    assert.equal(delivered.isAcknowledged, false);
    disk.isFull = false;
    await t.clock.advance(1000);
    await until(() => delivered.isAcknowledged);
    t.connection.deliver(DATA_IN, dataMessage('m1'));
    await until(() => t.on(DATA_OUT).length === 1);
    assert.deepEqual(t.received, []);
  });

  test('at QoS 0 is not given up with the link, since nobody sends it again', async () => {
    const { t, disk } = await openFaulty();
    await using _ = t;
    t.connection.deliver(CONTROL_IN, commandMessage('c1', 'reconnect'), { qos: 0 });
    await settle();
    t.connection.cut();
    await settle();
    disk.isFull = false;
    await t.clock.advance(1000);
    await until(() => reconnects(t) === 1);
  });

  test('waits only as far as a bound; beyond it the broker keeps it', async () => {
    const { t, disk } = await openFaulty({ receiveMaximum: 1 });
    await using _ = t;
    t.connection.deliver(CONTROL_IN, commandMessage('c1', 'cancel', { directive: 'echo', messageID: 'm1' }));
    t.connection.deliver(CONTROL_IN, commandMessage('c2', 'cancel', { directive: 'echo', messageID: 'm2' }));
    await settle();
    disk.isFull = false;
    await t.clock.advance(5000);
    t.connection.deliver(DATA_IN, dataMessage('m1'));
    t.connection.deliver(DATA_IN, dataMessage('m2'));
    await until(() => t.received.length === 1);
    assert.equal(t.store.inbound(t.received[0]!)?.messageId, 'm2');
  });
});

test('a command whose execution fails is told of in the log', async () => {
  await using t = await openUp();
  t.connection.reconnect = () => Promise.reject(new Error('no such link'));
  const delivered = t.connection.deliver(CONTROL_IN, commandMessage('c1', 'reconnect'));
  assert.match((await t.log.line('command.failed')).text, /no such link/);
  assert.equal(delivered.isAcknowledged, true);
});

describe('cancel', () => {
  const cancel = (messageID: string): Buffer =>
    commandMessage(`c-${messageID}`, 'cancel', { directive: 'echo', messageID });

  test('of a pending message ends it and publishes the answer', async () => {
    await using t = await openUp();
    t.connection.deliver(DATA_IN, dataMessage('m1'));
    await until(() => t.received.length === 1);
    const delivered = t.connection.deliver(CONTROL_IN, cancel('m1'));
    await until(() => t.on(DATA_OUT).length === 1);
    const [answer] = t.on(DATA_OUT);
    assert.equal((answer?.['metadata'] as Record<string, string>)['error-code'], 'cancelled');
    assert.equal(answer?.['response_to'], 'm1');
    assert.equal(delivered.isAcknowledged, true);
    assert.equal(t.store.inbound(t.received[0]!), undefined);
  });

  test('by hand does what the command does, and says what came of it', async () => {
    await using t = await openUp();
    t.connection.deliver(DATA_IN, dataMessage('m1'));
    await until(() => t.received.length === 1);
    const echo = directiveKey(parseDirective('echo')!);
    assert.equal((await t.router.cancel(echo, 'm1')).kind, 'cancelled');
    await until(() => t.on(DATA_OUT).length === 1);
    assert.equal((await t.router.cancel(echo, 'm1')).kind, 'already-ended');
  });

  test('of an unknown message ends it when it arrives', async () => {
    await using t = await openUp();
    t.connection.deliver(CONTROL_IN, cancel('m1'));
    await settle();
    t.connection.deliver(DATA_IN, dataMessage('m1'));
    await until(() => t.on(DATA_OUT).length === 1);
    assert.deepEqual(t.received, []);
  });

  test('of a message that is with its worker is passed on', async () => {
    await using t = await openUp();
    const cancels: DataCancel[] = [];
    t.router.dataCancel.connect((request) => cancels.push(request), forever);
    t.connection.deliver(DATA_IN, dataMessage('m1'));
    await until(() => t.received.length === 1);
    const key = t.received[0]!;
    t.store.markReady(key);
    t.store.markDispatching(key);
    t.connection.deliver(CONTROL_IN, cancel('m1'));
    await until(() => cancels.length === 1);
    assert.deepEqual(cancels, [{ key, directive: directiveKey(parseDirective('echo')!), messageId: 'm1' }]);
  });

  test('of a message that has ended does nothing', async () => {
    await using t = await openUp();
    t.router.dataCancel.connect(() => assert.fail(), forever);
    t.connection.deliver(DATA_IN, dataMessage('m1'));
    await until(() => t.received.length === 1);
    await t.store.delivered(t.received[0]!);
    const delivered = t.connection.deliver(CONTROL_IN, cancel('m1'));
    await until(() => delivered.isAcknowledged);
    assert.deepEqual(t.on(DATA_OUT), []);
  });
});
