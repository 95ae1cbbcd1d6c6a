/** What a store that is made anew from its lost pages still knows of itself. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { LmdbJournal } from '../../../src/datastore/index.js';
import { tempDir } from '../../support/temp.js';
import { inbound } from '../../support/messages.js';
import { openTestStore } from '../../support/store.js';

const PAGE = 4096;

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
  const file = join(path, 'data.mdb');
  const bytes = readFileSync(file);
  // The names of all tables stand in one page.
  for (let at = 2 * PAGE; at < bytes.length; at += PAGE)
    if (bytes.subarray(at, at + PAGE).includes('torn\0')) bytes.fill(0xff, at, at + PAGE);
  writeFileSync(file, bytes);
  const after = new LmdbJournal(path);
  await after.open();
  assert.deepEqual(
    ['format', 'content-key', 'results-by-sha256'].map((key) => after.get('facts', key)?.toString()),
    facts,
  );
  await after.close();
});
