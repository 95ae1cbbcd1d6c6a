/** The check of a store's pages: it finds nothing in sound ones, whatever was written, and each bit that LMDB trusts. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { LmdbTables } from '../../../src/datastore/lmdb-tables.js';
import { TABLES, type Change } from '../../../src/datastore/journal.js';
import { LmdbPages } from '../../../src/datastore/lmdb-pages.js';
import { silentLog } from '../../../src/log/log.js';
import { between, seeded, testSeed } from '../../support/seeded.js';
import { tempDir } from '../../support/temp.js';

const PAGE = 4096;
const LEAF = 2;

function problemsOf(file: string): readonly string[] {
  const pages = new LmdbPages(file);
  try {
    return pages.inspect().problems;
  } finally {
    pages.close();
  }
}

test('a store that was written, overwritten and emptied at random is sound at every commit', async (t) => {
  const seed = testSeed();
  t.diagnostic(`seed ${seed} (YGG_TEST_SEED=${seed} repeats it)`);
  const random = seeded(seed);
  await using dir = await tempDir();
  const tables = new LmdbTables(dir.path, silentLog);
  await tables.open();
  for (let commit = 0; commit < 200; commit++) {
    const ops = Array.from({ length: between(random, 1, 40) }, (): Change => {
      const table = TABLES[between(random, 0, TABLES.length - 1)]!;
      const key = `k/${between(random, 0, 300)}`;
      const size = random() < 0.2 ? between(random, 2_000, 40_000) : between(random, 0, 400);
      return { table, key, value: commit > 150 || random() < 0.3 ? undefined : Buffer.alloc(size, commit) };
    });
    await tables.write(ops);
    assert.deepEqual(problemsOf(join(dir.path, 'data.mdb')), []);
  }
  await tables.close();
});

test('a bit that LMDB trusts is found: the transaction of a page, a key, a length, a kind of tree, a meta page', async () => {
  await using dir = await tempDir();
  const tables = new LmdbTables(dir.path, silentLog);
  await tables.open();
  for (let n = 0; n < 30; n++)
    await tables.write([{ table: 'records', key: `i/echo/5/${n}`, value: Buffer.alloc(300, n) }]);
  await tables.close();
  const file = join(dir.path, 'data.mdb');
  const whole = readFileSync(file);
  assert.deepEqual(problemsOf(file), []);
  const leaf = whole.indexOf('i/echo/5/29');
  const page = leaf - (leaf % PAGE);
  assert.equal(whole.readUInt16LE(page + 18), LEAF);
  const newest = whole.readBigUInt64LE(152) > whole.readBigUInt64LE(PAGE + 152) ? 0 : PAGE;
  const cases: readonly (readonly [number, number, RegExp])[] = [
    [page + 13, 5, /of a transaction that never was/],
    [leaf, 7, /a key that none of ours can be/],
    [leaf - 8, 3, /overlap|fill|out of order|longer/],
    [newest + 100, 2, /of another kind/],
    [newest + 157, 1, /not of one transaction and the next/],
  ];
  for (const [at, bit, problem] of cases) {
    const bytes = Buffer.from(whole);
    bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << bit), at);
    writeFileSync(file, bytes);
    assert.match(problemsOf(file).join('\n'), problem, `byte ${at - (at % PAGE)}+${at % PAGE}, bit ${bit}`);
  }
});
