/** What the agent tells of itself, and when. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { StorePort } from '../../../src/router/index.js';
import { subscriptionsOf } from '../../../src/router/index.js';
import { parseWorkerName } from '../../../src/message/index.js';
import { settle } from '../../support/clock.js';
import {
  CONTROL_IN,
  CONTROL_OUT,
  DATA_IN,
  DATA_OUT,
  FACTS,
  openTestRouter,
  type TestRouter,
  type TestRouterOptions,
} from '../../support/router.js';

const forever = new AbortController().signal;
/** The store is open all the time and looks after what grows old. */
const STORE_TIMERS = 1;

interface Status {
  readonly message_id: string;
  readonly sent: string;
  readonly content: { state: string; dispatchers: unknown; tags?: unknown; canonical_facts: unknown };
}

async function openUp(options?: TestRouterOptions): Promise<TestRouter> {
  const t = await openTestRouter(options);
  await t.router.start();
  await t.connection.open();
  await settle();
  return t;
}

const statuses = (t: TestRouter): Status[] => t.on(CONTROL_OUT) as unknown as Status[];
const states = (t: TestRouter): string[] => statuses(t).map(({ content }) => content.state);

test('the connection is to subscribe to the two topics the agent listens to', () => {
  assert.deepEqual(subscriptionsOf('yggdrasil', 'c1'), [CONTROL_IN, DATA_IN]);
});

describe('online', () => {
  test('is told when the link is up, retained, with facts, handlers and no empty tags', async () => {
    await using t = await openTestRouter();
    t.worker('w', 'echo');
    await t.router.start();
    await t.connection.open();
    await settle();
    const [published] = t.connection.published;
    assert.deepEqual([published?.topic, published?.options.qos, published?.options.retain], [CONTROL_OUT, 1, true]);
    const [status] = statuses(t);
    assert.deepEqual(status?.content, {
      canonical_facts: FACTS,
      dispatchers: { echo: { a: '1', b: '2' } },
      state: 'online',
      client_name: 'yggd',
      client_version: '1.2.3',
    });
  });

  test('is not retained where the setting says so', async () => {
    await using t = await openUp({ settings: { retainStatus: false } });
    assert.equal(t.connection.published[0]?.options.retain, false);
    assert.equal(t.connection.will?.retain, false);
  });

  test('is repeated once with a new id, and then at every interval', async () => {
    await using t = await openUp();
    assert.equal(statuses(t).length, 1);
    await t.clock.advance(10_000);
    assert.equal(statuses(t).length, 2);
    await t.clock.advance(3_590_000);
    assert.equal(statuses(t).length, 3);
    await t.clock.advance(3_600_000);
    assert.equal(statuses(t).length, 4);
    assert.equal(new Set(statuses(t).map(({ message_id }) => message_id)).size, 4);
  });

  test('carries a time that never goes back, whatever the clock does', async () => {
    await using t = await openUp();
    t.clock.step(-3_600_000);
    t.router.identityChanged();
    await settle();
    t.clock.step(7_200_000);
    t.router.identityChanged();
    await settle();
    const times = statuses(t).map(({ sent }) => Date.parse(sent));
    assert.equal(times.length, 3);
    assert.deepEqual(
      times,
      [...times].sort((a, b) => a - b),
    );
    assert.equal(new Set(times).size, 3);
  });

  test('is told when tags change', async () => {
    let tags: Record<string, string> = {};
    await using t = await openUp({ identity: { tags: () => tags } });
    tags = { site: 'a' };
    t.router.identityChanged();
    await settle();
    assert.deepEqual(statuses(t)[1]?.content.tags, { site: 'a' });
  });

  test('is told when workers change, but only if the handlers really did', async () => {
    await using t = await openUp();
    t.router.workersChanged();
    await settle();
    assert.equal(statuses(t).length, 1);
    t.worker('w', 'echo');
    t.router.workersChanged();
    t.router.workersChanged();
    await settle();
    assert.equal(statuses(t).length, 2);
    assert.deepEqual(Object.keys(statuses(t)[1]?.content.dispatchers as object), ['echo']);
    t.worker('w', 'echo');
    t.router.workersChanged();
    await settle();
    assert.equal(statuses(t).length, 2);
    t.store.workers.remove(parseWorkerName('w')!);
    t.router.workersChanged();
    await settle();
    assert.deepEqual(statuses(t)[2]?.content.dispatchers, {});
  });

  test('tells the truth when something changes while a status is under way', async () => {
    await using t = await openUp({ connection: { answers: false } });
    t.connection.published[0]?.answer();
    await settle();
    t.worker('w', 'one');
    t.router.workersChanged();
    await settle();
    t.worker('w', 'one', 'two');
    t.router.workersChanged();
    t.router.workersChanged();
    await settle();
    assert.equal(statuses(t).length, 2, 'one at a time');
    t.connection.published[1]?.answer();
    await settle();
    assert.equal(statuses(t).length, 3);
    assert.deepEqual(Object.keys(statuses(t)[2]?.content.dispatchers as object), ['one', 'two']);
  });

  test('is not told without a link', async () => {
    await using t = await openTestRouter();
    await t.router.start();
    t.router.identityChanged();
    t.router.workersChanged();
    await settle();
    assert.deepEqual(statuses(t), []);
  });

  test('is told with empty facts when they cannot be had', async () => {
    await using t = await openUp({ identity: { facts: () => Promise.reject(new Error('no /etc/machine-id')) } });
    const facts = statuses(t)[0]?.content.canonical_facts as Record<string, unknown>;
    assert.deepEqual(facts, { ...FACTS, machine_id: '', ip_addresses: [], mac_addresses: [], fqdn: '' });
    assert.equal(t.log.lines.filter(({ event }) => event === 'presence.facts_failed').length, 2, 'will and online');
  });

  test('that the broker refuses is a warning', async () => {
    await using t = await openUp({ connection: { answers: false } });
    t.connection.published[0]?.answer(0x87);
    assert.equal((await t.log.line('presence.not_told')).fields['reason'], 'reason code 135');
  });

  test('that was cut off is told again on the next link', async () => {
    await using t = await openUp({ connection: { answers: false } });
    t.connection.cut();
    await settle();
    await t.connection.open();
    await settle();
    assert.deepEqual(states(t), ['online', 'online']);
    assert.equal((await t.log.line('presence.not_told')).fields['reason'], 'cut');
  });
});

describe('when sent cannot be reserved', () => {
  async function openBroken(): Promise<{ t: TestRouter; fault: { isOn: boolean } }> {
    const fault = { isOn: false };
    const t = await openTestRouter({
      wrapStore: (store) =>
        new Proxy<StorePort>(store, {
          get: (target, name) => {
            if (name === 'reserveSent' && fault.isOn) return () => Promise.reject(new Error('EROFS'));
            const value: unknown = Reflect.get(target, name);
            return typeof value === 'function' ? (value.bind(target) as unknown) : value;
          },
        }),
    });
    await t.router.start();
    return { t, fault };
  }

  test('the status is told later, when the disk can be written again', async () => {
    const { t, fault } = await openBroken();
    await using _ = t;
    await t.connection.open();
    await settle();
    fault.isOn = true;
    t.router.identityChanged();
    assert.match((await t.log.line('presence.failed')).text, /EROFS/);
    fault.isOn = false;
    await t.clock.advance(10_000);
    assert.ok(states(t).length >= 2);
  });

  test('and the link ends meanwhile, nothing is left behind', async () => {
    const { t, fault } = await openBroken();
    await using _ = t;
    await t.connection.open();
    await settle();
    fault.isOn = true;
    t.router.identityChanged();
    t.connection.cut();
    await settle();
    assert.equal(t.clock.pending, STORE_TIMERS);
  });

  test('a stop does not hang on it', async () => {
    const { t, fault } = await openBroken();
    await using _ = t;
    await t.connection.open();
    await settle();
    fault.isOn = true;
    await t.router.stop();
    assert.equal(t.connection.calls.at(-1), 'stop');
  });
});

describe('offline', () => {
  test('is the will of each attempt: no handlers, a time of its own', async () => {
    await using t = await openTestRouter();
    t.worker('w', 'echo');
    await t.router.start();
    await t.connection.open();
    await settle();
    const first = t.connection.will;
    const will = JSON.parse(first?.payload.toString() ?? '') as Status;
    assert.equal(first?.topic, CONTROL_OUT);
    assert.equal(first.retain, true);
    assert.equal(will.content.state, 'offline');
    assert.deepEqual(will.content.dispatchers, {});
    assert.ok(will.sent < (statuses(t)[0]?.sent ?? ''), 'an online after it is newer');
    t.connection.cut();
    await t.connection.open();
    assert.notDeepEqual(t.connection.will?.payload, first.payload);
  });

  test('is told by a clean stop, which waits for its PUBACK and then goes', async () => {
    await using t = await openUp({ connection: { answers: false } });
    t.connection.published[0]?.answer();
    await settle();
    const stopped = t.router.stop();
    assert.equal(t.router.stop(), stopped);
    await settle();
    assert.deepEqual(states(t), ['online', 'offline']);
    assert.deepEqual(statuses(t)[1]?.content.dispatchers, {});
    assert.deepEqual(t.connection.calls, ['start']);
    t.connection.published[1]?.answer();
    await stopped;
    assert.deepEqual(t.connection.calls, ['start', 'stop']);
    assert.equal(t.clock.pending, STORE_TIMERS);
  });

  test('whose PUBACK does not come does not hold up the stop for long', async () => {
    await using t = await openUp({ connection: { answers: false } });
    const stopped = t.router.stop();
    await settle();
    await t.clock.advance(2000);
    await stopped;
    assert.equal(t.log.lines.filter(({ event }) => event === 'presence.offline_unacknowledged').length, 1);
    assert.equal(t.connection.calls.at(-1), 'stop');
  });

  test('is the last word: a status that was being made is not told after it', async () => {
    let release = (): void => undefined;
    let isSlow = false;
    await using t = await openUp({
      identity: { facts: () => (isSlow ? new Promise((resolve) => (release = () => resolve(FACTS))) : FACTS) },
    });
    isSlow = true;
    t.router.identityChanged();
    const releaseOnline = release;
    isSlow = false;
    await t.router.linkDown();
    releaseOnline();
    await settle();
    assert.deepEqual(states(t), ['online', 'offline']);
  });
});

describe('the life of the router', () => {
  test('start is once; a router that was stopped stays so', async () => {
    await using t = await openTestRouter();
    await t.router.start();
    await t.router.start();
    await t.router.stop();
    await t.router.start();
    assert.deepEqual(t.connection.calls, ['start', 'stop']);
  });

  test('a stop before the start leaves nothing to start', async () => {
    await using t = await openTestRouter();
    await t.router.stop();
    await t.router.start();
    assert.deepEqual(t.connection.calls, []);
  });

  test('a stop leaves no timer, and no link however the connection ends', async () => {
    await using t = await openUp();
    // It ends without a word.
    t.connection.stop = () => Promise.resolve();
    await t.router.stop();
    assert.equal(t.clock.pending, STORE_TIMERS);
  });

  test('an empty message goes to data/out at each connect where the setting says so', async () => {
    await using t = await openUp({ settings: { primeTopics: true } });
    const [prime] = t.connection.published;
    assert.deepEqual([prime?.topic, prime?.payload.length, prime?.options.qos], [DATA_OUT, 0, 0]);
  });

  test('an empty message that does not get through concerns nobody', async () => {
    await using t = await openUp({ settings: { primeTopics: true }, connection: { answers: false } });
    t.connection.cut();
    await settle();
  });

  test('losing the link and having it back is announced; an attempt that fails is not', async () => {
    await using t = await openUp();
    const told: string[] = [];
    t.router.connectionLost.connect(({ reason }) => told.push(`lost: ${reason}`), forever);
    t.router.connectionRestored.connect(() => told.push('restored'), forever);
    t.connection.cut('a cut');
    t.connection.fail();
    await t.connection.open();
    await t.connection.reconnect(0);
    await t.connection.open();
    assert.deepEqual(told, ['lost: a cut', 'restored']);
  });

  test('a handler that throws goes to the log and breaks nothing', async () => {
    await using t = await openUp();
    t.router.connectionLost.connect(() => {
      throw new Error('a bug elsewhere');
    }, forever);
    t.connection.cut();
    assert.equal((await t.log.line('router.handler_failed')).fields['signal'], 'connection-lost');
  });

  test('link changes happen one after the other; one that fails does not keep the next from happening', async () => {
    await using t = await openUp();
    t.connection.disconnect = () => Promise.reject(new Error('cannot'));
    await assert.rejects(t.router.linkDown(), /cannot/);
    await t.router.linkUp();
    assert.equal(t.connection.calls.at(-1), 'connect');
  });
});
