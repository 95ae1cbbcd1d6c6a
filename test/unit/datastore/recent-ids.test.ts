/** What is remembered of the ids of messages that have ended, and for how long. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { suite, test } from 'node:test';
import type { Datastore } from '../../../src/datastore/index.js';
import { FakeClock } from '../../support/clock.js';
import { inbound } from '../../support/messages.js';
import { openTestStore, take } from '../../support/store.js';

const MINUTE = 60_000;
const fell = { code: 'worker-failed', text: 'it fell' } as const;

suite('the id of a message that was accepted anew', () => {
  const dies = async (store: Datastore, id: string): Promise<void> => {
    const ended = await store.end(await take(store, store.accept(inbound(id))), 'dead', fell);
    assert.equal(ended.kind, 'ended');
  };
  /** With each 256th end goes what has left the window. */
  const others = async (store: Datastore): Promise<void> => {
    for (let n = 0; n < 256; n++) {
      const key = await take(store, store.accept(inbound(randomUUID())));
      await store.delivered(key);
    }
  };

  test('is not forgotten while it is pending, however long ago it ended before', async () => {
    await using t = await openTestStore({ dedupe: { age: 60 * MINUTE, count: 0 } });
    await dies(t.store, 'again');
    await take(t.store, t.store.accept(inbound('again')));
    await others(t.store);
    assert.equal(t.store.accept(inbound('again')).kind, 'duplicate');
  });

  test('is remembered from its last end on', async () => {
    const clock = new FakeClock();
    await using t = await openTestStore({ clock, dedupe: { age: 60 * MINUTE, count: 250_000 } });
    await dies(t.store, 'again');
    await clock.advance(50 * MINUTE);
    await t.store.delivered(await take(t.store, t.store.accept(inbound('again', { arrivedAt: clock.now() }))));
    await clock.advance(20 * MINUTE);
    await others(t.store);
    assert.equal(t.store.accept(inbound('again')).kind, 'duplicate');
    await clock.advance(50 * MINUTE);
    await others(t.store);
    assert.equal(t.store.accept(inbound('again')).kind, 'accepted');
  });
});
