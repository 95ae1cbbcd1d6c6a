// A store of an older format is brought up to date with all that is in it; one of a newer format is refused.
import assert from 'node:assert/strict';
import { copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { LmdbJournal, MemoryJournal, type Journal } from '../../../src/datastore/index.js';
import { FORMAT } from '../../../src/datastore/format.js';
import { END } from '../../../src/datastore/journal.js';
import { LmdbTables } from '../../../src/datastore/lmdb-tables.js';
import { silentLog } from '../../../src/log/log.js';
import { directiveKey } from '../../../src/message/index.js';
import { FakeClock, settle } from '../../support/clock.js';
import { FaultyJournal } from '../../support/faulty-journal.js';
import { writeFormatOne } from '../../support/format-one.js';
import { directive, inbound, result } from '../../support/messages.js';
import { openTestStore } from '../../support/store.js';
import { tempDir } from '../../support/temp.js';

const ECHO = directiveKey(directive('echo'));

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
    assert.equal(await formatOf(journal), '6 true');
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
  for (const format of ['7', '0', 'x', '1.5']) {
    it(`"${format}" is refused, and not touched`, async () => {
      await using dir = await tempDir();
      const journal = new MemoryJournal();
      await journal.open();
      await journal.commit([{ table: 'facts', key: 'format', value: Buffer.from(format) }]);
      await assert.rejects(openTestStore({ journal, stateDir: dir.path }), {
        code: 'state.version',
        message: /has format .*; this version reads format 6 and older\. Install the version that wrote it/,
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
    assert.equal(await formatOf(journal), '6 true');
  });
});

describe('the format of this version', () => {
  it('stands in the tables when the store is open, where an older version looks for it', async () => {
    for (const older of [undefined, '3']) {
      await using dir = await tempDir();
      const path = join(dir.path, 'journal');
      if (older !== undefined) {
        const tables = new LmdbTables(path, silentLog);
        await tables.open();
        await tables.write([{ table: 'facts', key: 'format', value: Buffer.from(older) }]);
        await tables.close();
      }
      await using test = await openTestStore({ journal: new LmdbJournal(path), stateDir: dir.path });
      assert.equal(test.store.liveMessages, 0);
      // As a kill would leave it, without the log that an older version does not know.
      const copy = join(dir.path, 'copy');
      await mkdir(copy);
      await copyFile(join(path, 'data.mdb'), join(copy, 'data.mdb'));
      const tables = new LmdbTables(copy, silentLog);
      await tables.open();
      assert.equal(tables.get('facts', 'format')?.toString(), String(FORMAT));
      await tables.close();
    }
  });
});
