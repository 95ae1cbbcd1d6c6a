// What the journal cannot read any more: a torn record, an id with nothing behind it, content that is gone.
import assert from 'node:assert/strict';
import { readdir, truncate, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { MemoryJournal, type Acceptance, type Change, type Datastore } from '../../../src/datastore/index.js';
import { END, type OrderedTable } from '../../../src/datastore/journal.js';
import { directiveKey, type MessageKey } from '../../../src/message/index.js';
import { FakeClock, settle } from '../../support/clock.js';
import { FaultyJournal } from '../../support/faulty-journal.js';
import { recordingLog } from '../../support/log.js';
import { directive, inbound, result } from '../../support/messages.js';
import { openTestStore, type TestStore } from '../../support/store.js';
import { tempDir } from '../../support/temp.js';

const ECHO = directiveKey(directive('echo'));
const LARGE = Buffer.alloc(70_000, 1);

async function take(store: Datastore, acceptance: Acceptance): Promise<MessageKey> {
  if (acceptance.kind !== 'accepted') throw new Error(`it is ${acceptance.kind}`);
  await acceptance.durable;
  store.markReady(acceptance.key);
  return acceptance.key;
}

/** Flips a bit of the `index`th entry of a table, behind everybody's back. */
async function flip(journal: MemoryJournal, table: OrderedTable, index: number): Promise<string> {
  const entry = [...journal.range(table, { after: '', before: END })][index];
  if (entry === undefined) throw new Error('there is no such entry');
  const [key, bytes] = entry;
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  await journal.commit([{ table, key, value: bytes }]);
  return key;
}

const count = (journal: MemoryJournal, table: Change['table']): number => journal.count(table);

interface Scene {
  readonly journal: MemoryJournal;
  readonly log: ReturnType<typeof recordingLog>;
  readonly clock: FakeClock;
  readonly open: () => Promise<TestStore>;
}

function scene(stateDir: string): Scene {
  const journal = new MemoryJournal();
  const log = recordingLog();
  const clock = new FakeClock();
  return {
    journal,
    log,
    clock,
    open: async () => {
      const opened = await openTestStore({ stateDir, journal, log, clock, isHeld: true });
      opened.store.fed.connect((key) => opened.store.markReady(key), new AbortController().signal);
      opened.store.resume();
      return opened;
    },
  };
}

const torn = (log: Scene['log']): unknown[] =>
  log.lines.filter(({ event }) => event === 'journal.torn').map(({ fields }) => fields['key']);

describe('a record whose bytes were flipped', () => {
  it('is named once, put aside for a person to look at, and the same message is accepted anew', async () => {
    await using dir = await tempDir();
    const { journal, log, open } = scene(dir.path);
    {
      await using test = await open();
      for (const id of ['a', 'b', 'c']) await take(test.store, test.store.accept(inbound(id)));
      await test.store.close();
      await journal.open();
      await flip(journal, 'records', 1);
      await journal.close();
    }
    for (let start = 0; start < 2; start++) {
      await using test = await open();
      await test.store.probe();
      assert.equal(torn(log).length, 1, 'also after another start');
      const [record] = [...test.store.tornRecords()];
      assert.equal(record?.table, 'records');
      assert.equal(record.key, torn(log)[0]);
      assert.equal(count(journal, 'records'), 2);
    }
    await using test = await open();
    assert.equal(test.store.accept(inbound('a')).kind, 'duplicate');
    const again = await take(test.store, test.store.accept(inbound('b')));
    assert.deepEqual([test.store.inbound(again)?.messageId, test.store.spoolBytes > 0], ['b', true]);
  });

  it('while the agent runs is put aside when it is met', async () => {
    await using dir = await tempDir();
    const { journal, log, clock, open } = scene(dir.path);
    await using test = await open();
    const { store } = test;
    const key = await take(store, store.accept(inbound('a')));
    store.markDispatching(key);
    await store.failedAttempt(key, clock.now() + 5000);
    await flip(journal, 'records', 0);
    const again = store.accept(inbound('a'));
    assert.equal(again.kind, 'accepted', 'nothing is behind its id any more');
    await store.probe();
    await clock.advance(10_000);
    assert.equal(torn(log).length, 1);
    assert.equal([...store.tornRecords()].length, 1);
    assert.equal(store.nextReady(ECHO)?.messageId ?? 'none', 'none');
  });

  it('that is a result is accepted anew from its worker', async () => {
    await using dir = await tempDir();
    const { journal, open } = scene(dir.path);
    {
      await using test = await open();
      const first = test.store.acceptResult(result('r'));
      if (first.kind === 'full') assert.fail('there is room');
      await first.durable;
      await test.store.close();
      await journal.open();
      await flip(journal, 'records', 0);
      await journal.close();
    }
    await using test = await open();
    assert.equal(test.store.acceptResult(result('r')).kind, 'accepted');
  });

  it('that is a dead letter is put aside too, and the room it took is counted no more', async () => {
    await using dir = await tempDir();
    const { journal, log, open } = scene(dir.path);
    {
      await using test = await open();
      const key = await take(test.store, test.store.accept(inbound('a')));
      await test.store.end(key, 'dead', { code: 'worker-failed', text: 'it fell' });
      await test.store.close();
      await journal.open();
      await flip(journal, 'dead', 0);
      await journal.close();
    }
    await using test = await open();
    assert.equal(torn(log).length, 1);
    assert.deepEqual([...test.store.deadLetters()], []);
    assert.equal([...test.store.tornRecords()][0]?.table, 'dead');
  });

  it('stays where it is when the disk is full, and no more than the newest are kept', async () => {
    await using dir = await tempDir();
    const inner = new MemoryJournal();
    const log = recordingLog();
    const settings = { stateDir: dir.path, log };
    await inner.open();
    const junk = Array.from({ length: 300 }, (_, i): Change => {
      return { table: 'records', key: `i/echo/4/${i.toString(36).padStart(11, '0')}`, value: Buffer.from('junk') };
    });
    await inner.commit(junk);
    const journal = new FaultyJournal(inner);
    journal.fails = (changes) => changes.some(({ table }) => table === 'torn');
    {
      await using _test = await openTestStore({ ...settings, journal });
      assert.equal(count(inner, 'records'), 300);
    }
    journal.fails = () => false;
    await using _test = await openTestStore({ ...settings, journal });
    assert.deepEqual([count(inner, 'records'), count(inner, 'torn')], [0, 256]);
    await log.line('torn.pruned');
  });

  it('in what is known of an id counts as unknown', async () => {
    await using dir = await tempDir();
    const { journal, open } = scene(dir.path);
    await using test = await open();
    const key = await take(test.store, test.store.accept(inbound('a')));
    await flip(journal, 'ids', 0);
    assert.equal(test.store.accept(inbound('a')).kind, 'accepted');
    await test.store.delivered(key);
    await journal.commit([{ table: 'past', key: 'i/echo/a', value: Buffer.from('{"e":"deliv') }]);
    assert.equal(test.store.accept(inbound('a')).kind, 'accepted');
  });
});

describe('a message whose content file', () => {
  for (const [name, damage] of [
    ['is gone', (path: string) => unlink(path)],
    ['was cut off', (path: string) => truncate(path, 100)],
  ] as const) {
    it(`${name} is dead at the start, answered, and holds up nothing`, async () => {
      await using dir = await tempDir();
      const { open, log } = scene(dir.path);
      {
        await using test = await open();
        await take(test.store, test.store.accept(inbound('a', { content: LARGE })));
        await take(test.store, test.store.accept(inbound('b')));
        const sent = test.store.acceptResult(result('r', { content: LARGE }));
        if (sent.kind === 'accepted') await sent.durable;
      }
      const content = join(dir.path, 'content');
      for (const file of await readdir(content)) await damage(join(content, file));
      await using test = await open();
      await settle();
      const { store } = test;
      assert.deepEqual([...store.deadLetters()].map(({ messageId, failure }) => [messageId, failure.code]).sort(), [
        ['a', 'worker-failed'],
        ['r', 'worker-failed'],
      ]);
      assert.equal(store.nextReady(ECHO)?.messageId, 'b');
      assert.equal(store.nextOutbound('mqtt')?.responseTo, 'a');
      assert.equal(log.lines.filter(({ event }) => event === 'content.lost').length, 2);
      const dead = [...store.deadLetters()][0];
      assert.equal((await store.replay(dead!.key)).kind, 'not-replayable');
    });
  }

  it('has the wrong size is not handed out as if it were whole', async () => {
    await using dir = await tempDir();
    const { open } = scene(dir.path);
    await using test = await open();
    const key = await take(test.store, test.store.accept(inbound('a', { content: LARGE })));
    const content = test.store.inbound(key)?.content;
    if (content?.kind !== 'file') assert.fail('it stands in a file');
    await truncate(content.path, 100);
    await assert.rejects(test.store.readContent(content), /100 bytes instead of 70000/);
  });
});
