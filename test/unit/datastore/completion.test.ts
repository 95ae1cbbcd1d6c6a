// A message ends together with its results, the same over both journals; and contents that come and go bit by bit.
import assert from 'node:assert/strict';
import { readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { MQTT_LANE, type Datastore, type NewOutbound } from '../../../src/datastore/index.js';
import { directiveKey, type SummedContent } from '../../../src/message/index.js';
import { settle } from '../../support/clock.js';
import { directive, inbound, result } from '../../support/messages.js';
import { openTestStore, ready, take, type StoreSettings } from '../../support/store.js';

const ECHO = directiveKey(directive('echo'));

for (const isOnDisk of [false, true]) {
  const withStore = async (
    fn: (store: Datastore, stateDir: string) => Promise<void>,
    settings: StoreSettings = {},
  ): Promise<void> => {
    await using test = await openTestStore({ isOnDisk, ...settings });
    await fn(test.store, test.stateDir);
  };

  describe(`a completion ${isOnDisk ? 'on LMDB' : 'in memory'}`, () => {
    it('ends a message with its results in one commit, each result once, and gives the keys of new ones', () =>
      withStore(async (store, stateDir) => {
        const [key, other] = await ready(store, 'a', 'b');
        store.markDispatching(key!);
        const known = store.acceptResult(result('r0'));
        assert.equal(known.kind, 'accepted');
        await known.durable;
        const completed = store.complete(key!, [result('r0'), result('r1'), result('r1'), result('r2')]);
        assert.ok(completed.kind === 'taken');
        assert.equal(store.inbound(key!), undefined, 'the first end that is asked for wins');
        assert.equal(store.nextOutbound(MQTT_LANE)?.messageId, 'r0', 'what is not durable is behind it and waits');
        const keys = await completed.durable;
        assert.deepEqual(
          keys.map((each) => store.outbound(each)?.messageId),
          ['r1', 'r2'],
        );
        assert.equal(store.accept(inbound('a')).kind, 'duplicate');
        assert.equal(await store.delivered(key!), false);
        // Of one that has ended the results are taken all the same.
        const late = store.complete(key!, [result('r3')]);
        assert.ok(late.kind === 'taken');
        assert.equal((await late.durable).length, 1);
        const bare = store.complete(other!, []);
        assert.ok(bare.kind === 'taken');
        assert.deepEqual(await bare.durable, []);
        assert.deepEqual(await readdir(join(stateDir, 'content')), []);
      }));

    it('takes each of many results once, however many stand between the two copies', () =>
      withStore(async (store) => {
        const [key] = await ready(store, 'a');
        store.markDispatching(key!);
        const many = Array.from({ length: 500 }, (_, index) => result(`r${index}`));
        const completed = store.complete(key!, [...many, ...many]);
        assert.ok(completed.kind === 'taken');
        assert.equal((await completed.durable).length, many.length);
      }));

    it('remembers the results of the request that it ends, whichever way they come again', () =>
      withStore(async (store) => {
        const handlers = [ECHO];
        const own = (id: string): NewOutbound => result(id, { responseTo: 'a', handlers });
        const [key] = await ready(store, 'a');
        store.markDispatching(key!);
        const taken = store.complete(key!, [own('r0'), own('r1'), result('stray')]);
        assert.ok(taken.kind === 'taken');
        const keys = await taken.durable;
        for (const each of keys) await store.endOutbound(each, 'sent');
        const again = store.complete(key!, [own('r0'), own('r1'), result('stray')]);
        assert.ok(again.kind === 'taken');
        assert.deepEqual(await again.durable, []);
        assert.equal(store.acceptResult(own('r1')).kind, 'duplicate');
        const other = { content: Buffer.from('"other"') };
        assert.equal(store.acceptResult({ ...own('r1'), ...other }).kind, 'accepted', 'other bytes are another result');
        assert.equal(store.acceptResult(own('r2')).kind, 'accepted');
      }));

    it('takes a result that lies in a file as it is, and throws a copy of it away', () =>
      withStore(async (store, stateDir) => {
        const [first, second] = await ready(store, 'a', 'b');
        const body = (): Promise<SummedContent> => store.newContentFile().finish([Buffer.from('x'.repeat(70_000))]);
        const content = await body();
        const one = store.complete(first!, [result('r', { content })]);
        assert.ok(one.kind === 'taken');
        const [key] = await one.durable;
        assert.deepEqual(store.outbound(key!)?.content, content);
        const same = Buffer.from('x'.repeat(70_000));
        assert.equal(store.acceptResult(result('r', { content: same })).kind, 'duplicate');
        const two = store.complete(second!, [result('r', { content: await body() })]);
        assert.ok(two.kind === 'taken');
        assert.deepEqual(await two.durable, []);
        while ((await readdir(join(stateDir, 'content'))).length > 1) await settle();
      }));

    it('takes nothing of a completion for which the spool has no room, unless its results are known', () =>
      withStore(
        async (store) => {
          const [key] = await ready(store, 'a');
          const filler = store.acceptResult(result('filler', { content: Buffer.alloc(4000) }));
          assert.ok(filler.kind === 'accepted');
          await filler.durable;
          store.markDispatching(key!);
          const full = store.complete(key!, [result('filler', { content: Buffer.alloc(4000) }), result('r1')]);
          assert.deepEqual(full, { kind: 'full', index: 1, lacks: 'spool' });
          assert.equal(store.inbound(key!)?.state, 'dispatching');
          assert.equal(store.reserve(10), undefined);
          await store.endOutbound(filler.key, 'sent');
          const release = store.reserve(4000);
          assert.ok(release !== undefined);
          assert.equal(store.complete(key!, [result('r1')]).kind, 'full', 'room that is kept is no room');
          release();
          release();
          const taken = store.complete(key!, [result('r1')]);
          assert.ok(taken.kind === 'taken');
          assert.equal((await taken.durable).length, 1);
        },
        { spool: { limit: 3000, reserve: 0 } },
      ));

    it('reads a content file bit by bit, and finds out that it is damaged before the last of it', () =>
      withStore(async (store) => {
        const content = Buffer.alloc(100_000, 7);
        const key = await take(store, store.accept(inbound('a', { content })));
        const stored = store.inbound(key)!.content;
        assert.ok(stored.kind === 'file');
        const reader = await store.openContent(stored);
        const parts = [await reader.next(60_000), await reader.next(60_000)];
        assert.deepEqual(
          parts.map(({ isLast }) => isLast),
          [false, true],
        );
        assert.ok(Buffer.concat(parts.map(({ bytes }) => bytes)).equals(content));
        await reader.close();
        await truncate(stored.path, 70_000);
        const short = await store.openContent(stored);
        await short.next(60_000);
        await assert.rejects(short.next(60_000), { code: 'content.damaged' });
        await short.close();
        await writeFile(stored.path, Buffer.alloc(100_000, 8));
        const wrong = await store.openContent(stored);
        await wrong.next(60_000);
        await assert.rejects(wrong.next(60_000), { code: 'content.damaged' });
        await wrong.close();
        await rm(stored.path);
        await assert.rejects(store.openContent(stored), { code: 'content.damaged' });
      }));
  });
}
