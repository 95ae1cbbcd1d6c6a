// The datastore's promises (CONTRACT section 1), the same over both journals.
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { Datastore } from '../../../src/datastore/index.js';
import { directiveKey, type MessageKey } from '../../../src/message/index.js';
import { WINDOW_LIMITS } from '../../../src/datastore/window.js';
import { FakeClock, settle } from '../../support/clock.js';
import { directive, inbound, result, workerName } from '../../support/messages.js';
import { deliverAll, openTestStore, ready, take, type StoreSettings } from '../../support/store.js';
import { tempDir } from '../../support/temp.js';

const ECHO = directiveKey(directive('echo'));
const OTHER = directiveKey(directive('other'));
const HOUR = 3600_000;
const worker = workerName('echo-worker');

function drain(store: Datastore): string[] {
  const ids: string[] = [];
  for (let next = store.nextReady(ECHO); next !== undefined; next = store.nextReady(ECHO)) {
    ids.push(next.messageId);
    store.markDispatching(next.key);
  }
  return ids;
}

for (const isOnDisk of [false, true]) {
  const name = isOnDisk ? 'on LMDB' : 'in memory';
  const withStore = async (
    fn: (store: Datastore, stateDir: string) => Promise<void>,
    settings: StoreSettings = {},
  ): Promise<void> => {
    await using test = await openTestStore({ isOnDisk, ...settings });
    await fn(test.store, test.stateDir);
  };

  describe(`the datastore ${name}`, () => {
    it('hands messages of one directive out in the order of arrival', () =>
      withStore(async (store) => {
        await ready(store, 'a', 'b', 'c');
        assert.deepEqual(drain(store), ['a', 'b', 'c']);
      }));

    it('is silent about a message until it is on stable storage', () =>
      withStore(async (store) => {
        const acceptance = store.accept(inbound('a'));
        assert.equal(acceptance.kind, 'accepted');
        assert.equal(store.inbound(acceptance.key), undefined);
        assert.equal(store.markReady(acceptance.key), false);
        await acceptance.durable;
        assert.equal(store.inbound(acceptance.key)?.messageId, 'a');
      }));

    it('serves priority 9 first, and the oldest of all when asked', () =>
      withStore(async (store) => {
        for (const [id, priority] of [
          ['low', 1],
          ['high', 9],
          ['middle', 5],
        ] as const) {
          store.markReady(await take(store, store.accept(inbound(id, { priority }))));
        }
        assert.equal(store.nextReady(ECHO)?.messageId, 'high');
        assert.equal(store.nextReady(ECHO, { oldest: true })?.messageId, 'low');
        assert.equal(store.nextReady(ECHO, { only: (record) => record.priority < 9 })?.messageId, 'middle');
      }));

    it('takes - and _ for one letter', () =>
      withStore(async (store) => {
        store.markReady(await take(store, store.accept(inbound('a', { directive: directive('my-worker') }))));
        assert.equal(store.nextReady(directiveKey(directive('my_worker')))?.messageId, 'a');
        assert.equal(store.accept(inbound('a', { directive: directive('my_worker') })).kind, 'duplicate');
      }));

    it('keeps one record of an id that is pending, delivered, expired or cancelled', () =>
      withStore(async (store) => {
        const first = store.accept(inbound('a'));
        const second = store.accept(inbound('a'));
        assert.equal(second.kind, 'duplicate');
        const key = await take(store, first);
        store.markReady(key);
        store.markDispatching(key);
        assert.equal(await store.delivered(key), true);
        assert.equal(await store.delivered(key), false);
        assert.equal(store.accept(inbound('a')).kind, 'duplicate');
        const [b] = await ready(store, 'b');
        await store.end(b!, 'expired', { code: 'expired', text: 'too late' });
        assert.equal(store.accept(inbound('b')).kind, 'duplicate');
        assert.equal(store.accept(inbound('a', { directive: directive('other') })).kind, 'accepted');
      }));

    it('accepts a dead message anew, unless it is a retained one', () =>
      withStore(async (store) => {
        const [key] = await ready(store, 'a');
        await store.end(key!, 'dead', { code: 'worker-failed', text: 'it fell' });
        assert.equal(store.accept(inbound('a'), { isRetained: true }).kind, 'duplicate');
        assert.equal(store.accept(inbound('a')).kind, 'accepted');
      }));

    it('records the first end only, with its answer, and keeps the dead', () =>
      withStore(async (store) => {
        const [key] = await ready(store, 'a');
        const both = await Promise.all([
          store.end(key!, 'dead', { code: 'worker-failed', text: 'it fell' }),
          store.end(key!, 'expired', { code: 'expired', text: 'too late' }),
        ]);
        assert.deepEqual(
          both.map((each) => each.kind),
          ['ended', 'already-ended'],
        );
        const answer = store.nextOutbound('mqtt');
        assert.equal(answer?.responseTo, 'a');
        assert.equal(answer.metadata['error-code'], 'worker-failed');
        const dead = [...store.deadLetters()];
        assert.deepEqual(
          dead.map((each) => [each.messageId, each.failure.code]),
          [['a', 'worker-failed']],
        );
      }));

    it('brings a failed message back when it is due, and a second copy brings it back at once', () => {
      const clock = new FakeClock();
      return withStore(
        async (store) => {
          const [a, b] = await ready(store, 'a', 'b');
          const fed: MessageKey[] = [];
          store.fed.connect((key) => fed.push(key), new AbortController().signal);
          store.markDispatching(a!);
          await store.failedAttempt(a!, clock.now() + 5000);
          assert.equal(store.nextReady(ECHO)?.messageId, 'b', 'it gives up its place');
          store.markDispatching(b!);
          await store.delivered(b!);
          await clock.advance(4999);
          assert.deepEqual(fed, []);
          await clock.advance(2);
          assert.deepEqual(fed, [a]);
          assert.equal(store.inbound(a!)?.attempts, 1);
          store.markReady(a!);
          store.markDispatching(a!);
          await store.failedAttempt(a!, clock.now() + HOUR);
          assert.equal(store.accept(inbound('a')).kind, 'duplicate');
          await settle();
          assert.deepEqual(fed, [a, a]);
        },
        { clock },
      );
    });

    it('gives a message back to its old place when the call came to nothing', () =>
      withStore(async (store) => {
        const [a] = await ready(store, 'a', 'b');
        store.markDispatching(a!);
        assert.equal(store.nextReady(ECHO)?.messageId, 'b');
        store.requeue(a!);
        assert.deepEqual(drain(store), ['a', 'b']);
      }));

    it('tells when a message is over its time: its own expiry, the lifetime, the shorter one of unknown directives', () => {
      const clock = new FakeClock();
      const now = clock.now();
      return withStore(
        async (store) => {
          const lapsed: string[] = [];
          store.lapsed.connect((key) => {
            const record = store.inbound(key);
            lapsed.push(record?.messageId ?? '');
            return store.end(key, 'expired', { code: 'expired', text: 'too late' });
          }, new AbortController().signal);
          await store.claim(ECHO, worker);
          await take(store, store.accept(inbound('own', { arrivedAt: now, expiresAt: now + 1000 })));
          await take(store, store.accept(inbound('known', { arrivedAt: now })));
          await take(store, store.accept(inbound('unknown', { arrivedAt: now, directive: directive('nobody') })));
          await clock.advance(1500);
          assert.deepEqual(lapsed, ['own']);
          await clock.advance(60_000);
          assert.deepEqual(lapsed, ['own', 'unknown']);
          await clock.advance(24 * HOUR);
          assert.deepEqual(lapsed, ['own', 'unknown', 'known']);
          assert.equal(store.liveMessages, 3, 'the three answers are left');
        },
        { clock },
      );
    });

    it('does not expire a call under way, and looks again when it comes back', () => {
      const clock = new FakeClock();
      return withStore(
        async (store) => {
          const now = clock.now();
          const key = await take(store, store.accept(inbound('a', { arrivedAt: now, expiresAt: now + 10 })));
          store.markReady(key);
          store.markDispatching(key);
          await clock.advance(20);
          assert.equal((await store.end(key, 'expired', { code: 'expired', text: '' })).kind, 'already-ended');
          const lapse = store.lapsed.next(AbortSignal.timeout(5000));
          store.requeue(key);
          assert.equal(await lapse, key);
        },
        { clock },
      );
    });

    it('cancels what is pending, keeps a cancel for what is not yet known, leaves a call in flight', () =>
      withStore(async (store) => {
        const [a, b] = await ready(store, 'a', 'b');
        store.markDispatching(b!);
        assert.equal((await store.cancel(ECHO, 'a')).kind, 'cancelled');
        assert.equal((await store.cancel(ECHO, 'a')).kind, 'already-ended');
        assert.equal((await store.cancel(ECHO, 'b')).kind, 'in-flight');
        assert.equal((await store.cancel(ECHO, 'later')).kind, 'kept');
        const later = store.accept(inbound('later'));
        assert.equal(later.kind, 'cancelled');
        await later.durable;
        assert.equal(store.accept(inbound('later')).kind, 'duplicate');
        assert.equal(store.inbound(a!), undefined);
        const answers: string[] = [];
        for (let next = store.nextOutbound('mqtt'); next !== undefined; next = store.nextOutbound('mqtt')) {
          answers.push(`${next.responseTo} ${next.metadata['error-code'] ?? ''}`);
          await store.endOutbound(next.key, 'sent');
        }
        assert.deepEqual(answers, ['a cancelled', 'later cancelled']);
      }));

    it('keeps content above 64 KiB in a file until the message has ended, and order with the small ones behind it', () =>
      withStore(async (store, stateDir) => {
        const content = Buffer.alloc(300_000, 'x');
        const big = store.accept(inbound('big', { content }));
        const small = store.accept(inbound('small'));
        const [a, b] = await Promise.all([take(store, big), take(store, small)]);
        store.markReady(b);
        assert.equal(store.nextReady(ECHO)?.messageId, 'small', 'an unready message is passed by');
        store.markReady(a);
        const next = store.nextReady(ECHO);
        assert.equal(next?.messageId, 'big');
        assert.equal(next.content.kind, 'file');
        assert.deepEqual(await store.readContent(next.content), content);
        assert.equal((await readdir(join(stateDir, 'content'))).length, 1);
        store.markDispatching(a);
        await store.delivered(a);
        while ((await readdir(join(stateDir, 'content'))).length > 0) await settle();
      }));

    it('makes the fetched body the content, durably, and forgets it with the message', () =>
      withStore(async (store) => {
        const key = await take(store, store.accept(inbound('a', { content: Buffer.from('"https://x/"') })));
        assert.equal(store.markFetching(key), true);
        assert.equal(store.nextReady(ECHO), undefined);
        await store.fetched(key, { kind: 'inline', bytes: Buffer.from('body') });
        const next = store.nextReady(ECHO);
        assert.equal(next?.isFetched, true);
        assert.deepEqual(await store.readContent(next.content), Buffer.from('body'));
      }));

    it('takes the same result of a worker once, and another under the same id too', () =>
      withStore(async (store) => {
        const first = store.acceptResult(result('r'));
        assert.equal(store.acceptResult(result('r')).kind, 'duplicate');
        assert.equal(first.kind, 'accepted');
        await first.durable;
        assert.equal(store.acceptResult(result('r')).kind, 'duplicate');
        assert.equal(store.acceptResult(result('r', { content: Buffer.from('"other"') })).kind, 'accepted');
        assert.equal(store.acceptResult(result('r', { worker: workerName('other-worker') })).kind, 'accepted');
        await store.endOutbound(store.nextOutbound('mqtt')!.key, 'sent');
        assert.equal(store.acceptResult(result('r')).kind, 'duplicate', 'also once it was sent');
      }));

    it('sends a result where the request asked for it, also once the request was delivered', () =>
      withStore(async (store) => {
        const replyTopic = { kind: 'topic' as const, topic: 'answers/1', correlationData: Buffer.from([0, 255]) };
        const key = await take(store, store.accept(inbound('q', { replyTopic })));
        const answer = { responseTo: 'q', handlers: [ECHO] };
        const destinationOf = async (id: string): Promise<unknown> => {
          const accepted = store.acceptResult(result(id, answer));
          assert.equal(accepted.kind, 'accepted');
          await accepted.durable;
          return store.outbound(accepted.key)?.destination;
        };
        assert.deepEqual(await destinationOf('early'), replyTopic);
        store.markReady(key);
        store.markDispatching(key);
        await store.delivered(key);
        assert.deepEqual(await destinationOf('late'), replyTopic);
      }));

    it('keeps a lane of its own for each URL of each worker', () =>
      withStore(async (store) => {
        for (const [id, url] of [
          ['1', 'https://a/'],
          ['2', 'https://b/'],
          ['3', 'https://a/'],
        ] as const) {
          const accepted = store.acceptResult(result(id, { directive: url }));
          if (accepted.kind === 'accepted') await accepted.durable;
        }
        const heads = store.backlogLanes().map((lane) => store.nextOutbound(lane)?.messageId);
        assert.deepEqual(heads.sort(), ['1', '2']);
      }));

    it('holds a lane back while its head waits to be sent again', () => {
      const clock = new FakeClock();
      return withStore(
        async (store) => {
          for (const id of ['1', '2']) {
            const accepted = store.acceptResult(result(id, { arrivedAt: clock.now() }));
            if (accepted.kind === 'accepted') await accepted.durable;
          }
          const head = store.nextOutbound('mqtt')!;
          store.markSending(head.key);
          assert.equal(store.nextOutbound('mqtt')?.messageId, '2');
          const due = store.laneDue.next(AbortSignal.timeout(5000));
          await store.retryOutbound(head.key, clock.now() + 1000);
          assert.equal(store.nextOutbound('mqtt'), undefined);
          await clock.advance(1000);
          assert.equal(await due, 'mqtt');
          assert.equal(store.nextOutbound('mqtt')?.messageId, '1');
          assert.equal(store.nextOutbound('mqtt')?.attempts, 1);
        },
        { clock },
      );
    });

    it('gives up a result that is older than its lifetime', () => {
      const clock = new FakeClock();
      return withStore(
        async (store) => {
          const accepted = store.acceptResult(result('old', { arrivedAt: clock.now() }));
          if (accepted.kind === 'accepted') await accepted.durable;
          await clock.advance(8 * 24 * HOUR);
          assert.equal(store.nextOutbound('mqtt'), undefined);
          while ([...store.deadLetters()].length === 0) await settle();
          assert.deepEqual(
            [...store.deadLetters()].map((dead) => dead.failure.code),
            ['expired'],
          );
        },
        { clock },
      );
    });

    it('says that it is full, for the intake first, and when there is room again', () =>
      withStore(
        async (store) => {
          const keys: MessageKey[] = [];
          for (let i = 0; ; i++) {
            const acceptance = store.accept(inbound(`m${i}`, { content: Buffer.alloc(1000) }));
            if (acceptance.kind === 'full') break;
            keys.push(await take(store, acceptance));
          }
          assert.ok(store.spoolBytes >= 7500 && store.spoolBytes < 10_000);
          assert.equal(store.acceptResult(result('r')).kind, 'accepted', 'results may use what is left');
          const room = store.room.next(AbortSignal.timeout(5000));
          for (const key of keys) {
            store.markReady(key);
            store.markDispatching(key);
            await store.delivered(key);
          }
          await room;
          assert.equal(store.accept(inbound('again')).kind, 'accepted');
        },
        { spool: { limit: 10_000, reserve: 0 } },
      ));

    it('throws the oldest dead messages away when there are too many', () =>
      withStore(
        async (store) => {
          for (let i = 0; i < 20; i++) {
            await store.bury({
              failure: { code: 'malformed', text: 'no' },
              content: Buffer.alloc(1000),
              messageId: `m${i}`,
              arrivedAt: 0,
            });
          }
          const left = [...store.deadLetters()].map((dead) => dead.messageId);
          assert.ok(left.length >= 2 && left.length < 10, `${left.length} are left`);
          assert.equal(left.at(-1), 'm19');
        },
        { dead: { bytes: 5000, age: HOUR } },
      ));

    it('answers a refused message when it knows what to answer to', () =>
      withStore(async (store) => {
        const failure = { code: 'malformed', text: 'it has no end' } as const;
        assert.equal(await store.bury({ failure, content: Buffer.from('{'), arrivedAt: 0 }), undefined);
        const key = await store.bury({
          failure,
          content: Buffer.from('{'),
          arrivedAt: 0,
          messageId: 'm',
          directive: 'echo',
        });
        assert.equal(store.outbound(key!)?.responseTo, 'm');
      }));

    it('never lets `sent` go back', () =>
      withStore(async (store) => {
        assert.equal(await store.reserveSent(1000), 1000);
        assert.equal(await store.reserveSent(1000), 1001);
        assert.equal(await store.reserveSent(5), 1002);
        assert.equal(await store.reserveSent(2000), 2000);
      }));

    it('remembers commands and the owners of directives', () =>
      withStore(async (store) => {
        await store.recordCommand('c');
        assert.equal(store.isCommandRecorded('c'), true);
        assert.equal(store.isCommandRecorded('d'), false);
        await store.claim(ECHO, worker);
        await store.claim(OTHER, worker);
        assert.equal(store.ownerOf(ECHO), worker);
        await store.releaseOwner(worker, OTHER);
        assert.deepEqual([store.ownerOf(ECHO), store.ownerOf(OTHER)], [worker, undefined]);
        await store.releaseOwner(worker);
        assert.equal(store.ownerOf(ECHO), undefined);
        assert.equal(store.isKnown(ECHO), true);
      }));

    it('keeps a backlog on disk, in order, with a bounded part of it in memory', () =>
      withStore(async (store) => {
        store.fed.connect((key) => store.markReady(key), new AbortController().signal);
        const total = 2000;
        const accepted = Array.from({ length: total }, (_, i) => store.accept(inbound(`m${i}`)));
        for (const each of accepted) if (each.kind === 'accepted') await each.durable;
        assert.ok(store.liveMessages <= WINDOW_LIMITS.records, `${store.liveMessages} are live`);
        for (const each of accepted) if (each.kind === 'accepted') store.markReady(each.key);
        assert.deepEqual(
          await deliverAll(store, ECHO, total),
          Array.from({ length: total }, (_, i) => `m${i}`),
        );
        assert.equal(store.liveMessages, 0);
        assert.equal(store.spoolBytes, 0);
      }));
  });
}

describe('the datastore over a restart', () => {
  it('goes on where each message stood', async () => {
    await using dir = await tempDir();
    const clock = new FakeClock();
    const open = (): ReturnType<typeof openTestStore> =>
      openTestStore({ isOnDisk: true, stateDir: dir.path, clock, isHeld: true });
    const failedKey = await (async () => {
      await using test = await open();
      const { store } = test;
      await store.claim(ECHO, worker);
      const at = { arrivedAt: clock.now() };
      for (const id of ['delivered', 'in flight', 'waiting', 'failed']) {
        store.markReady(await take(store, store.accept(inbound(id, at))));
      }
      const key = (id: string): MessageKey => store.nextReady(ECHO, { only: (record) => record.messageId === id })!.key;
      const delivered = key('delivered');
      store.markDispatching(delivered);
      await store.delivered(delivered);
      store.markDispatching(key('in flight'));
      const failed = key('failed');
      store.markDispatching(failed);
      await store.failedAttempt(failed, clock.now() + 60_000);
      const accepted = store.acceptResult(result('answer', at));
      if (accepted.kind === 'accepted') await accepted.durable;
      store.markSending(store.nextOutbound('mqtt')!.key);
      await store.reserveSent(5_000_000_000_000);
      return failed;
    })();
    await using test = await open();
    const { store } = test;
    store.fed.connect((key) => store.markReady(key), new AbortController().signal);
    store.resume();
    assert.deepEqual(drain(store), ['in flight', 'waiting']);
    assert.equal(store.accept(inbound('delivered')).kind, 'duplicate');
    assert.equal(store.nextOutbound('mqtt')?.messageId, 'answer');
    assert.equal(store.acceptResult(result('answer')).kind, 'duplicate');
    assert.equal(store.ownerOf(ECHO), worker);
    assert.equal(await store.reserveSent(1), 5_000_000_000_001);
    await clock.advance(60_001);
    assert.equal(store.inbound(failedKey)?.attempts, 1);
    const fresh = await take(store, store.accept(inbound('new')));
    assert.ok(fresh > failedKey, 'keys are never used twice');
  });

  it('deletes content files that no record names', async () => {
    await using dir = await tempDir();
    const settings = { isOnDisk: true, stateDir: dir.path };
    {
      await using test = await openTestStore(settings);
      await take(test.store, test.store.accept(inbound('kept', { content: Buffer.alloc(100_000) })));
      await test.store.newContentFile().write([Buffer.alloc(100_000)]);
      assert.equal((await readdir(join(dir.path, 'content'))).length, 2);
    }
    await using test = await openTestStore(settings);
    assert.equal((await readdir(join(dir.path, 'content'))).length, 1);
    assert.equal(test.store.liveMessages, 1);
  });

  it('refuses a state directory that another agent uses, and takes one whose agent is gone', async () => {
    await using dir = await tempDir();
    const settings = { isOnDisk: true, stateDir: dir.path };
    {
      await using _first = await openTestStore(settings);
      await assert.rejects(openTestStore(settings), { code: 'state.in_use' });
      assert.ok((await readdir(dir.path)).includes('lock'));
    }
    await using _second = await openTestStore(settings);
  });

  it('refuses a journal of a format it does not know', async () => {
    await using dir = await tempDir();
    const { LmdbJournal } = await import('../../../src/datastore/index.js');
    const journal = new LmdbJournal(join(dir.path, 'journal'));
    await journal.open();
    await journal.commit([{ table: 'facts', key: 'format', value: Buffer.from('99') }]);
    await journal.close();
    await assert.rejects(openTestStore({ isOnDisk: true, stateDir: dir.path }), { code: 'state.version' });
  });

  it('skips a record whose bytes were flipped, names it, and keeps all others', async () => {
    await using dir = await tempDir();
    const settings = { isOnDisk: true, stateDir: dir.path };
    {
      await using test = await openTestStore(settings);
      for (const id of ['a', 'b', 'c']) await take(test.store, test.store.accept(inbound(id)));
    }
    const { LmdbJournal } = await import('../../../src/datastore/index.js');
    const journal = new LmdbJournal(join(dir.path, 'journal'));
    await journal.open();
    const [, second] = [...journal.range('records', { after: '', before: '\u{10ffff}' })];
    const flipped = Buffer.from(second![1]);
    flipped[20] = flipped[20]! ^ 1;
    await journal.commit([{ table: 'records', key: second![0], value: flipped }]);
    await journal.close();
    const { recordingLog } = await import('../../support/log.js');
    const log = recordingLog();
    await using test = await openTestStore({ ...settings, log, isHeld: true });
    test.store.fed.connect((key) => test.store.markReady(key), new AbortController().signal);
    test.store.resume();
    assert.deepEqual(drain(test.store), ['a', 'c']);
    assert.equal((await log.line('journal.torn')).fields.key, second![0]);
  });
});
