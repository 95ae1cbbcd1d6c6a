/** What becomes of messages on data/in. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Datastore } from '../../../src/datastore/index.js';
import { INLINE_LIMIT, newMessageId } from '../../../src/message/index.js';
import type { MalformedMessage, StorePort } from '../../../src/router/index.js';
import { settle } from '../../support/clock.js';
import { FaultyJournal } from '../../support/faulty-journal.js';
import { directive, inbound } from '../../support/messages.js';
import { DATA_IN, DATA_OUT, dataMessage, openTestRouter, until, up, type TestRouter } from '../../support/router.js';

/** The store with some of its methods replaced. */
function withFault(store: Datastore, fault: Partial<StorePort>): StorePort {
  return new Proxy<StorePort>(store, {
    get: (target, name) => {
      const value: unknown = Reflect.get(Reflect.has(fault, name) ? fault : target, name);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

function onlyRecord(test: TestRouter): NonNullable<ReturnType<Datastore['inbound']>> {
  assert.equal(test.received.length, 1);
  const record = test.store.inbound(test.received[0]!);
  assert.ok(record);
  return record;
}

function answerCodes(test: TestRouter): unknown[] {
  return test.on(DATA_OUT).map(({ metadata }) => (metadata as Record<string, string>)['error-code']);
}

describe('a message that is taken', () => {
  test('is acknowledged and announced only once it is durable, with its content as it stood', async () => {
    let release = (): void => undefined;
    const gate = new Promise<void>((resolve) => (release = resolve));
    await using t = await openTestRouter({
      wrapStore: (store) =>
        withFault(store, {
          accept: (message) => {
            const acceptance = store.accept(message);
            if (acceptance.kind === 'full') return acceptance;
            return { ...acceptance, durable: gate.then(() => acceptance.durable) };
          },
        }),
    });
    await up(t);
    const delivered = t.connection.deliver(DATA_IN, dataMessage('m1', { content: '{ "b":1.0,"a":2 }' }));
    await settle();
    assert.equal(delivered.isAcknowledged, false);
    assert.deepEqual(t.received, []);
    release();
    await settle();
    assert.equal(delivered.isAcknowledged, true);
    const { content, messageId, priority } = onlyRecord(t);
    assert.deepEqual(content, { kind: 'inline', bytes: Buffer.from('{ "b":1.0,"a":2 }') });
    assert.equal(messageId, 'm1');
    assert.equal(priority, 5);
    assert.equal(t.router.counts.accepted, 1);
  });

  test('expires at the earliest of its ttl and what the broker says', async () => {
    await using t = await up(await openTestRouter());
    t.connection.deliver(DATA_IN, dataMessage('m1', { metadata: { ttl: '60', priority: '9' } }), { messageExpiry: 30 });
    t.connection.deliver(DATA_IN, dataMessage('m2', { metadata: { ttl: '10' } }), { messageExpiry: 30 });
    t.connection.deliver(DATA_IN, dataMessage('m3'), { messageExpiry: 5 });
    await until(() => t.received.length === 3);
    const expiries = t.received.map((key) => (t.store.inbound(key)?.expiresAt ?? 0) - t.clock.now());
    assert.deepEqual(expiries, [30_000, 10_000, 5_000]);
    assert.equal(t.store.inbound(t.received[0]!)?.priority, 9);
  });

  test('whose attributes cannot be read is taken with a warning', async () => {
    await using t = await up(await openTestRouter());
    t.connection.deliver(DATA_IN, dataMessage('m1', { metadata: { ttl: 'soon' } }));
    await settle();
    assert.equal(onlyRecord(t).expiresAt, undefined);
    assert.match((await t.log.line('data.attribute')).text, /"ttl" cannot be read/);
  });

  test('keeps the response topic that is allowed, and only that', async () => {
    await using t = await up(await openTestRouter());
    const correlationData = Buffer.from('c');
    t.connection.deliver(DATA_IN, dataMessage('m1'), { responseTopic: 'yggdrasil/c1/replies', correlationData });
    t.connection.deliver(DATA_IN, dataMessage('m2'), { responseTopic: 'elsewhere', correlationData });
    await settle();
    assert.deepEqual(
      t.received.map((key) => t.store.inbound(key)?.replyTopic),
      [{ kind: 'topic', topic: 'yggdrasil/c1/replies', correlationData }, undefined],
    );
    assert.match((await t.log.line('data.attribute')).text, /response topic is not allowed/);
  });

  test('a second time is acknowledged and dropped', async () => {
    await using t = await up(await openTestRouter());
    t.connection.deliver(DATA_IN, dataMessage('m1'));
    await settle();
    const again = t.connection.deliver(DATA_IN, dataMessage('m1'));
    await settle();
    assert.equal(again.isAcknowledged, true);
    assert.equal(t.received.length, 1);
    assert.equal(t.router.counts.duplicates, 1);
  });
});

describe('a retained message', () => {
  test('is taken when its id is new, once', async () => {
    await using t = await up(await openTestRouter());
    t.connection.deliver(DATA_IN, dataMessage('m1'), { retain: true });
    await settle();
    const again = t.connection.deliver(DATA_IN, dataMessage('m1'), { retain: true });
    await settle();
    assert.equal(t.received.length, 1);
    assert.equal(again.isAcknowledged, true);
  });

  test('without an id is ignored: it would be new at every connect', async () => {
    await using t = await up(await openTestRouter());
    const delivered = t.connection.deliver(DATA_IN, '{"type":"data","directive":"echo"}', { retain: true });
    await settle();
    assert.equal(delivered.isAcknowledged, true);
    assert.deepEqual(t.received, []);
    assert.match((await t.log.line('data.ignored')).text, /no message_id/);
  });
});

describe('a message that is refused', () => {
  const cases: { name: string; payload: Buffer | string; code: string; truncatedFrom?: number; isAnswered: boolean }[] =
    [
      { name: 'is no JSON', payload: 'nonsense', code: 'malformed', isAnswered: false },
      { name: 'is empty', payload: '', code: 'malformed', isAnswered: false },
      {
        name: 'has metadata of the wrong type',
        payload: '{"type":"data","message_id":"m1","directive":"echo","metadata":7}',
        code: 'malformed',
        isAnswered: true,
      },
      {
        name: 'is larger than the limit',
        payload: dataMessage('m1', { content: `"${'x'.repeat(2000)}"` }),
        code: 'too-large',
        isAnswered: true,
      },
      {
        name: 'was cut by the connection because of its size',
        payload: dataMessage('m1').subarray(0, 150),
        code: 'too-large',
        truncatedFrom: 100_000_000,
        isAnswered: true,
      },
    ];
  for (const { name, payload, code, truncatedFrom, isAnswered } of cases) {
    test(`${name}: logged with its topic, counted, kept as dead, acknowledged${isAnswered ? ' and answered' : ''}`, async () => {
      await using t = await up(await openTestRouter({ settings: { maxMessageSize: 1000 } }));
      const refused: MalformedMessage[] = [];
      t.router.malformed.connect((message) => refused.push(message), new AbortController().signal);
      const delivered = t.connection.deliver(DATA_IN, payload, { truncatedFrom });
      await settle();
      assert.equal(delivered.isAcknowledged, true);
      assert.equal(t.router.counts.refused, 1);
      assert.equal(refused[0]?.failure.code, code);
      assert.equal(refused[0].size, truncatedFrom ?? Buffer.byteLength(payload));
      assert.equal((await t.log.line('data.refused')).fields['topic'], DATA_IN);
      assert.equal([...t.store.deadLetters()].length, 1);
      assert.deepEqual(answerCodes(t), isAnswered ? [code] : []);
      if (isAnswered) assert.equal(t.on(DATA_OUT)[0]?.['response_to'], 'm1');
    });
  }

  /** A store that can keep nothing as dead until told otherwise. */
  async function openFaulty(settings = {}): Promise<{ t: TestRouter; disk: { isFull: boolean } }> {
    const disk = { isFull: true };
    const t = await openTestRouter({
      settings,
      wrapStore: (store) =>
        withFault(store, {
          bury: (burial) => (disk.isFull ? Promise.reject(new Error('no space left')) : store.bury(burial)),
        }),
    });
    return { t: await up(t), disk };
  }

  test('waits unacknowledged until it is kept as dead, and its PUBACK keeps its turn', async () => {
    const { t, disk } = await openFaulty();
    await using _ = t;
    const refused = t.connection.deliver(DATA_IN, '{"type":"data","message_id":"m1","directive":"echo","metadata":7}');
    await settle();
    const good = t.connection.deliver(DATA_IN, dataMessage('m2'));
    await t.clock.advance(3000);
    assert.equal(refused.isAcknowledged || good.isAcknowledged, false);
    assert.equal([...t.store.deadLetters()].length, 0);
    assert.equal(t.log.lines.filter(({ event }) => event === 'data.not_recorded').length, 1 + 3);
    disk.isFull = false;
    await t.clock.advance(1000);
    await until(() => refused.isAcknowledged && good.isAcknowledged);
    assert.deepEqual(
      [...t.store.deadLetters()].map(({ messageId }) => messageId),
      ['m1'],
    );
    assert.deepEqual(answerCodes(t), ['malformed']);
    assert.equal(t.router.counts.refused, 1);
    assert.equal(t.router.counts.held, 0);
  });

  test('and cannot be kept is bounded by receive-maximum; the broker is asked for the rest', async () => {
    const { t, disk } = await openFaulty({ receiveMaximum: 2 });
    await using _ = t;
    for (let i = 0; i < 3; i++) t.connection.deliver(DATA_IN, 'nonsense');
    await settle();
    assert.deepEqual([t.router.counts.held, t.router.counts.dropped], [2, 1]);
    await t.clock.advance(5000);
    assert.ok(!t.connection.calls.includes('reconnect 0'), 'as long as nothing can be recorded it would be no use');
    disk.isFull = false;
    await t.clock.advance(1000);
    await until(() => t.connection.calls.includes('reconnect 0'));
    assert.equal([...t.store.deadLetters()].length, 2);
  });

  test('and cannot be kept when its link has ended is left to the broker, but for QoS 0', async () => {
    const fails: (() => void)[] = [];
    await using t = await openTestRouter({
      wrapStore: (store) =>
        withFault(store, { bury: () => new Promise((_, reject) => fails.push(() => reject(new Error('EIO')))) }),
    });
    await up(t);
    t.connection.deliver(DATA_IN, 'nonsense');
    t.connection.deliver(DATA_IN, 'nonsense', { qos: 0 });
    t.connection.cut();
    for (const fail of fails) fail();
    await settle();
    assert.equal(t.router.counts.held, 1);
  });

  test('because its directive is not among those allowed is answered as unroutable', async () => {
    await using t = await up(await openTestRouter({ settings: { allowedDirectives: ['a-b'] } }));
    t.connection.deliver(DATA_IN, dataMessage('m1', { directive: 'a_b' }));
    t.connection.deliver(DATA_IN, dataMessage('m2', { directive: 'other' }));
    await settle();
    assert.equal(t.received.length, 1);
    assert.deepEqual(answerCodes(t), ['unroutable']);
  });

  test('because its directive gets too many a second is answered, and others are not touched', async () => {
    await using t = await up(await openTestRouter({ settings: { rateLimit: 1 } }));
    for (const directive of ['a', 'a', 'b']) {
      t.connection.deliver(DATA_IN, dataMessage(newMessageId(), { directive }));
    }
    await until(() => t.received.length === 2 && answerCodes(t).length === 1);
    assert.deepEqual(answerCodes(t), ['unroutable']);
    await t.clock.advance(1000);
    t.connection.deliver(DATA_IN, dataMessage(newMessageId(), { directive: 'a' }));
    await settle();
    assert.equal(t.received.length, 3);
  });
});

test('a message of one directive too many that nobody registered is acknowledged, kept as dead and answered', async () => {
  await using t = await openTestRouter();
  const waiting = Array.from({ length: 1024 }, (_, i) => inbound(`m${i}`, { directive: directive(`unknown-${i}`) }));
  for (const message of waiting) {
    const acceptance = t.store.accept(message);
    if (acceptance.kind === 'accepted') await acceptance.durable;
  }
  await up(t);
  const delivered = t.connection.deliver(DATA_IN, dataMessage('m1', { directive: 'one-more' }));
  await until(() => answerCodes(t).length === 1);
  assert.equal(delivered.isAcknowledged, true);
  assert.deepEqual(answerCodes(t), ['unroutable']);
  assert.deepEqual([t.router.counts.refused, t.router.counts.accepted], [1, 0]);
  assert.match((await t.log.line('data.unroutable')).text, /nobody ever registered/);
});

describe('when the store takes no more', () => {
  /** A store that is full until told otherwise. */
  async function openFull(settings = {}): Promise<{ t: TestRouter; gate: { isFull: boolean } }> {
    const gate = { isFull: true };
    const t = await openTestRouter({
      settings,
      wrapStore: (store) =>
        withFault(store, { accept: (message) => (gate.isFull ? { kind: 'full' } : store.accept(message)) }),
    });
    return { t: await up(t), gate };
  }

  test('messages wait unacknowledged and are taken in order when there is room', async () => {
    const { t, gate } = await openFull();
    await using _ = t;
    const first = t.connection.deliver(DATA_IN, dataMessage('m1'));
    await settle();
    gate.isFull = false;
    const second = t.connection.deliver(DATA_IN, dataMessage('m2'));
    await settle();
    assert.equal(t.router.counts.held, 2);
    assert.equal(first.isAcknowledged || second.isAcknowledged, false);
    await t.clock.advance(1000);
    assert.deepEqual(
      t.received.map((key) => t.store.inbound(key)?.messageId),
      ['m1', 'm2'],
    );
    assert.equal(first.isAcknowledged && second.isAcknowledged, true);
    assert.equal(t.router.counts.held, 0);
  });

  test('they wait on while it stays full', async () => {
    const { t, gate } = await openFull();
    await using _ = t;
    t.connection.deliver(DATA_IN, dataMessage('m1'));
    t.connection.deliver(DATA_IN, dataMessage('m2'));
    await t.clock.advance(5000);
    assert.equal(t.router.counts.held, 2);
    gate.isFull = false;
    t.store.room.emit(undefined);
    await settle();
    assert.equal(t.received.length, 2);
  });

  test('no more than receive-maximum wait; for the rest the broker is asked again', async () => {
    const { t, gate } = await openFull({ receiveMaximum: 2 });
    await using _ = t;
    const deliveries = ['m1', 'm2', 'm3'].map((id) => t.connection.deliver(DATA_IN, dataMessage(id)));
    await settle();
    assert.equal(t.router.counts.held, 2);
    assert.equal(t.router.counts.dropped, 1);
    gate.isFull = false;
    await t.clock.advance(1000);
    assert.equal(t.received.length, 2);
    assert.equal(deliveries[2]?.isAcknowledged, false);
    assert.ok(t.connection.calls.includes('reconnect 0'));
  });

  test('a QoS 0 message for which there is no place is dropped, and nobody is asked for it', async () => {
    const { t, gate } = await openFull({ receiveMaximum: 1 });
    await using _ = t;
    t.connection.deliver(DATA_IN, dataMessage('m1'), { qos: 0 });
    t.connection.deliver(DATA_IN, dataMessage('m2'), { qos: 0 });
    assert.equal(t.router.counts.dropped, 1);
    gate.isFull = false;
    await t.clock.advance(1000);
    assert.equal(t.received.length, 1);
    assert.ok(!t.connection.calls.includes('reconnect 0'));
  });

  test('what waits when the link ends is left to the broker, but for QoS 0', async () => {
    const { t } = await openFull();
    await using _ = t;
    t.connection.deliver(DATA_IN, dataMessage('m1'));
    t.connection.deliver(DATA_IN, dataMessage('m2'), { qos: 0 });
    t.connection.cut();
    await settle();
    assert.equal(t.router.counts.held, 1);
  });

  test('a message that the store cannot look up is tried again, before those behind it', async () => {
    let faults = 1;
    await using t = await openTestRouter({
      wrapStore: (store) =>
        withFault(store, {
          accept: (message) => {
            if (faults-- > 0) throw new Error('EIO');
            return store.accept(message);
          },
        }),
    });
    await up(t);
    const first = t.connection.deliver(DATA_IN, dataMessage('m1'));
    const second = t.connection.deliver(DATA_IN, dataMessage('m2'));
    await settle();
    assert.equal(first.isAcknowledged || second.isAcknowledged, false);
    await t.clock.advance(1000);
    assert.equal(first.isAcknowledged && second.isAcknowledged, true);
    assert.deepEqual(
      t.received.map((key) => t.store.inbound(key)?.messageId),
      ['m1', 'm2'],
    );
  });

  test('one that fails, and one that finds no room behind it, are taken in the order of arrival', async () => {
    let isWell = false;
    let offered = 0;
    await using t = await openTestRouter({
      wrapStore: (store) =>
        withFault(store, {
          accept: (message) => {
            if (isWell) return store.accept(message);
            return offered++ === 0
              ? { kind: 'duplicate', durable: Promise.reject(new Error('EIO')) }
              : { kind: 'full' };
          },
        }),
    });
    await up(t);
    for (const id of ['m1', 'm2', 'm3']) t.connection.deliver(DATA_IN, dataMessage(id));
    await settle();
    assert.equal(t.router.counts.held, 3);
    isWell = true;
    await t.clock.advance(1000);
    await until(() => t.received.length === 3);
    assert.deepEqual(
      t.received.map((key) => t.store.inbound(key)?.messageId),
      ['m1', 'm2', 'm3'],
    );
  });

  test('one that fails at once when it is offered again keeps those behind it waiting', async () => {
    let faults = 2;
    await using t = await openTestRouter({
      wrapStore: (store) =>
        withFault(store, {
          accept: (message) => {
            if (faults-- > 0) throw new Error('EIO');
            return store.accept(message);
          },
        }),
    });
    await up(t);
    for (const id of ['m1', 'm2']) t.connection.deliver(DATA_IN, dataMessage(id));
    await t.clock.advance(1000);
    assert.deepEqual([t.received.length, t.router.counts.held], [0, 2]);
    await t.clock.advance(1000);
    await until(() => t.received.length === 2);
    assert.deepEqual(
      t.received.map((key) => t.store.inbound(key)?.messageId),
      ['m1', 'm2'],
    );
  });

  test('messages in two transactions, of which the first fails, are taken in the order of arrival', async () => {
    const journal = new FaultyJournal();
    await using t = await up(await openTestRouter({ store: { journal } }));
    journal.fails = (changes) => changes.some(({ table }) => table === 'records');
    t.connection.deliver(DATA_IN, dataMessage('m1'));
    journal.fails = () => false;
    t.connection.deliver(DATA_IN, dataMessage('m2'));
    t.connection.deliver(DATA_IN, dataMessage('m3'));
    await settle();
    await t.clock.advance(1000);
    await until(() => t.received.length === 3);
    assert.deepEqual(
      t.received.map((key) => t.store.inbound(key)?.messageId),
      ['m1', 'm2', 'm3'],
    );
  });

  test('a message that could not be written is tried again', async () => {
    let faults = 1;
    await using t = await openTestRouter({
      wrapStore: (store) =>
        withFault(store, {
          accept: (message) =>
            faults-- > 0 ? { kind: 'duplicate', durable: Promise.reject(new Error('EIO')) } : store.accept(message),
        }),
    });
    await up(t);
    const delivered = t.connection.deliver(DATA_IN, dataMessage('m1'));
    await settle();
    assert.equal(delivered.isAcknowledged, false);
    assert.match((await t.log.line('data.not_recorded')).text, /EIO/);
    await t.clock.advance(1000);
    assert.equal(delivered.isAcknowledged, true);
    assert.equal(t.received.length, 1);
  });
});

test('a body larger than fits a record is handed on whole', async () => {
  await using t = await up(await openTestRouter());
  const content = `"${'x'.repeat(2 * INLINE_LIMIT)}"`;
  t.connection.deliver(DATA_IN, dataMessage('m1', { content }));
  await until(() => t.received.length > 0);
  const record = onlyRecord(t);
  assert.equal((await t.store.readContent(record.content)).toString(), content);
});

describe('more than the journal can take at once', () => {
  /** A store that records only when it is told to. */
  async function openSlow(): Promise<{ t: TestRouter; record: (most?: number) => Promise<void> }> {
    const waiting: (() => void)[] = [];
    const t = await openTestRouter({
      wrapStore: (store) =>
        withFault(store, {
          accept: (message) => {
            const acceptance = store.accept(message);
            if (acceptance.kind === 'full') return acceptance;
            const told = new Promise<void>((resolve) => waiting.push(resolve));
            return { ...acceptance, durable: told.then(() => acceptance.durable) };
          },
        }),
    });
    await up(t);
    const record = async (most = Number.POSITIVE_INFINITY): Promise<void> => {
      for (const go of waiting.splice(0, most)) go();
      await settle();
    };
    return { t, record };
  }
  const reading = (t: TestRouter): string[] =>
    t.connection.calls.filter((call) => call === 'holdReading' || call === 'readOn');

  test('holds the broker back above 1,024 messages until they are recorded', async () => {
    const { t, record } = await openSlow();
    await using _closed = t;
    for (let n = 1; n <= 1024; n++) t.connection.deliver(DATA_IN, dataMessage(`m${n}`));
    assert.deepEqual(reading(t), []);
    for (let n = 1025; n <= 1100; n++) t.connection.deliver(DATA_IN, dataMessage(`m${n}`));
    assert.deepEqual(reading(t), ['holdReading']);
    await record();
    await until(() => t.received.length === 1100);
    assert.deepEqual(reading(t), ['holdReading', 'readOn']);
  });

  test('holds it back above 8 MiB, and each link by itself', async () => {
    const { t, record } = await openSlow();
    await using _closed = t;
    const large = { content: `"${'x'.repeat(1024 * 1024)}"` };
    for (let n = 1; n <= 8; n++) t.connection.deliver(DATA_IN, dataMessage(`m${n}`, large));
    assert.deepEqual(reading(t), ['holdReading']);
    t.connection.cut();
    await t.connection.open();
    t.connection.deliver(DATA_IN, dataMessage('m9'));
    assert.deepEqual(reading(t), ['holdReading', 'holdReading']);
    await record();
    await until(() => t.received.length === 9);
    assert.deepEqual(reading(t), ['holdReading', 'holdReading', 'readOn']);
  });

  test('counts a message that is refused no longer than until it is buried', async () => {
    await using t = await openTestRouter();
    await up(t);
    for (let n = 1; n <= 1100; n++) {
      t.connection.deliver(DATA_IN, Buffer.from(`{"no": ${n}`));
      if (n % 100 === 0) await settle();
    }
    await until(() => t.router.counts.refused === 1100);
    await settle();
    assert.deepEqual(reading(t), []);
  });

  test('is nothing to hold a link for that is not there, and holds the next one from its first message', async () => {
    const { t, record } = await openSlow();
    await using _closed = t;
    for (let n = 1; n <= 1100; n++) t.connection.deliver(DATA_IN, dataMessage(`m${n}`));
    t.connection.cut();
    // One that is recorded while there is no link.
    await record(1);
    assert.deepEqual(reading(t), ['holdReading']);
    await t.connection.open();
    t.connection.deliver(DATA_IN, dataMessage('m1101'));
    assert.deepEqual(reading(t), ['holdReading', 'holdReading']);
    await record();
    await until(() => t.received.length === 1101);
    assert.deepEqual(reading(t), ['holdReading', 'holdReading', 'readOn']);
  });
});
