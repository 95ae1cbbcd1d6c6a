// What the datastore does when its disk fails: nothing is lost, nothing comes twice, and it goes on by itself.
import assert from 'node:assert/strict';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { Acceptance, Datastore, ResultAcceptance } from '../../../src/datastore/index.js';
import { directiveKey, type MessageKey } from '../../../src/message/index.js';
import { FakeClock, settle } from '../../support/clock.js';
import { FaultyJournal } from '../../support/faulty-journal.js';
import { directive, inbound, result, workerName } from '../../support/messages.js';
import { openTestStore, type StoreSettings } from '../../support/store.js';

const ECHO = directiveKey(directive('echo'));
const LARGE = Buffer.alloc(70_000, 1);

interface Faulty extends AsyncDisposable {
  readonly store: Datastore;
  readonly stateDir: string;
  readonly journal: FaultyJournal;
  readonly clock: FakeClock;
  readonly fed: string[];
}

async function open(settings: StoreSettings = {}): Promise<Faulty> {
  const journal = new FaultyJournal();
  const clock = new FakeClock();
  const opened = await openTestStore({ journal, clock, ...settings });
  const { store, stateDir } = opened;
  const fed: string[] = [];
  store.fed.connect((key) => {
    fed.push(store.inbound(key)?.messageId ?? '');
    store.markReady(key);
  }, new AbortController().signal);
  return { store, stateDir, journal, clock, fed, [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose]() };
}

async function take(store: Datastore, acceptance: Acceptance): Promise<MessageKey> {
  if (acceptance.kind !== 'accepted') throw new Error(`it is ${acceptance.kind}`);
  await acceptance.durable;
  store.markReady(acceptance.key);
  return acceptance.key;
}

/** Whether a commit is that of the record with this id. */
function isOf(messageId: string): FaultyJournal['fails'] {
  return (changes) => changes.some(({ value }) => value?.includes(`"messageId":"${messageId}"`) === true);
}

/** Listened to at once: it may fail before others are through. */
async function refusal(acceptance: ResultAcceptance): Promise<void> {
  if (acceptance.kind === 'accepted') await assert.rejects(acceptance.durable);
}

async function isDurable(acceptance: Acceptance): Promise<boolean> {
  if (acceptance.kind !== 'accepted') return false;
  return acceptance.durable.then(
    () => true,
    () => false,
  );
}

/** The disk is well: what was owed is recorded. */
async function mend({ journal, clock, store }: Faulty): Promise<void> {
  journal.fails = () => false;
  for (let i = 0; i < 3; i++) {
    await clock.advance(30_000);
    await store.probe();
  }
}

/** Files are deleted behind the back of whoever ended the message. */
async function noContent({ stateDir }: Faulty): Promise<void> {
  let names: string[] = [];
  for (let turn = 0; turn < 100; turn++) {
    names = await readdir(join(stateDir, 'content'));
    if (names.length === 0) return;
    await settle();
  }
  assert.fail(`content was left: ${names.join()}`);
}

const fell = { code: 'worker-failed', text: 'it fell' } as const;

describe('a disk that is full', () => {
  it('refuses a message, remembers nothing of it, and takes it when there is space', async () => {
    await using t = await open();
    t.journal.fails = () => true;
    const first = t.store.accept(inbound('a'));
    const second = t.store.accept(inbound('a'));
    assert.deepEqual([first.kind, second.kind], ['accepted', 'duplicate']);
    for (const each of [first, second]) {
      if (each.kind !== 'full') await assert.rejects(each.durable, { code: 'journal.write_failed' });
    }
    assert.equal(t.store.spoolBytes + t.store.liveMessages, 0);
    t.journal.fails = () => false;
    await take(t.store, t.store.accept(inbound('a')));
    assert.equal(t.store.nextReady(ECHO)?.messageId, 'a');
  });

  it('a delivery is recorded later; until then nothing is handed out, and it never comes again', async () => {
    await using t = await open();
    const key = await take(t.store, t.store.accept(inbound('a')));
    await take(t.store, t.store.accept(inbound('b')));
    t.store.markDispatching(key);
    t.journal.fails = () => true;
    await assert.rejects(t.store.delivered(key), { code: 'journal.write_failed' });
    assert.equal(t.store.nextReady(ECHO), undefined, 'no more than was in flight is owed');
    const cancelled = t.store.cancel(ECHO, 'a');
    await mend(t);
    assert.equal((await cancelled).kind, 'already-ended', 'it was told once that was sure');
    assert.deepEqual(t.fed, ['b'], 'whoever waits is told');
    assert.equal(t.store.nextReady(ECHO)?.messageId, 'b');
    assert.equal(t.store.accept(inbound('a')).kind, 'duplicate');
    assert.equal(t.store.liveMessages, 1);
  });

  it('an id that was taken up again is not forgotten by the end of another that is recorded later', async () => {
    await using t = await open({ dedupe: { age: 3_600_000, count: 0 } });
    const { store, journal } = t;
    await store.end(await take(store, store.accept(inbound('again'))), 'dead', fell);
    // With each 256th end goes what has left the window.
    for (let n = 2; n < 256; n++) await store.delivered(await take(store, store.accept(inbound(`m${n}`))));
    const last = await take(store, store.accept(inbound('last')));
    journal.fails = () => true;
    await assert.rejects(store.delivered(last), { code: 'journal.write_failed' });
    journal.fails = () => false;
    await take(store, store.accept(inbound('again')));
    await mend(t);
    assert.equal(store.accept(inbound('again')).kind, 'duplicate');
    assert.equal(store.accept(inbound('last')).kind, 'duplicate');
  });

  it('a failed attempt is counted later, and the message comes back', async () => {
    await using t = await open();
    const key = await take(t.store, t.store.accept(inbound('a')));
    t.store.markDispatching(key);
    t.journal.fails = () => true;
    await assert.rejects(t.store.failedAttempt(key, t.clock.now() + 5000));
    await mend(t);
    assert.deepEqual(t.fed, ['a']);
    assert.equal(t.store.inbound(key)?.attempts, 1);
  });

  it('a cancel that could not be recorded is not said to be done before it is', async () => {
    await using t = await open();
    await take(t.store, t.store.accept(inbound('a')));
    t.journal.fails = () => true;
    await assert.rejects(t.store.cancel(ECHO, 'a'), { code: 'journal.write_failed' });
    let isTold = false;
    const again = t.store.cancel(ECHO, 'a').then((cancellation) => {
      isTold = true;
      return cancellation;
    });
    await settle();
    assert.equal(isTold, false);
    await mend(t);
    assert.equal((await again).kind, 'already-ended');
    assert.equal(t.store.accept(inbound('a')).kind, 'duplicate');
  });

  it('a message given up is answered once, later', async () => {
    await using t = await open();
    const key = await take(t.store, t.store.accept(inbound('a')));
    t.journal.fails = () => true;
    await assert.rejects(t.store.end(key, 'dead', fell));
    assert.equal(t.store.nextOutbound('mqtt'), undefined);
    const due = t.store.laneDue.next(new AbortController().signal);
    await mend(t);
    assert.equal(await due, 'mqtt', 'whoever publishes is told');
    const answer = t.store.nextOutbound('mqtt');
    assert.equal(answer?.responseTo, 'a');
    await Promise.all([t.store.endOutbound(answer.key, 'sent'), settle()]);
    assert.equal(t.store.nextOutbound('mqtt'), undefined);
    assert.equal([...t.store.deadLetters()].length, 1);
    assert.equal(t.store.spoolBytes, 0);
  });

  it('a result that was published is not published again, and the next waits for its record', async () => {
    await using t = await open();
    const at = { arrivedAt: t.clock.now() };
    for (const id of ['a', 'b']) {
      const accepted = t.store.acceptResult(result(id, at));
      if (accepted.kind === 'accepted') await accepted.durable;
    }
    const first = t.store.nextOutbound('mqtt');
    assert.equal(first?.messageId, 'a');
    t.store.markSending(first.key);
    t.journal.fails = () => true;
    await assert.rejects(t.store.endOutbound(first.key, 'sent'));
    assert.equal(t.store.nextOutbound('mqtt'), undefined);
    await mend(t);
    assert.equal(t.store.nextOutbound('mqtt')?.messageId, 'b');
  });

  it('a large message leaves no file behind, and what stands behind it goes on', async () => {
    await using t = await open();
    const at = { arrivedAt: t.clock.now() };
    t.journal.fails = isOf('large');
    const large = refusal(t.store.acceptResult(result('large', { ...at, content: LARGE })));
    const small = t.store.acceptResult(result('small', at));
    assert.equal(t.store.nextOutbound('mqtt'), undefined, 'nothing overtakes it');
    if (small.kind === 'accepted') await small.durable;
    await large;
    assert.equal(t.store.nextOutbound('mqtt')?.messageId, 'small');
    await noContent(t);
  });

  it('what waits on disk behind a large message that failed is read', async () => {
    await using t = await open({ window: { records: 1, bytes: Infinity, refill: 0, part: Infinity } });
    const at = { arrivedAt: t.clock.now() };
    const first = t.store.acceptResult(result('first', at));
    if (first.kind === 'accepted') await first.durable;
    t.journal.fails = isOf('large');
    const large = refusal(t.store.acceptResult(result('large', { ...at, content: LARGE })));
    // The end goes with the commit of the small one, in this turn: with that of the large one it would fail, too.
    const ended = first.kind === 'accepted' && t.store.endOutbound(first.key, 'sent');
    const small = t.store.acceptResult(result('small', at));
    if (small.kind === 'accepted') await small.durable;
    await ended;
    await large;
    assert.equal(t.store.nextOutbound('mqtt')?.messageId, 'small');
  });

  for (const part of ['file', 'record'] as const) {
    it(`a message whose ${part} cannot be written takes along those that came behind it: none overtakes it`, async () => {
      await using t = await open();
      const content = join(t.stateDir, 'content');
      // Where the directory is a file, no file can be made in it.
      if (part === 'file') await rm(content, { recursive: true }).then(() => writeFile(content, ''));
      else t.journal.fails = isOf('large');
      const offered = [
        t.store.accept(inbound('large', { content: LARGE })),
        t.store.accept(inbound('small')),
        t.store.accept(inbound('large too', { content: LARGE })),
        t.store.accept(inbound('other', { directive: directive('other') })),
      ];
      const isThere = await Promise.all(offered.map(isDurable));
      assert.deepEqual(isThere, [false, false, false, true]);
      if (part === 'file') await rm(content).then(() => mkdir(content));
      t.journal.fails = () => false;
      for (const [i, message] of [{ content: LARGE }, {}, { content: LARGE }].entries()) {
        await take(t.store, t.store.accept(inbound(`again ${i}`, message)));
      }
      assert.equal(t.store.nextReady(ECHO)?.messageId, 'again 0');
      assert.equal((await readdir(content)).length, 2, 'no file of those that failed is left');
    });
  }

  it('large messages and small ones between them keep the order of arrival', async () => {
    await using t = await open();
    const ids = ['l1', 's1', 'l2', 's2', 's3', 'l3'];
    const more = (id: string): object => (id.startsWith('l') ? { content: LARGE } : {});
    await Promise.all(ids.map((id) => take(t.store, t.store.accept(inbound(id, more(id))))));
    const got: (string | undefined)[] = [];
    for (const _ of ids) {
      const next = t.store.nextReady(ECHO);
      got.push(next?.messageId);
      if (next !== undefined) t.store.markDispatching(next.key);
    }
    assert.deepEqual(got, ids);
  });

  it('a cancel of a message that could not be written waits for it', async () => {
    await using t = await open();
    t.journal.fails = (changes) => changes.some(({ table }) => table === 'records');
    const accepted = t.store.accept(inbound('a'));
    const cancelled = t.store.cancel(ECHO, 'a');
    if (accepted.kind === 'accepted') await assert.rejects(accepted.durable);
    assert.equal((await cancelled).kind, 'kept');
    t.journal.fails = () => false;
    assert.equal(t.store.accept(inbound('a')).kind, 'cancelled');
  });

  it('an owner that could not be written is written at the next try', async () => {
    await using t = await open();
    const worker = workerName('w');
    t.journal.fails = () => true;
    await assert.rejects(t.store.claim(ECHO, worker));
    assert.equal(t.store.ownerOf(ECHO), undefined);
    assert.equal(t.store.isKnown(ECHO), false);
    t.journal.fails = () => false;
    await t.store.claim(ECHO, worker);
    assert.equal(t.journal.get('facts', `owner/${ECHO}`)?.toString(), 'w');
  });
});

describe('a body that was fetched', () => {
  for (const when of ['before its record is written', 'while its record is written'] as const) {
    it(`leaves nothing behind when the message ends ${when}`, async () => {
      await using t = await open();
      const accepted = t.store.accept(inbound('a'));
      const key = await take(t.store, accepted);
      t.store.markFetching(key);
      const content = await t.store.newContentFile().finish([LARGE]);
      let ending: Promise<unknown> = Promise.resolve();
      const end = (): void => {
        ending = t.store.end(key, 'cancelled', { code: 'cancelled', text: 'no more' });
      };
      if (when === 'while its record is written') {
        t.journal.fails = () => {
          t.journal.fails = () => false;
          queueMicrotask(end);
          return false;
        };
      }
      const fetched = t.store.fetched(key, content);
      if (when === 'before its record is written') end();
      await fetched;
      await ending;
      const [answer] = [t.store.nextOutbound('mqtt')];
      if (answer !== undefined) await Promise.all([t.store.endOutbound(answer.key, 'sent'), settle()]);
      await settle();
      assert.deepEqual([...t.journal.range('records', { after: '', before: '~' })], []);
      assert.equal(t.store.spoolBytes, 0);
      await noContent(t);
    });
  }
});

describe('memory', () => {
  it('stays within the limit of a lane when many failed messages are due at once, and order holds', async () => {
    await using t = await open({ window: { records: 8, bytes: Infinity, refill: 2, part: Infinity } });
    const total = 100;
    const accepted = Array.from({ length: total }, (_, i) => t.store.accept(inbound(`m${i}`)));
    for (const each of accepted)
      if (each.kind === 'accepted') await each.durable.then(() => t.store.markReady(each.key));
    const dueAt = t.clock.now() + 5000;
    for (let next = t.store.nextReady(ECHO); next !== undefined; next = t.store.nextReady(ECHO)) {
      t.store.markDispatching(next.key);
      await t.store.failedAttempt(next.key, dueAt);
      await settle();
    }
    await t.clock.advance(5000);
    await t.clock.advance(1000);
    assert.ok(t.store.liveMessages <= 8, `${t.store.liveMessages} are live`);
    const seen: string[] = [];
    for (let next = t.store.nextReady(ECHO); next !== undefined; next = t.store.nextReady(ECHO)) {
      seen.push(next.messageId);
      t.store.markDispatching(next.key);
      void t.store.delivered(next.key);
      await settle();
    }
    assert.deepEqual(
      seen,
      Array.from({ length: total }, (_, i) => `m${i}`),
    );
  });

  it('a body that was fetched counts among the bytes of its lane, and order holds', async () => {
    await using t = await open({ window: { records: 1024, bytes: 10_000, refill: 512, part: 512 } });
    const { store } = t;
    const fetch = async (key: MessageKey): Promise<void> => {
      if (store.inbound(key)?.isFetched === false && store.markFetching(key))
        await store.fetched(key, { kind: 'inline', bytes: Buffer.alloc(1_000) });
    };
    const ids = Array.from({ length: 100 }, (_, n) => `m${n}`);
    const keys = await Promise.all(ids.map((id) => take(store, store.accept(inbound(id)))));
    for (const key of keys) await fetch(key);
    assert.ok(store.liveMessages <= 10, `${store.liveMessages} are live`);
    for (const id of ids) {
      const next = store.nextReady(ECHO);
      assert.equal(next?.messageId, id);
      store.markDispatching(next.key);
      await store.delivered(next.key);
      await settle();
    }
    assert.equal(store.liveMessages + store.spoolBytes, 0);
  });

  it('stays within the bytes of a lane when many come back at once', async () => {
    await using t = await open({ window: { records: 1024, bytes: 10_000, refill: 512, part: 512 } });
    const { store } = t;
    const ids = Array.from({ length: 50 }, (_, n) => `m${n}`);
    const content = Buffer.alloc(1_000);
    await Promise.all(ids.map((id) => take(store, store.accept(inbound(id, { content })))));
    const inFlight: MessageKey[] = [];
    for (const id of ids) {
      const next = store.nextReady(ECHO);
      assert.equal(next?.messageId, id);
      store.markDispatching(next.key);
      inFlight.push(next.key);
      await settle();
    }
    for (const key of inFlight) store.requeue(key);
    assert.ok(store.liveMessages <= 10, `${store.liveMessages} are live`);
    assert.equal(store.nextReady(ECHO)?.messageId, 'm0');
  });

  it('a lane that cannot be read is read again', async () => {
    await using t = await open({ window: { records: 2, bytes: Infinity, refill: 0, part: Infinity } });
    for (const id of ['a', 'b', 'c']) {
      const accepted = t.store.accept(inbound(id));
      if (accepted.kind === 'accepted') await accepted.durable.then(() => t.store.markReady(accepted.key));
    }
    t.journal.cannotRead = () => true;
    for (let next = t.store.nextReady(ECHO); next !== undefined; next = t.store.nextReady(ECHO)) {
      t.store.markDispatching(next.key);
      await t.store.delivered(next.key);
    }
    assert.deepEqual(t.fed, []);
    t.journal.cannotRead = () => false;
    await t.clock.advance(1000);
    assert.deepEqual(t.fed, ['c']);
  });
});
