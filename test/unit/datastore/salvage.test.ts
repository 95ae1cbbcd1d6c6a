/** What a store that is made anew from its lost pages still knows of itself. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { LmdbJournal, type Journal } from '../../../src/datastore/index.js';
import { END } from '../../../src/datastore/journal.js';
import { tempDir } from '../../support/temp.js';
import { inbound } from '../../support/messages.js';
import { openTestStore, take, type TestStore } from '../../support/store.js';

const PAGE = 4096;

/** The names of all tables stand in one page. */
function loseTables(file: string): void {
  const bytes = readFileSync(file);
  for (let at = 2 * PAGE; at < bytes.length; at += PAGE)
    if (bytes.subarray(at, at + PAGE).includes('torn\0')) bytes.fill(0xff, at, at + PAGE);
  writeFileSync(file, bytes);
}

test('the facts are found in a page that nothing leads to any more', async () => {
  await using dir = await tempDir();
  {
    await using opened = await openTestStore({ stateDir: dir.path, isOnDisk: true });
    const accepted = opened.store.accept(inbound('id'));
    assert.ok(accepted.kind === 'accepted');
    await accepted.durable;
  }
  const path = join(dir.path, 'journal');
  const before = new LmdbJournal(path);
  await before.open();
  await before.commit([{ table: 'facts', key: 'results-by-sha256', value: '1' }]);
  const facts = ['format', 'content-key', 'results-by-sha256'].map((key) => before.get('facts', key)?.toString());
  await before.close();
  loseTables(join(path, 'data.mdb'));
  const after = new LmdbJournal(path);
  await after.open();
  assert.deepEqual(
    ['format', 'content-key', 'results-by-sha256'].map((key) => after.get('facts', key)?.toString()),
    facts,
  );
  await after.close();
});

test('what has ended has not come back, and is known, in a store of which only lost pages are left', async () => {
  await using dir = await tempDir();
  const opened = (): Promise<TestStore> => openTestStore({ stateDir: dir.path, isOnDisk: true });
  const path = join(dir.path, 'journal');
  {
    await using t = await opened();
    for (const id of ['ended', 'pending', 'anew', 'later']) await take(t.store, t.store.accept(inbound(id)));
  }
  {
    await using journal = await openJournal(path);
    // What was removed when it ended stands in older pages, among those that are lost.
    await journal.commit([
      { table: 'past', key: 'i/echo/ended', value: `{"e":"delivered","a":${Date.now()}}` },
      { table: 'past', key: 'i/echo/anew', value: `{"e":"dead","a":${Date.now()}}` },
      // Its time was over, and that of its page was not yet.
      { table: 'past', key: 'i/echo/later', value: `{"e":"delivered","a":${Date.now() - 8 * 24 * 3600_000}}` },
    ]);
  }
  loseTables(join(path, 'data.mdb'));
  {
    await using journal = await openJournal(path);
    const ids = [...journal.range('ids', { after: '', before: END })];
    assert.deepEqual(
      ids.map(([key]) => key),
      ['i/echo/anew', 'i/echo/later', 'i/echo/pending'],
    );
  }
  await using t = await opened();
  assert.equal(t.store.listing.pending, 3);
  for (const id of ['ended', 'pending', 'anew', 'later'])
    assert.equal(t.store.accept(inbound(id)).kind, 'duplicate', id);
});

async function openJournal(path: string): Promise<Journal & AsyncDisposable> {
  const journal = new LmdbJournal(path);
  await journal.open();
  return Object.assign(journal, { [Symbol.asyncDispose]: () => journal.close() });
}
