// What of a lane is in memory and what is read back from disk.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MemoryJournal } from '../../../src/datastore/index.js';
import type { Change, OrderedTable, RangeOptions } from '../../../src/datastore/journal.js';
import { directiveKey } from '../../../src/message/index.js';
import { directive, inbound } from '../../support/messages.js';
import { deliverAll, openTestStore, take } from '../../support/store.js';

const ECHO = directiveKey(directive('echo'));
const WINDOW = { records: 1024, bytes: 10_000, refill: 512, part: 512 };
const ALL = Array.from({ length: 100 }, (_, i) => `m${i}`);
const BODY = Buffer.alloc(1_000);

for (const isOnDisk of [false, true]) {
  describe(`the bytes of a lane ${isOnDisk ? 'on LMDB' : 'in memory'}`, () => {
    it('are no more in memory than its window has, also when they are read back', async () => {
      await using t = await openTestStore({ isOnDisk, window: WINDOW });
      t.store.fed.connect((key) => t.store.markReady(key), new AbortController().signal);
      const accepted = ALL.map((id) => take(t.store, t.store.accept(inbound(id, { content: BODY }))));
      for (const key of await Promise.all(accepted)) t.store.markReady(key);
      const isWithin = (): void =>
        assert.ok(t.store.liveMessages <= WINDOW.bytes / BODY.length, `${t.store.liveMessages} are live`);
      assert.deepEqual(await deliverAll(t.store, ECHO, ALL.length, isWithin), ALL);
      assert.equal(t.store.spoolBytes, 0);
    });
  });
}

/** Counts how often records are read back. */
class CountingJournal extends MemoryJournal {
  reads = 0;

  override range(table: OrderedTable, options: RangeOptions): ReturnType<MemoryJournal['range']> {
    if (table === 'records') this.reads += 1;
    return super.range(table, options);
  }
}

describe('a lane that fell behind', () => {
  it('reads nothing back any more once it has caught up, though messages never cease to come', async () => {
    const journal = new CountingJournal();
    await using t = await openTestStore({ journal });
    const { store } = t;
    let sent = 0;
    let delivered = 0;
    store.fed.connect((key) => store.markReady(key), new AbortController().signal);
    const comes = (): void => {
      const accepted = store.accept(inbound(`m${sent++}`));
      if (accepted.kind === 'accepted') void accepted.durable.then(() => store.markReady(accepted.key));
    };
    const goes = (): void => {
      const next = store.nextReady(ECHO);
      if (next === undefined) return;
      assert.equal(next.messageId, `m${delivered++}`);
      store.markDispatching(next.key);
      void store.delivered(next.key);
    };
    const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
    for (let n = 0; n < 1_500; n++) comes();
    const flow = async (): Promise<void> => {
      for (let n = 0; n < 4; n++) comes();
      for (let n = 0; n < 6; n++) goes();
      await nextTurn();
    };
    while (sent - delivered > 20) await flow();
    assert.ok(journal.reads > 0);
    journal.reads = 0;
    for (let n = 0; n < 100; n++) await flow();
    assert.equal(journal.reads, 0);
  });
});

/** Tells of each commit as it is asked for. */
class WatchedJournal extends MemoryJournal {
  begun: (changes: readonly Change[]) => void = () => undefined;

  override commit(changes: readonly Change[]): Promise<void> {
    this.begun(changes);
    return super.commit(changes);
  }
}

describe('a body that is being recorded', () => {
  it('is kept when its message leaves memory meanwhile to make room', async () => {
    const journal = new WatchedJournal();
    await using t = await openTestStore({ journal, window: { records: 3, bytes: 10_000, refill: 1, part: 1 } });
    const { store } = t;
    const first = await take(store, store.accept(inbound('m0')));
    store.markReady(first);
    store.markDispatching(first);
    for (const id of ['m1', 'm2']) await take(store, store.accept(inbound(id)));
    const last = await take(store, store.accept(inbound('m3')));
    assert.ok(store.markFetching(last));
    const content = await store.newContentFile().finish([BODY]);
    journal.begun = (changes) => {
      if (!changes.some(({ table }) => table === 'records')) return;
      journal.begun = () => undefined;
      // Its worker wants the URL itself from now on, and the first one comes back to its place.
      assert.ok(store.unfetch(last));
      store.requeue(first);
      assert.equal(store.inbound(last), undefined);
    };
    await store.fetched(last, content);
    const kept = store.listing.find(last);
    assert.ok(kept !== undefined);
    assert.deepEqual(await store.readContent(kept.content), BODY);
  });
});
