/** What is remembered of the ids of messages that have ended, and for how long. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { LmdbJournal, MemoryJournal, type Change, type Datastore } from '../../../src/datastore/index.js';
import { padded } from '../../../src/datastore/keys.js';
import { silentLog } from '../../../src/log/log.js';
import { FakeClock } from '../../support/clock.js';
import { inbound } from '../../support/messages.js';
import { openTestStore, take } from '../../support/store.js';
import { tempDir } from '../../support/temp.js';

const MINUTE = 60_000;
const fell = { code: 'worker-failed', text: 'it fell' } as const;

/** So many messages come and go; with each 256th end goes what has left the window. */
async function others(store: Datastore, count = 256): Promise<void> {
  for (let n = 0; n < count; n++) {
    const key = await take(store, store.accept(inbound(randomUUID())));
    await store.delivered(key);
  }
}

async function comesAndGoes(store: Datastore, id: string, arrivedAt?: number): Promise<void> {
  await store.delivered(await take(store, store.accept(inbound(id, arrivedAt === undefined ? {} : { arrivedAt }))));
}

suite('the id of a message that was accepted anew', () => {
  const dies = async (store: Datastore, id: string): Promise<void> => {
    const ended = await store.end(await take(store, store.accept(inbound(id))), 'dead', fell);
    assert.equal(ended.kind, 'ended');
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
    await comesAndGoes(t.store, 'again', clock.now());
    await clock.advance(20 * MINUTE);
    await others(t.store);
    assert.equal(t.store.accept(inbound('again')).kind, 'duplicate');
    await clock.advance(50 * MINUTE);
    await others(t.store);
    assert.equal(t.store.accept(inbound('again')).kind, 'accepted');
  });
});

suite('the id of a message that has ended', () => {
  test('is known from the call on that ends it, before that is in the journal', async () => {
    await using t = await openTestStore();
    const key = await take(t.store, t.store.accept(inbound('a')));
    const delivered = t.store.delivered(key);
    assert.equal(t.store.accept(inbound('a')).kind, 'duplicate');
    await delivered;
    assert.equal(t.store.accept(inbound('a')).kind, 'duplicate');
  });

  test('is unknown once its time is over, also where it stands with others whose time is not', async () => {
    const clock = new FakeClock();
    await using t = await openTestStore({ clock, dedupe: { age: 60 * MINUTE, count: 250_000 } });
    await comesAndGoes(t.store, 'old');
    await clock.advance(59 * MINUTE);
    await comesAndGoes(t.store, 'young', clock.now());
    assert.equal(t.store.accept(inbound('old')).kind, 'duplicate');
    await clock.advance(MINUTE);
    assert.equal(t.store.accept(inbound('young')).kind, 'duplicate');
    assert.equal(t.store.accept(inbound('old', { arrivedAt: clock.now() })).kind, 'accepted');
  });

  test('is not forgotten with the last of its page, which came while the clock was wrong', async () => {
    const clock = new FakeClock();
    const journal = new MemoryJournal();
    const ended = (id: string, at: number): Change => {
      return { table: 'past', key: `i/echo/${id}`, value: `{"e":"delivered","a":${at}}` };
    };
    // As many as make a page, which is joined with no other then.
    const before = Array.from({ length: 1022 }, (_, n) => ended(`other-${n}`, clock.now() - 2 * 60 * MINUTE));
    await journal.open();
    await journal.commit([ended('right', clock.now()), ...before, ended('wrong', 0)]);
    await using t = await openTestStore({ clock, journal, dedupe: { age: 60 * MINUTE, count: 250_000 } });
    await others(t.store);
    assert.equal(t.store.accept(inbound('right')).kind, 'duplicate');
    await clock.advance(60 * MINUTE);
    await others(t.store);
    assert.ok(journal.count('past') < 1024);
  });

  for (const kind of ['memory', 'LMDB'] as const) {
    test(`is forgotten once there are too many, and those that ended last are not (${kind})`, async () => {
      await using dir = await tempDir();
      const measure = { entries: 300, bytes: 2 ** 20, file: 2 ** 20, after: 1 };
      const path = join(dir.path, 'journal');
      const journal = kind === 'memory' ? new MemoryJournal() : new LmdbJournal(path, silentLog, {}, measure);
      await using t = await openTestStore({ stateDir: dir.path, journal, dedupe: { age: 60 * MINUTE, count: 500 } });
      await comesAndGoes(t.store, 'first');
      const isKnown = (id: string): boolean => t.store.accept(inbound(id)).kind === 'duplicate';
      let ended = 1;
      for (; ended < 10_000 && isKnown('first'); ended += 256) await others(t.store);
      assert.ok(ended > 500, `it was forgotten after ${ended}`);
      assert.ok(ended < 10_000, 'it is never forgotten');
      await comesAndGoes(t.store, 'last');
      await others(t.store, 499);
      assert.ok(isKnown('last'));
      assert.ok(journal.count('past') < 4_000, `${journal.count('past')} are known`);
    });
  }
});

suite('ids that a version up to format 5 knew', () => {
  const NOW = 1_700_000_000_000;
  const older = (...ended: readonly (readonly [id: string, at: number])[]): Change[] => [
    { table: 'facts', key: 'format', value: '5' },
    ...ended.map(([id, at]): Change => {
      return { table: 'ids', key: `i/echo/${id}`, value: `{"e":"delivered","a":${at}}` };
    }),
    // Those of one commit stand together, under the newest.
    {
      table: 'ended',
      key: `${padded(ended.at(-1)?.[1] ?? 0)}/${padded(7)}`,
      value: ended.map(([id]) => `i/echo/${id}`).join('\n'),
    },
  ];

  test('are known as long as they were to be, and then forgotten', async () => {
    const clock = new FakeClock(NOW);
    const journal = new MemoryJournal();
    await journal.open();
    await journal.commit(older(['a', NOW - 50 * MINUTE], ['b', NOW - 49 * MINUTE], ['c', NOW - 49 * MINUTE]));
    await using t = await openTestStore({ clock, journal, dedupe: { age: 60 * MINUTE, count: 250_000 } });
    await others(t.store);
    for (const id of ['a', 'b', 'c']) assert.equal(t.store.accept(inbound(id)).kind, 'duplicate', id);
    assert.equal(journal.count('ended'), 1);
    await clock.advance(12 * MINUTE);
    await others(t.store);
    await others(t.store, 1);
    assert.deepEqual([journal.count('ids'), journal.count('ended')], [0, 0]);
    assert.equal(t.store.accept(inbound('a', { arrivedAt: clock.now() })).kind, 'accepted');
  });

  test('are forgotten before those of this version, once there are too many', async () => {
    const journal = new MemoryJournal();
    await journal.open();
    await journal.commit(older(['a', Date.now() - 3], ['b', Date.now() - 2]));
    await using t = await openTestStore({ journal, dedupe: { age: 60 * MINUTE, count: 1 } });
    await comesAndGoes(t.store, 'new');
    await others(t.store, 254);
    assert.equal(t.store.accept(inbound('a')).kind, 'duplicate');
    await others(t.store, 2);
    assert.deepEqual([journal.count('ids'), journal.count('ended')], [0, 0]);
    assert.equal(t.store.accept(inbound('new')).kind, 'duplicate');
  });

  test('are not forgotten while they are pending anew', async () => {
    const clock = new FakeClock(NOW);
    const journal = new MemoryJournal();
    const at = NOW - 50 * MINUTE;
    await journal.open();
    await journal.commit([...older(['a', at]), { table: 'ids', key: 'i/echo/a', value: `{"e":"dead","a":${at}}` }]);
    await using t = await openTestStore({ clock, journal, dedupe: { age: 60 * MINUTE, count: 250_000 } });
    await take(t.store, t.store.accept(inbound('a', { arrivedAt: NOW })));
    await clock.advance(12 * MINUTE);
    await others(t.store, 257);
    assert.equal(journal.count('ended'), 0);
    assert.equal(t.store.accept(inbound('a')).kind, 'duplicate');
  });

  test('are not forgotten because many messages wait', async () => {
    const journal = new MemoryJournal();
    await journal.open();
    await journal.commit(older(['a', Date.now() - 2]));
    await using t = await openTestStore({ journal, dedupe: { age: 60 * MINUTE, count: 300 } });
    for (let n = 0; n < 100; n++) await take(t.store, t.store.accept(inbound(`waits-${n}`)));
    await others(t.store);
    assert.equal(t.store.accept(inbound('a')).kind, 'duplicate');
  });

  test('are not outlived by those of this version, also where many of them stand together', async () => {
    const journal = new MemoryJournal();
    await journal.open();
    await journal.commit(older(...Array.from({ length: 200 }, (_, n) => [`a${n}`, Date.now() - 2] as const)));
    await using t = await openTestStore({ journal, dedupe: { age: 60 * MINUTE, count: 300 } });
    await comesAndGoes(t.store, 'new');
    await others(t.store, 255);
    await comesAndGoes(t.store, 'last');
    // Some 150 are too many: fewer than stand together, and as many as a page of those that came since.
    for (const id of ['a0', 'new', 'last']) assert.equal(t.store.accept(inbound(id)).kind, 'duplicate', id);
  });
});
