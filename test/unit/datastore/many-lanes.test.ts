// How many lanes may hold something: what others choose the number of must not fill the memory (CONTRACT 1.15).
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { LmdbJournal, type Acceptance, type Datastore, type ResultAcceptance } from '../../../src/datastore/index.js';
import { WINDOW_LIMITS } from '../../../src/datastore/window.js';
import { directiveKey, type MessageKey, type OutboundRecord } from '../../../src/message/index.js';
import { FakeClock } from '../../support/clock.js';
import { directive, inbound, result, workerName } from '../../support/messages.js';
import { openTestStore } from '../../support/store.js';

const UNKNOWN = 1024;
const URLS = 4096;

function toUnknown(store: Datastore, from: number, to: number): Acceptance[] {
  const offers: Acceptance[] = [];
  for (let i = from; i < to; i++) offers.push(store.accept(inbound(`m${i}`, { directive: directive(`d${i}`) })));
  return offers;
}

function toUrls(store: Datastore, from: number, to: number): ResultAcceptance[] {
  const offers: ResultAcceptance[] = [];
  for (let i = from; i < to; i++) {
    offers.push(store.acceptResult(result(`r${i}`, { directive: `https://host.example/${i}` })));
  }
  return offers;
}

/** What came of offers, once all of them are on stable storage. */
async function tally(offers: readonly (Acceptance | ResultAcceptance)[]): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const offer of offers) {
    if (offer.kind !== 'full') await offer.durable;
    counts[offer.kind] = (counts[offer.kind] ?? 0) + 1;
  }
  return counts;
}

function keysOf(offers: readonly (Acceptance | ResultAcceptance)[]): MessageKey[] {
  return offers.flatMap((offer) => (offer.kind === 'accepted' ? [offer.key] : []));
}

/** The answers in the outbox, taken out of it. */
async function answers(store: Datastore): Promise<(string | undefined)[]> {
  return (await drain(store, ['mqtt'])).map(({ metadata }) => metadata['error-code']);
}

/** What is in these lanes, each of which is empty then. All ends share few commits. */
async function drain(store: Datastore, lanes: readonly string[]): Promise<OutboundRecord[]> {
  const records: OutboundRecord[] = [];
  const ends: Promise<unknown>[] = [];
  for (const lane of lanes) {
    for (let head = store.nextOutbound(lane); head !== undefined; head = store.nextOutbound(lane)) {
      records.push(head);
      store.markSending(head.key);
      ends.push(store.endOutbound(head.key, lane === 'mqtt' ? 'sent' : 'posted'));
    }
  }
  await Promise.all(ends);
  return records;
}

async function endAll(store: Datastore, keys: readonly MessageKey[]): Promise<void> {
  await Promise.all(keys.map((key) => store.end(key, 'dead', { code: 'unroutable', text: 'nobody came' })));
}

describe('messages for directives that nobody ever registered', () => {
  it('wait for so many of them at most; the others are ended at once, each with its answer', async () => {
    const all = 20_000;
    await using t = await openTestStore({ isOnDisk: true });
    const offers = toUnknown(t.store, 0, all);
    assert.deepEqual(await tally(offers), { accepted: UNKNOWN, unroutable: all - UNKNOWN });
    assert.ok(t.store.liveMessages <= UNKNOWN + WINDOW_LIMITS.records, 'those that wait, and one window of answers');
    assert.equal([...t.store.deadLetters()].length, all - UNKNOWN);
    const dead = [...t.store.deadLetters()][0];
    assert.equal(dead?.failure.code, 'unroutable');
    assert.match(dead.failure.text, /1024 such wait/);
  });

  it('are answered, may come again, and find room when others have ended', async () => {
    await using t = await openTestStore();
    const offers = toUnknown(t.store, 0, UNKNOWN + 2);
    assert.deepEqual(await tally(offers), { accepted: UNKNOWN, unroutable: 2 });
    assert.deepEqual(await answers(t.store), ['unroutable', 'unroutable']);
    // One that waits is no stranger: more of its directive joins it.
    const more = t.store.accept(inbound('more', { directive: directive('d0') }));
    assert.deepEqual(await tally([more]), { accepted: 1 });
    assert.deepEqual(await tally(toUnknown(t.store, UNKNOWN, UNKNOWN + 2)), { unroutable: 2 });
    const [refused] = [...t.store.deadLetters()];
    assert.equal((await t.store.replay(refused!.key)).kind, 'not-replayable');
    await endAll(t.store, keysOf(offers).slice(1));
    const again = toUnknown(t.store, UNKNOWN, 2 * UNKNOWN);
    assert.deepEqual(await tally(again), { accepted: UNKNOWN - 1, unroutable: 1 });
    await endAll(t.store, keysOf([...offers, more, ...again]));
    await answers(t.store);
    assert.equal(t.store.liveMessages, 0);
    assert.deepEqual(await tally(toUnknown(t.store, 10_000, 10_000 + UNKNOWN)), { accepted: UNKNOWN });
  });

  it('take no place of those that are registered, nor they of them', async () => {
    await using t = await openTestStore();
    await t.store.claim(directiveKey(directive('known')), workerName('w'));
    for (const priority of [3, 5]) {
      await tally([t.store.accept(inbound(`k${priority}`, { directive: directive('known'), priority }))]);
    }
    assert.deepEqual(await tally(toUnknown(t.store, 0, UNKNOWN + 1)), { accepted: UNKNOWN, unroutable: 1 });
    const known = t.store.accept(inbound('k9', { directive: directive('known'), priority: 9 }));
    assert.deepEqual(await tally([known]), { accepted: 1 });
    // A worker comes for one of them: its place is free.
    await t.store.claim(directiveKey(directive('d0')), workerName('w'));
    assert.deepEqual(await tally(toUnknown(t.store, UNKNOWN + 1, UNKNOWN + 3)), { accepted: 1, unroutable: 1 });
  });

  it('of which more are on disk than may wait all end, and no more come in before', async () => {
    const clock = new FakeClock();
    const at = { arrivedAt: clock.now() };
    await using first = await openTestStore({ isOnDisk: true, clock });
    const count = UNKNOWN + 500;
    const directives = Array.from({ length: count }, (_, i) => directiveKey(directive(`d${i}`)));
    await Promise.all(directives.map((key) => first.store.claim(key, workerName('w'))));
    const offers = Array.from({ length: count }, (_, i) =>
      first.store.accept(inbound(`m${i}`, { ...at, directive: directive(`d${i}`) })),
    );
    assert.deepEqual(await tally(offers), { accepted: count });
    await first.store.close();
    // As an older version has left it, which had no bound.
    const journal = new LmdbJournal(join(first.stateDir, 'journal'));
    await journal.open();
    await journal.commit(
      Array.from({ length: count }, (_, i) => ({ table: 'facts', key: `owner/d${i}`, value: undefined })),
    );
    await journal.close();
    await using second = await openTestStore({ isOnDisk: true, clock, stateDir: first.stateDir, isHeld: true });
    const { store } = second;
    store.lapsed.connect((key) => {
      void store.end(key, 'dead', { code: 'unroutable', text: 'nobody came' });
    }, new AbortController().signal);
    store.resume();
    assert.deepEqual(await tally(toUnknown(store, count, count + 1)), { unroutable: 1 });
    for (let i = 0; i < 3; i++) {
      await clock.advance(60_000);
      await store.probe();
    }
    assert.equal([...store.deadLetters()].length, count + 1);
    assert.deepEqual(await tally(toUnknown(store, count + 1, count + 2)), { accepted: 1 });
  });

  it('keep what is large in a file, which goes with the dead letter', async () => {
    // Room for one of them.
    await using t = await openTestStore({ dead: { bytes: 150_000, age: 3_600_000 } });
    await tally(toUnknown(t.store, 0, UNKNOWN));
    const content = Buffer.alloc(100_000, 7);
    const onlyFile = async (): Promise<string> => {
      const [letter] = [...t.store.deadLetters()];
      assert.ok(letter?.content.kind === 'file');
      assert.deepEqual(await t.store.readContent(letter.content), content);
      // A file is deleted behind the back of whoever threw its message away.
      const directory = join(t.stateDir, 'content');
      while ((await readdir(directory)).length > 1) await t.store.probe();
      return letter.content.path;
    };
    await tally([t.store.accept(inbound('large', { directive: directive('one-more'), content }))]);
    const first = await onlyFile();
    await t.store.bury({ failure: { code: 'malformed', text: 'it is no JSON' }, content, arrivedAt: 0 });
    while ([...t.store.deadLetters()].length > 1) await t.store.probe();
    assert.notEqual(await onlyFile(), first);
  });
});

describe('results for URLs', () => {
  it('wait for so many URLs at most; one more is refused, and nothing that was accepted is lost', async () => {
    await using t = await openTestStore({ isOnDisk: true });
    // What goes over MQTT takes no place.
    await tally([t.store.acceptResult(result('mqtt'))]);
    const offers = toUrls(t.store, 0, 10_000);
    assert.deepEqual(await tally(offers), { accepted: URLS, full: 10_000 - URLS });
    assert.deepEqual(offers.at(-1), { kind: 'full', lacks: 'destinations' });
    assert.equal(t.store.liveMessages, URLS + 1);
    const more = t.store.acceptResult(result('more', { directive: 'https://host.example/0' }));
    assert.deepEqual(await tally([more, t.store.acceptResult(result('mqtt too'))]), { accepted: 2 });
    const lanes = t.store.backlogLanes().filter((lane) => lane !== 'mqtt');
    const ids = (await drain(t.store, lanes)).map(({ messageId }) => messageId);
    const expected = [...Array.from({ length: URLS }, (_, i) => `r${i}`), 'more'];
    assert.deepEqual(ids.toSorted(), expected.toSorted());
    assert.deepEqual(t.store.backlogLanes(), ['mqtt']);
    assert.deepEqual(await tally(toUrls(t.store, 5000, 5000 + URLS + 1)), { accepted: URLS, full: 1 });
  });

  it('that are dead go out anew only where there is a place', async () => {
    await using t = await openTestStore();
    const [key] = keysOf([...toUrls(t.store, 0, 1)]);
    await t.store.probe();
    await t.store.endOutbound(key!, 'dead');
    const others = toUrls(t.store, 1, URLS + 1);
    assert.deepEqual(await tally(others), { accepted: URLS });
    assert.deepEqual(await t.store.replay(key!), { kind: 'full' });
    await t.store.endOutbound(keysOf(others)[0]!, 'posted');
    assert.equal((await t.store.replay(key!)).kind, 'replayed');
  });
});
