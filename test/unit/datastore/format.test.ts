// A store of an older format is brought up to date with all that is in it; one of a newer format is refused.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { crc32 } from 'node:zlib';
import { MemoryJournal, type Change, type Journal } from '../../../src/datastore/index.js';
import { END } from '../../../src/datastore/journal.js';
import { padded } from '../../../src/datastore/keys.js';
import { directiveKey } from '../../../src/message/index.js';
import { FakeClock, settle } from '../../support/clock.js';
import { FaultyJournal } from '../../support/faulty-journal.js';
import { directive, inbound, result } from '../../support/messages.js';
import { openTestStore } from '../../support/store.js';
import { tempDir } from '../../support/temp.js';

const ECHO = directiveKey(directive('echo'));

/** The bytes of a record as format 1 wrote them. */
function written(header: object, content: Buffer): Buffer {
  const json = Buffer.from(JSON.stringify(header));
  const bytes = Buffer.alloc(16 + json.length + content.length);
  bytes.writeUInt32LE(json.length, 4);
  json.copy(bytes, 16);
  content.copy(bytes, 16 + json.length);
  bytes.writeUInt32LE(crc32(bytes.subarray(4)), 0);
  return bytes;
}

function putRecord(table: Change['table'], key: string, header: object, content = '"body"'): Change {
  return { table, key, value: written(header, Buffer.from(content)) };
}

/** A queue, dead letters and known ids, as version 0.1.0 left them. */
async function writeFormatOne(journal: Journal, dead: number): Promise<void> {
  const changes: Change[] = [
    { table: 'facts', key: 'format', value: Buffer.from('1') },
    { table: 'facts', key: 'sequence', value: Buffer.from('4097') },
    { table: 'facts', key: 'owner/echo', value: Buffer.from('echo-worker') },
  ];
  for (let key = 1; key <= 3; key++) {
    const path = `i/echo/4/${padded(key)}`;
    const header = { kind: 'inbound', key, state: 'accepted', messageId: `m${key}`, responseTo: '', directive: 'echo' };
    const rest = { directiveKey: 'echo', isFetched: false, priority: 5, arrivedAt: 1_767_225_600_000, attempts: 0 };
    changes.push(putRecord('records', path, { ...header, ...rest, fetches: 0, dueAt: 0, metadata: [] }), {
      table: 'ids',
      key: `i/echo/m${key}`,
      value: Buffer.from(JSON.stringify({ r: path, k: key })),
    });
  }
  const answer = {
    kind: 'outbound',
    key: 4,
    state: 'queued',
    worker: 'echo-worker',
    messageId: 'r4',
    responseTo: 'm0',
  };
  const rest = { directive: 'echo', destination: { kind: 'data-out' }, arrivedAt: 1_767_225_600_000, attempts: 0 };
  changes.push(putRecord('records', `o/mqtt/${padded(4)}`, { ...answer, ...rest, dueAt: 0, metadata: [] }));
  for (let key = 10; key < 10 + dead; key++) {
    const failure = { code: 'worker-failed', text: 'it fell' };
    const header = {
      kind: 'dead',
      key,
      direction: 'inbound',
      endedAt: 1_767_225_600_000,
      failure,
      messageId: `d${key}`,
    };
    changes.push(putRecord('dead', padded(key), { ...header, directive: 'echo', metadata: [['a', 'b']] }));
  }
  await journal.open();
  await journal.commit(changes);
  await journal.close();
}

async function formatOf(journal: Journal): Promise<string | undefined> {
  await journal.open();
  const format = journal.get('facts', 'format')?.toString();
  const isTold = [...journal.range('dead', { after: '', before: END })].every(([, bytes]) => bytes.includes('origin'));
  await journal.close();
  return `${format} ${isTold}`;
}

describe('a store of format 1', () => {
  it('comes through with its queue, its results, its ids and its dead letters', async () => {
    await using dir = await tempDir();
    const journal = new MemoryJournal();
    await writeFormatOne(journal, 600);
    {
      await using test = await openTestStore({ journal, stateDir: dir.path, clock: new FakeClock(), isHeld: true });
      const { store } = test;
      store.fed.connect((key) => store.markReady(key), new AbortController().signal);
      store.resume();
      await settle();
      assert.equal(store.accept(inbound('m2')).kind, 'duplicate');
      for (const id of ['m1', 'm2', 'm3']) {
        const record = store.nextReady(ECHO);
        assert.equal(record?.messageId, id);
        assert.deepEqual(record.content, { kind: 'inline', bytes: Buffer.from('"body"') });
        store.markDispatching(record.key);
        await store.delivered(record.key);
      }
      const sent = store.nextOutbound('mqtt');
      assert.deepEqual([sent?.messageId, sent?.replayOf], ['r4', undefined]);
      await store.endOutbound(sent!.key, 'sent');
      const letters = [...store.deadLetters()];
      assert.deepEqual([letters.length, letters[0]?.messageId, letters[0]?.origin], [600, 'd10', { kind: 'unknown' }]);
      const replay = await store.replay(letters[0]!.key);
      assert.match(replay.kind === 'not-replayable' ? replay.reason : '', /older version/);
      assert.equal(store.spoolBytes, 0);
    }
    assert.equal(await formatOf(journal), '2 true');
  });

  it('that was left in the middle of its upgrade is upgraded at the next start', async () => {
    await using dir = await tempDir();
    const journal = new FaultyJournal(new MemoryJournal());
    await writeFormatOne(journal, 600);
    for (let commits = 0; commits < 3; commits++) {
      let left = commits;
      journal.fails = () => left-- <= 0;
      await assert.rejects(openTestStore({ journal, stateDir: dir.path }), { code: 'journal.write_failed' });
      assert.equal(await formatOf(journal), '1 false');
    }
    journal.fails = () => false;
    await using test = await openTestStore({ journal, stateDir: dir.path });
    assert.equal([...test.store.deadLetters()].length, 600);
  });
});

describe('a store of another format', () => {
  for (const format of ['3', '0', 'x', '1.5']) {
    it(`"${format}" is refused, and not touched`, async () => {
      await using dir = await tempDir();
      const journal = new MemoryJournal();
      await journal.open();
      await journal.commit([{ table: 'facts', key: 'format', value: Buffer.from(format) }]);
      await assert.rejects(openTestStore({ journal, stateDir: dir.path }), {
        code: 'state.version',
        message: /has format .*; this version reads format 2 and older\. Install the version that wrote it/,
      });
      await journal.open();
      assert.equal([...journal.range('facts', { after: '', before: END })].length, 1);
    });
  }

  it('is told what a new one is, so that an older version refuses it', async () => {
    await using dir = await tempDir();
    const journal = new MemoryJournal();
    {
      await using test = await openTestStore({ journal, stateDir: dir.path });
      const accepted = test.store.acceptResult(result('r'));
      if (accepted.kind === 'accepted') await accepted.durable;
    }
    assert.equal(await formatOf(journal), '2 true');
  });
});
