// Dead messages are given another chance, and what is kept of them is bounded.
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { MemoryJournal, type Acceptance, type Datastore, type Replay } from '../../../src/datastore/index.js';
import { directiveKey, metadataFrom, type MessageKey } from '../../../src/message/index.js';
import { FakeClock, settle } from '../../support/clock.js';
import { FaultyJournal } from '../../support/faulty-journal.js';
import { recordingLog, type RecordingLog } from '../../support/log.js';
import { directive, inbound, result } from '../../support/messages.js';
import { openTestStore, type StoreSettings } from '../../support/store.js';

const ECHO = directiveKey(directive('echo'));
const LARGE = Buffer.alloc(70_000, 1);
const DAY = 24 * 3600_000;
const fell = { code: 'worker-failed', text: 'it fell' } as const;

interface Scene extends AsyncDisposable {
  readonly store: Datastore;
  readonly stateDir: string;
  readonly journal: FaultyJournal;
  readonly clock: FakeClock;
  readonly log: RecordingLog;
}

async function open(settings: StoreSettings = {}): Promise<Scene> {
  const journal = new FaultyJournal(new MemoryJournal());
  const clock = new FakeClock();
  const log = recordingLog();
  const opened = await openTestStore({ journal, clock, log, ...settings });
  const { store, stateDir } = opened;
  store.fed.connect((key) => store.markReady(key), new AbortController().signal);
  return { store, stateDir, journal, clock, log, [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose]() };
}

async function take(store: Datastore, acceptance: Acceptance): Promise<MessageKey> {
  if (acceptance.kind !== 'accepted') throw new Error(`it is ${acceptance.kind}`);
  await acceptance.durable;
  store.markReady(acceptance.key);
  return acceptance.key;
}

async function die(store: Datastore, ...message: Parameters<typeof inbound>): Promise<MessageKey> {
  const key = await take(store, store.accept(inbound(...message)));
  await store.end(key, 'dead', fell);
  return key;
}

async function replayed(replay: Promise<Replay>): Promise<MessageKey> {
  const outcome = await replay;
  if (outcome.kind !== 'replayed') assert.fail(`it is ${outcome.kind}`);
  await settle();
  return outcome.key;
}

const files = (t: Scene): Promise<string[]> => readdir(join(t.stateDir, 'content'));

describe('a replay of a dead message', () => {
  it('makes a new record, whose attempts and lifetime begin anew and which heeds no expires', async () => {
    await using t = await open();
    const { store, clock } = t;
    const replyTopic = { kind: 'topic' as const, topic: 'yggdrasil/c1/replies', correlationData: Buffer.from('c') };
    const metadata = metadataFrom([
      ['expires', '2026-01-01T00:01:00Z'],
      ['priority', '9'],
    ]);
    const message = { metadata, replyTopic, priority: 9, expiresAt: clock.now() + 60_000, responseTo: 'r' };
    const first = await take(store, store.accept(inbound('a', message)));
    store.markDispatching(first);
    await store.failedAttempt(first, clock.now() + 1000);
    await clock.advance(1000);
    await store.end(first, 'dead', fell);
    await clock.advance(DAY);
    const key = await replayed(store.replay(first));
    const record = store.nextReady(ECHO);
    assert.equal(record?.key, key);
    const { replayOf, attempts, arrivedAt, expiresAt, priority, responseTo, messageId } = record;
    assert.deepEqual(
      { replayOf, attempts, arrivedAt, expiresAt, priority, responseTo, messageId, replyTopic: record.replyTopic },
      {
        ...{ replayOf: first, attempts: 0, arrivedAt: clock.now(), expiresAt: undefined, priority: 9 },
        ...{ responseTo: 'r', messageId: 'a', replyTopic },
      },
    );
    assert.deepEqual([...store.deadLetters()], [], 'it is in one place only');
    assert.equal(store.accept(inbound('a')).kind, 'duplicate');
    assert.equal((await store.replay(first)).kind, 'unknown');
  });

  it('counts a ttl from now on, since that is about how long it may wait', async () => {
    await using t = await open();
    const key = await die(t.store, 'a', { metadata: metadataFrom([['ttl', '60']]) });
    await t.clock.advance(DAY);
    await replayed(t.store.replay(key));
    assert.equal(t.store.nextReady(ECHO)?.expiresAt, t.clock.now() + 60_000);
  });

  it('takes its content file over, which then ends with it', async () => {
    await using t = await open({ dead: { bytes: 200_000, age: 30 * DAY } });
    const key = await die(t.store, 'a', { content: LARGE });
    const again = await replayed(t.store.replay(key));
    // Enough of them that the oldest dead ones go.
    for (const id of ['b', 'c', 'd', 'e']) await die(t.store, id, { content: LARGE });
    await t.store.probe();
    await settle();
    assert.deepEqual(
      [...t.store.deadLetters()].map(({ messageId }) => messageId),
      ['d', 'e'],
    );
    const record = t.store.inbound(again);
    assert.deepEqual(await t.store.readContent(record!.content), LARGE);
    await t.store.delivered(again);
    while ((await files(t)).length > 2) await settle();
  });

  it('that dies again is a dead letter again, and may be replayed again', async () => {
    await using t = await open();
    const first = await die(t.store, 'a', { content: LARGE });
    const second = await replayed(t.store.replay(first));
    await t.store.end(second, 'dead', fell);
    assert.deepEqual(
      [...t.store.deadLetters()].map(({ key }) => key),
      [second],
    );
    await replayed(t.store.replay(second));
    assert.deepEqual(await t.store.readContent(t.store.nextReady(ECHO)!.content), LARGE);
  });

  it('is one commit: when it fails, all is as it was', async () => {
    await using t = await open();
    const key = await die(t.store, 'a', { content: LARGE });
    t.journal.fails = () => true;
    const replay = t.store.replay(key);
    await assert.rejects(replay, { code: 'journal.write_failed' });
    t.journal.fails = () => false;
    assert.equal([...t.store.deadLetters()].length, 1);
    assert.equal((await files(t)).length, 1);
    await replayed(t.store.replay(key));
    assert.equal(t.store.nextReady(ECHO)?.messageId, 'a');
  });

  it('is not made twice when it is asked for twice at once', async () => {
    await using t = await open();
    const key = await die(t.store, 'a');
    const both = await Promise.all([t.store.replay(key), t.store.replay(key)]);
    assert.deepEqual(both.map(({ kind }) => kind).sort(), ['replayed', 'unknown']);
  });

  it('is refused while the same message is in the queue, and after it ended otherwise', async () => {
    await using t = await open();
    const dead = await die(t.store, 'a');
    const anew = await take(t.store, t.store.accept(inbound('a')));
    assert.deepEqual(await t.store.replay(dead), { kind: 'pending' });
    await t.store.delivered(anew);
    assert.deepEqual(await t.store.replay(dead), { kind: 'superseded', end: 'delivered' });
    assert.equal([...t.store.deadLetters()].length, 1);
  });

  it('is refused when it never was a message, when nothing has that key, and when there is no room', async () => {
    await using t = await open({ spool: { limit: 100_000, reserve: 0 } });
    const refused = {
      failure: { code: 'malformed', text: 'no JSON' } as const,
      content: Buffer.from('x'),
      arrivedAt: 0,
    };
    await t.store.bury(refused);
    const [letter] = [...t.store.deadLetters()];
    assert.equal((await t.store.replay(letter!.key)).kind, 'not-replayable');
    assert.deepEqual(await t.store.replay((letter!.key + 100) as MessageKey), { kind: 'unknown' });
    const dead = await die(t.store, 'a');
    await take(t.store, t.store.accept(inbound('b', { content: Buffer.alloc(60_000) })));
    await take(t.store, t.store.accept(inbound('c', { content: Buffer.alloc(60_000) })));
    assert.deepEqual(await t.store.replay(dead), { kind: 'full' });
  });

  it('of a result sends it to where it was going, and a repeat from the worker stays a repeat', async () => {
    await using t = await open();
    const { store } = t;
    const content = LARGE;
    const accepted = store.acceptResult(result('r', { directive: 'https://host.example/x', content }));
    if (accepted.kind !== 'accepted') assert.fail(accepted.kind);
    await accepted.durable;
    await store.endOutbound(accepted.key, 'dead', { code: 'unroutable', text: '404' });
    const due = store.laneDue.next(new AbortController().signal);
    const key = await replayed(store.replay(accepted.key));
    const lane = await due;
    const record = store.nextOutbound(lane);
    assert.deepEqual([record?.key, record?.replayOf, record?.attempts], [key, accepted.key, 0]);
    assert.deepEqual(record?.destination, { kind: 'url', url: 'https://host.example/x' });
    assert.deepEqual(await store.readContent(record.content), LARGE);
    assert.equal(store.acceptResult(result('r', { directive: 'https://host.example/x', content })).kind, 'duplicate');
    await store.endOutbound(key, 'posted');
    assert.equal(store.acceptResult(result('r', { directive: 'https://host.example/x', content })).kind, 'duplicate');
    assert.equal(store.spoolBytes, 0);
  });

  it('of an error answer of the agent itself is published', async () => {
    await using t = await open();
    const { store } = t;
    await die(store, 'a');
    const answer = store.nextOutbound('mqtt');
    await store.endOutbound(answer!.key, 'dead', { code: 'expired', text: 'too old' });
    await replayed(store.replay(answer!.key));
    assert.equal(store.nextOutbound('mqtt')?.responseTo, 'a');
  });

  it('survives a restart', async () => {
    await using first = await open();
    const key = await die(first.store, 'a');
    await replayed(first.store.replay(key));
    await first.store.close();
    await using second = await open({ journal: first.journal, stateDir: first.stateDir, isHeld: true });
    second.store.resume();
    await settle();
    assert.equal(second.store.nextReady(ECHO)?.replayOf, key);
  });
});

describe('dead messages', () => {
  it('go after their time though no new one comes', async () => {
    await using t = await open();
    for (let i = 0; i < 600; i++) await die(t.store, `m${i}`, i === 0 ? { content: LARGE } : {});
    t.clock.step(29 * DAY);
    await t.clock.advance(3600_000);
    assert.equal([...t.store.deadLetters()].length, 600);
    t.clock.step(DAY);
    await t.clock.advance(3600_000);
    assert.equal([...t.store.deadLetters()].length, 0);
    assert.equal((await t.log.line('dead.pruned')).level, 'warn');
    while ((await files(t)).length > 0) await settle();
  });

  it('stay within their bytes, and keep their files when that cannot be recorded', async () => {
    await using t = await open({ dead: { bytes: 100_000, age: 30 * DAY } });
    await die(t.store, 'a', { content: LARGE });
    t.journal.fails = (changes) => changes.some(({ table, value }) => table === 'dead' && value === undefined);
    await die(t.store, 'b', { content: LARGE });
    await t.log.line('dead.not_pruned');
    assert.equal((await files(t)).length, 2);
    t.journal.fails = () => false;
    await die(t.store, 'c', { content: LARGE });
    await t.log.line('dead.pruned');
    assert.deepEqual(
      [...t.store.deadLetters()].map(({ messageId }) => messageId),
      ['c'],
    );
    while ((await files(t)).length > 1) await settle();
  });
});
