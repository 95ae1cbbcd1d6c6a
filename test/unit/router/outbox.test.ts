/** Results on their way to the broker: order, window, cuts, refusals. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { AgentError } from '../../../src/errors.js';
import type { Datastore } from '../../../src/datastore/index.js';
import { INLINE_LIMIT } from '../../../src/message/index.js';
import type { StorePort } from '../../../src/router/index.js';
import { settle } from '../../support/clock.js';
import {
  DATA_IN,
  DATA_OUT,
  dataMessage,
  openTestRouter,
  until,
  type TestRouter,
  type TestRouterOptions,
} from '../../support/router.js';

async function openUp(options?: TestRouterOptions): Promise<TestRouter> {
  const t = await openTestRouter(options);
  await t.router.start();
  await t.connection.open();
  await settle();
  for (const published of t.connection.published) published.answer();
  await settle();
  return t;
}

const contents = (t: TestRouter): unknown[] => t.on(DATA_OUT).map(({ content }) => content);
const unanswered = (t: TestRouter): ReturnType<TestRouter['results']> =>
  t.results().filter(({ isAnswered }) => !isAnswered);

/** A content that is in a file, as those that have to be read are. */
const BODY = 'x'.repeat(2 * INLINE_LIMIT);

/** The store with one method that fails. */
function failing(method: keyof StorePort): (store: Datastore) => StorePort {
  return (store) =>
    new Proxy<StorePort>(store, {
      get: (target, name) => {
        if (name === method) return () => Promise.reject(new Error('EIO'));
        const value: unknown = Reflect.get(target, name);
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
    });
}

describe('a result', () => {
  test('goes out as the JSON it came as, with QoS 1, and is done when the broker has it', async () => {
    await using t = await openUp({ connection: { answers: false } });
    const key = await t.result('{ "b":1.0 }', { responseTo: 'm1' });
    const [published] = t.results();
    assert.ok(published);
    assert.equal(published.topic, DATA_OUT);
    assert.deepEqual([published.options.qos, published.options.retain], [1, false]);
    assert.match(published.payload.toString(), /"response_to":"m1".*"content":\{ "b":1\.0 \}\}$/);
    assert.match(String(t.on(DATA_OUT)[0]?.['sent']), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    assert.equal(t.router.counts.publishing, 1);
    assert.ok(t.store.outbound(key));
    published.answer();
    await until(() => t.store.outbound(key) === undefined);
    assert.equal(t.router.counts.publishing, 0);
  });

  test('that is not JSON goes out in base64, and nothing as null', async () => {
    await using t = await openUp();
    await t.result('plain text');
    await t.result('');
    assert.deepEqual(contents(t), [Buffer.from('plain text').toString('base64'), null]);
    assert.deepEqual(t.on(DATA_OUT)[0]?.['metadata'], { 'content-encoding': 'base64' });
  });

  test('goes to the topic its requester asked for, with its correlation data', async () => {
    await using t = await openUp();
    const correlationData = Buffer.from('c');
    t.connection.deliver(DATA_IN, dataMessage('m1'), { responseTopic: 'yggdrasil/c1/replies', correlationData });
    await until(() => t.received.length === 1);
    // Ending it makes an answer, which goes the way of all replies.
    await t.store.end(t.received[0]!, 'expired', { code: 'expired', text: 'too late' });
    t.router.publish(t.received[0]!);
    await until(() => t.results().length === 1);
    const [reply] = t.results();
    assert.equal(reply?.topic, 'yggdrasil/c1/replies');
    assert.deepEqual(reply.options.correlationData, correlationData);
  });

  test('waits in the store while there is no link, and goes out in order when there is one', async () => {
    await using t = await openTestRouter();
    await t.router.start();
    for (let i = 0; i < 5; i++) await t.result(`${i}`);
    assert.deepEqual(contents(t), []);
    await t.connection.open();
    await until(() => contents(t).length === 5);
    assert.deepEqual(contents(t), [0, 1, 2, 3, 4]);
  });

  test('with a body in a file does not let a later one overtake', async () => {
    await using t = await openUp();
    const large = 'x'.repeat(2 * INLINE_LIMIT);
    await t.result(`"${large}"`);
    await t.result('1');
    await until(() => contents(t).length === 2);
    assert.deepEqual(contents(t), [large, 1]);
  });
});

describe('the window', () => {
  test('is what the broker takes, less what is kept for control', async () => {
    await using t = await openUp({ connection: { answers: false, receiveMaximum: 10 } });
    for (let i = 0; i < 20; i++) await t.result(`${i}`);
    assert.equal(unanswered(t).length, 6);
    unanswered(t)[0]?.answer();
    await until(() => t.results().length === 7);
    assert.equal(unanswered(t).length, 6);
  });

  test('has one place at least', async () => {
    await using t = await openUp({ connection: { answers: false, receiveMaximum: 1 } });
    await t.result('1');
    await t.result('2');
    assert.equal(unanswered(t).length, 1);
  });
});

describe('when the link is cut', () => {
  test('what was not acknowledged goes out again on the next, in order', async () => {
    await using t = await openUp({ connection: { answers: false } });
    for (let i = 0; i < 4; i++) await t.result(`${i}`);
    unanswered(t)[0]?.answer();
    await settle();
    t.connection.cut();
    await settle();
    t.connection.published.length = 0;
    t.connection.answers = true;
    await t.connection.open();
    await until(() => contents(t).length === 3);
    assert.deepEqual(contents(t), [1, 2, 3]);
  });

  test('nothing more is handed to a link that fails, though its end has not been announced', async () => {
    await using t = await openUp({ connection: { answers: false, receiveMaximum: 10 } });
    for (let i = 0; i < 20; i++) await t.result(`${i}`);
    t.connection.cut('a slow end', { announce: false });
    await settle();
    assert.equal(t.router.counts.publishing, 6);
    t.connection.down.emit({ code: 'closed', reason: 'a slow end', wasUp: true });
    t.connection.published.length = 0;
    t.connection.answers = true;
    await t.connection.open();
    await until(() => contents(t).length === 20);
    assert.deepEqual(
      contents(t),
      Array.from({ length: 20 }, (_unused, i) => i),
    );
  });

  test('while a body is read, the result goes out on the next link', async () => {
    await using t = await openUp();
    const large = 'x'.repeat(2 * INLINE_LIMIT);
    t.connection.cut();
    await t.result(`"${large}"`);
    await settle();
    await t.connection.open();
    t.connection.cut();
    await settle();
    await t.connection.open();
    await until(() => contents(t).includes(large));
    assert.equal(contents(t).length, 1);
  });

  test('a reading that fails after the cut ends nothing', async () => {
    let fail = (): void => undefined;
    await using t = await openTestRouter({
      wrapStore: (store) =>
        new Proxy<StorePort>(store, {
          get: (target, name) => {
            if (name === 'readContent') {
              return () => new Promise((_resolve, reject) => (fail = () => reject(new Error('late'))));
            }
            const value: unknown = Reflect.get(target, name);
            return typeof value === 'function' ? (value.bind(target) as unknown) : value;
          },
        }),
    });
    await t.router.start();
    await t.connection.open();
    const key = await t.result(`"${BODY}"`);
    t.connection.cut();
    fail();
    await settle();
    assert.equal(t.store.outbound(key)?.state, 'queued');
  });

  /** Comes back; the status, which is not of `data/out`, is answered where `isProven`. */
  async function again(t: TestRouter, isProven = true): Promise<void> {
    await settle();
    t.connection.published.length = 0;
    await t.connection.open();
    await settle();
    if (isProven) for (const each of t.connection.published.filter(({ topic }) => topic !== DATA_OUT)) each.answer();
    await settle();
  }

  test('three times, results go one at a time; the one that cuts it three times alone is dead', async () => {
    await using t = await openUp({ connection: { answers: false } });
    const poison = await t.result('"poison"');
    await t.result('"good"');
    for (let i = 0; i < 3; i++) {
      assert.equal(unanswered(t).length, 2);
      t.connection.cut();
      await again(t);
    }
    for (let i = 0; i < 3; i++) {
      assert.deepEqual(contents(t), ['poison']);
      t.connection.cut();
      await again(t);
    }
    assert.deepEqual(contents(t), ['good']);
    assert.equal(t.store.outbound(poison), undefined);
    const [dead] = [...t.store.deadLetters()];
    assert.match(dead?.failure.text ?? '', /cut the connection three times/);
    unanswered(t)[0]?.answer();
    await settle();
  });

  test('a suspect waits until nothing else is in flight', async () => {
    await using t = await openUp({ connection: { answers: false, receiveMaximum: 6 } });
    for (const text of ['1', '2']) await t.result(text);
    for (let i = 0; i < 3; i++) {
      t.connection.cut();
      await again(t);
    }
    assert.deepEqual(contents(t), [1]);
    unanswered(t)[0]?.answer();
    await until(() => contents(t).length === 2);
    unanswered(t)[0]?.answer();
    await settle();
    assert.deepEqual(contents(t), [1, 2]);
  });

  test('a suspect waits for one in front of it that is none', async () => {
    await using t = await openUp({ connection: { answers: false } });
    for (const text of ['0', '1', '2']) await t.result(text);
    for (let i = 0; i < 3; i++) {
      await until(() => unanswered(t).length === 3);
      // Not in flight at the cut, so not under suspicion.
      unanswered(t)[0]?.answer(0x97);
      await settle();
      t.connection.cut();
      await settle();
      t.connection.published.length = 0;
      await t.connection.open();
      await settle();
      await t.clock.advance(5000);
    }
    assert.deepEqual(contents(t), [0]);
    unanswered(t)[0]?.answer();
    await until(() => contents(t).length === 2);
    assert.deepEqual(contents(t), [0, 1]);
  });

  test('by a broker that lets nothing through, a suspect is held back and not accused', async () => {
    await using t = await openUp({ connection: { answers: false } });
    const key = await t.result('"good"');
    for (let i = 0; i < 3; i++) {
      assert.deepEqual(contents(t), ['good']);
      t.connection.cut();
      await again(t, false);
    }
    for (let i = 0; i < 10; i++) {
      assert.deepEqual(contents(t), []);
      t.connection.cut();
      await again(t, false);
    }
    t.connection.cut();
    await again(t);
    assert.deepEqual(contents(t), ['good']);
    unanswered(t)[0]?.answer();
    await until(() => t.store.outbound(key) === undefined);
    assert.deepEqual([...t.store.deadLetters()], []);
  });

  test('for a reason that no result can give, nobody is suspected', async () => {
    await using t = await openUp({ connection: { answers: false } });
    await t.result('1');
    await t.result('2');
    for (const code of ['keepalive', 'dismissed', 'keepalive', 'dismissed', 'keepalive', 'dismissed', 'keepalive']) {
      assert.deepEqual(contents(t), [1, 2], 'together, as ever');
      t.connection.cut('not by a result', { code });
      await again(t);
    }
    assert.deepEqual(contents(t), [1, 2]);
  });

  test('while the body of a suspect is read, it is not accused', async () => {
    const reading: (() => void)[] = [];
    let isHeld = false;
    await using t = await openUp({
      connection: { answers: false },
      wrapStore: (store) =>
        new Proxy<StorePort>(store, {
          get: (target, name) => {
            if (name === 'readContent' && isHeld) return () => new Promise<void>((resolve) => reading.push(resolve));
            const value: unknown = Reflect.get(target, name);
            return typeof value === 'function' ? (value.bind(target) as unknown) : value;
          },
        }),
    });
    await t.result(`"${BODY}"`);
    for (let i = 0; i < 3; i++) {
      await until(() => contents(t).length === 1);
      t.connection.cut();
      await again(t);
    }
    isHeld = true;
    for (let i = 0; i < 4; i++) {
      t.connection.cut();
      for (const read of reading.splice(0)) read();
      await again(t);
    }
    isHeld = false;
    t.connection.cut();
    for (const read of reading.splice(0)) read();
    await again(t);
    await until(() => contents(t).length === 1);
    assert.deepEqual(contents(t), [BODY]);
    assert.deepEqual([...t.store.deadLetters()], []);
  });

  test('by our own wish, nobody is suspected', async () => {
    await using t = await openUp({ connection: { answers: false } });
    await t.result('1');
    await t.result('2');
    for (let i = 0; i < 4; i++) {
      await t.connection.reconnect(0);
      await settle();
      t.connection.published.length = 0;
      await t.connection.open();
      await until(() => contents(t).length === 2);
    }
  });
});

describe('when the broker does not take a result', () => {
  test('for its quota, it is tried again later and keeps its place', async () => {
    await using t = await openUp({ connection: { answers: false } });
    await t.result('1');
    unanswered(t)[0]?.answer(0x97);
    await settle();
    await t.result('2');
    assert.deepEqual(contents(t), [1]);
    await t.clock.advance(1000);
    await until(() => contents(t).length === 3);
    assert.deepEqual(contents(t), [1, 1, 2]);
  });

  test('for good, it is dead and the next goes on', async () => {
    await using t = await openUp({ connection: { answers: false } });
    await t.result('1');
    unanswered(t)[0]?.answer(0x87);
    await until(() => [...t.store.deadLetters()].length === 1);
    const [dead] = [...t.store.deadLetters()];
    assert.match(dead?.failure.text ?? '', /reason code 0x87/);
    await t.result('2');
    assert.deepEqual(contents(t), [1, 2]);
  });

  test('for its size, it is dead and the next goes on', async () => {
    await using t = await openUp({ connection: { maximumPayload: 1000 } });
    await t.result(`"${'x'.repeat(2000)}"`);
    await until(() => [...t.store.deadLetters()].length === 1);
    const [dead] = [...t.store.deadLetters()];
    assert.equal(dead?.failure.code, 'too-large');
    await t.result('2');
    assert.deepEqual(contents(t), [2]);
  });
});

describe('when the store fails', () => {
  /** The first read of a content fails with this. */
  const failingRead =
    (error: Error) =>
    (store: StorePort): StorePort => {
      let faults = 1;
      return new Proxy<StorePort>(store, {
        get: (target, name) => {
          if (name === 'readContent' && faults-- > 0) return () => Promise.reject(error);
          const value: unknown = Reflect.get(target, name);
          return typeof value === 'function' ? (value.bind(target) as unknown) : value;
        },
      });
    };

  test('a result whose content is damaged is dead, and does not hold up the others', async () => {
    const damaged = new AgentError('content.damaged', 'it fails its checksum');
    await using t = await openUp({ wrapStore: failingRead(damaged) });
    await t.result(`"${BODY}"`);
    await t.result('2');
    await until(() => contents(t).length === 1);
    assert.deepEqual(contents(t), [2]);
    assert.match([...t.store.deadLetters()][0]?.failure.text ?? '', /cannot be read: it fails its checksum/);
  });

  test('a result whose content cannot be read just now is sent a little later, before those behind it', async () => {
    await using t = await openUp({ wrapStore: failingRead(new Error('EIO')) });
    await t.result(`"${BODY}"`);
    assert.match((await t.log.line('result.not_read')).text, /EIO/);
    await t.result('2');
    assert.deepEqual(contents(t), []);
    await t.clock.advance(1000);
    await until(() => contents(t).length === 2);
    assert.deepEqual(contents(t), [BODY, 2]);
  });

  test('a lane that cannot be read is read again', async () => {
    let faults = 1;
    await using t = await openUp({
      wrapStore: (store) =>
        new Proxy<StorePort>(store, {
          get: (target, name) => {
            if (name === 'nextOutbound' && store.backlogLanes().length > 0 && faults-- > 0) {
              return () => {
                throw new Error('EIO');
              };
            }
            const value: unknown = Reflect.get(target, name);
            return typeof value === 'function' ? (value.bind(target) as unknown) : value;
          },
        }),
    });
    await t.result('1');
    assert.deepEqual(contents(t), []);
    assert.match((await t.log.line('result.not_read')).text, /EIO/);
    await t.clock.advance(1000);
    assert.deepEqual(contents(t), [1]);
  });

  test('an end that cannot be recorded is logged, and the next result goes out', async () => {
    await using t = await openUp({ wrapStore: failing('endOutbound') });
    await t.result('1');
    await t.result('2');
    assert.deepEqual(contents(t), [1, 2]);
    assert.match((await t.log.line('result.not_recorded')).text, /EIO/);
  });

  test('a wait that cannot be recorded is logged', async () => {
    await using t = await openUp({ connection: { answers: false }, wrapStore: failing('retryOutbound') });
    await t.result('1');
    unanswered(t)[0]?.answer(0x97);
    assert.match((await t.log.line('result.not_recorded')).text, /cannot put a result off: EIO/);
  });
});

test('another lane that is due is not the router’s', async () => {
  await using t = await openUp();
  t.store.laneDue.emit('url:w:https://example.com');
  assert.deepEqual(contents(t), []);
});
