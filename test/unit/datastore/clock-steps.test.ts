// A wall clock that is set back: no back-off lasts longer for it, and nothing that expires lives on.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Datastore } from '../../../src/datastore/index.js';
import { directiveKey, type MessageKey } from '../../../src/message/index.js';
import { FakeClock, settle } from '../../support/clock.js';
import { directive, inbound, result } from '../../support/messages.js';
import { openTestStore, type StoreSettings, type TestStore } from '../../support/store.js';
import { tempDir } from '../../support/temp.js';

const ECHO = directiveKey(directive('echo'));
const HOUR = 3_600_000;

async function ready(store: Datastore, id: string, more: { expiresAt?: number } = {}): Promise<MessageKey> {
  const acceptance = store.accept(inbound(id, more));
  assert.equal(acceptance.kind, 'accepted');
  await acceptance.durable;
  store.markReady(acceptance.key);
  return acceptance.key;
}

/** Hands out all there is, one after the other, and lets `land` say what becomes of each; their ids. */
async function drain(
  store: Datastore,
  land: (key: MessageKey) => Promise<unknown> = (key) => store.delivered(key),
): Promise<string[]> {
  const ids: string[] = [];
  for (let next = store.nextReady(ECHO); next !== undefined; next = store.nextReady(ECHO)) {
    ids.push(next.messageId);
    store.markDispatching(next.key);
    await land(next.key);
    await settle();
  }
  return ids;
}

/** A store whose messages are ready as soon as they are there. */
async function open(clock: FakeClock, settings: StoreSettings = {}): Promise<TestStore> {
  const test = await openTestStore({ clock, ...settings, isHeld: true });
  test.store.fed.connect((key) => test.store.markReady(key), new AbortController().signal);
  test.store.resume();
  return test;
}

describe('when the wall clock goes back', () => {
  it('every back-off of a message ends, however few the lane has in memory', async () => {
    const clock = new FakeClock();
    await using test = await open(clock, { window: { records: 4, bytes: Infinity, refill: 2, part: Infinity } });
    const { store } = test;
    const ids = Array.from({ length: 12 }, (_, i) => `m${i}`);
    for (const id of ids) await ready(store, id);
    clock.step(HOUR);
    assert.deepEqual(await drain(store, (key) => store.failedAttempt(key, clock.now() + 60_000)), ids);
    clock.step(-HOUR);
    await clock.advance(61_000);
    assert.deepEqual((await drain(store)).toSorted(), ids.toSorted());
  });

  it('one whose alarm rang before that is not held up when it is read from the disk', async () => {
    const clock = new FakeClock();
    await using test = await open(clock, { window: { records: 4, bytes: Infinity, refill: 2, part: Infinity } });
    const { store } = test;
    const ids = Array.from({ length: 12 }, (_, i) => `m${i}`);
    for (const id of ids) await ready(store, id);
    await drain(store, (key) => store.failedAttempt(key, clock.now() + 5_000));
    await clock.advance(5_001);
    clock.step(-HOUR);
    assert.deepEqual((await drain(store)).toSorted(), ids.toSorted());
  });

  it('what expires keeps its time', async () => {
    const clock = new FakeClock();
    await using test = await open(clock);
    const { store } = test;
    const lapsed: MessageKey[] = [];
    store.lapsed.connect((key) => lapsed.push(key), new AbortController().signal);
    clock.step(HOUR);
    const key = await ready(store, 'late', { expiresAt: clock.now() + HOUR });
    await drain(store, (each) => store.failedAttempt(each, clock.now() + 60_000));
    clock.step(-HOUR);
    await clock.advance(61_000);
    assert.equal(store.nextReady(ECHO)?.key, key, 'its back-off is over');
    await clock.advance(2 * HOUR - 62_000);
    assert.deepEqual(lapsed, []);
    await clock.advance(1_000);
    assert.deepEqual(lapsed, [key]);
  });

  it('a result is sent again when its back-off is over', async () => {
    const clock = new FakeClock();
    await using test = await open(clock);
    const { store } = test;
    const accepted = store.acceptResult(result('answer', { arrivedAt: clock.now() }));
    assert.equal(accepted.kind, 'accepted');
    await accepted.durable;
    const key = store.nextOutbound('mqtt')?.key;
    assert.ok(key !== undefined);
    const due: string[] = [];
    store.laneDue.connect((lane) => due.push(lane), new AbortController().signal);
    store.markSending(key);
    await store.retryOutbound(key, clock.now() + 60_000);
    clock.step(-HOUR);
    await clock.advance(59_999);
    assert.deepEqual([store.nextOutbound('mqtt'), due], [undefined, []]);
    await clock.advance(1);
    assert.deepEqual([store.nextOutbound('mqtt')?.key, due], [key, ['mqtt']]);
    store.markSending(key);
    await store.retryOutbound(key, clock.now() + 5_000);
    await store.endOutbound(key, 'sent');
    await clock.advance(5_000);
    assert.deepEqual(due, ['mqtt'], 'nobody is called for one that has ended');
  });

  it('while the agent is away, nothing waits longer than the longest back-off', async () => {
    await using dir = await tempDir();
    const clock = new FakeClock();
    const settings = { isOnDisk: true, stateDir: dir.path };
    {
      await using test = await open(clock, settings);
      const { store } = test;
      await ready(store, 'near');
      const far = await ready(store, 'far');
      await drain(store, (key) => store.failedAttempt(key, clock.now() + 60_000 + (key === far ? 60_000 : 0)));
    }
    clock.step(90_000 - HOUR);
    await using test = await open(clock, settings);
    await settle();
    assert.deepEqual(await drain(test.store), ['far']);
    await clock.advance(HOUR);
    assert.deepEqual(await drain(test.store), ['near']);
  });
});
