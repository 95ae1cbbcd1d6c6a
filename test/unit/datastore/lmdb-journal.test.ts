// The write-ahead log before the tables: what was committed is there after any crash, and where the tables lag behind.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { LmdbJournal, MemoryJournal, type Change, type Journal } from '../../../src/datastore/index.js';
import { END, TABLES, type OrderedTable } from '../../../src/datastore/journal.js';
import type { LogMeasure } from '../../../src/datastore/lmdb-journal.js';
import { LmdbTables } from '../../../src/datastore/lmdb-tables.js';
import { silentLog } from '../../../src/log/log.js';
import { recordingLog } from '../../support/log.js';
import { until } from '../../support/router.js';
import { between, seeded, testSeed } from '../../support/seeded.js';
import { tempDir, type TempDir } from '../../support/temp.js';

/** Nothing goes to the tables but at the end. */
const NEVER: LogMeasure = { entries: Infinity, bytes: Infinity, file: Infinity, after: 2 ** 30 };
/** Every few commits the other file is written. */
const SMALL: LogMeasure = { entries: 12, bytes: 4_000, file: 6_000, after: 5 };

const open = async (path: string, measure = NEVER, log = silentLog): Promise<LmdbJournal> => {
  const journal = new LmdbJournal(path, log, {}, measure);
  await journal.open();
  return journal;
};

const record = (key: string, text = key): Change => ({ table: 'records', key, value: Buffer.from(text) });

/** The directory as a kill at this moment would leave it: all that was written is there. */
function killed(path: string, dir: TempDir): string {
  const copy = join(dir.path, 'killed');
  copyAtRest(path, copy);
  return copy;
}

/** Tables may be written meanwhile, by a thread of LMDB's: then again. */
function copyAtRest(path: string, copy: string): void {
  do {
    rmSync(copy, { recursive: true, force: true });
    cpSync(path, copy, { recursive: true });
  } while (!readFileSync(join(path, 'data.mdb')).equals(readFileSync(join(copy, 'data.mdb'))));
}

/** Makes a file on which each write fails for want of space. Where that cannot be, the test is skipped: false. */
function fillsUp(path: string, t: TestContext): boolean {
  try {
    execFileSync('mknod', [path, 'c', '1', '7'], { stdio: 'ignore' });
    return true;
  } catch {
    t.skip('only root can make the device that is always full');
    return false;
  }
}

function contents(journal: Journal): object {
  return Object.fromEntries(
    TABLES.filter((table): table is OrderedTable => table !== 'past').map((table) => [
      table,
      [...journal.range(table, { after: '', before: END })]
        .filter(([key]) => key !== 'logged')
        .map(([key, value]) => `${key}=${value.length}:${value.toString('latin1', 0, 20)}`),
    ]),
  );
}

test('after a kill all commits are there, whether they are in the tables or not', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'journal');
  const journal = await open(path);
  await journal.commit([record('a'), record('b')]);
  await journal.commit([{ table: 'records', key: 'a', value: undefined }, record('c')]);
  const again = await open(killed(path, dir));
  assert.deepEqual(contents(again), contents(journal));
  assert.equal(again.count('records'), 2);
  await again.commit([record('d')]);
  await again.close();
  const last = await open(join(dir.path, 'killed'));
  assert.deepEqual(
    [...last.range('records', { after: '', before: END })].map(([key]) => key),
    ['b', 'c', 'd'],
  );
  await last.close();
  await journal.close();
});

test('what came and went never reaches the tables, and a journal that was closed has no log', async () => {
  await using dir = await tempDir();
  const journal = await open(dir.path);
  await journal.commit([record('a')]);
  await journal.commit([record('b'), { table: 'records', key: 'a', value: undefined }]);
  assert.equal(journal.count('records'), 1);
  await journal.close();
  assert.deepEqual(readdirSync(dir.path).sort(), ['data.mdb', 'lock.mdb', 'made']);
  assert.equal(readFileSync(join(dir.path, 'data.mdb')).includes('records'), true);
  const tables = new LmdbTables(dir.path, silentLog);
  await tables.open();
  assert.deepEqual([tables.has('records', 'a'), tables.has('records', 'b'), tables.count('records')], [false, true, 1]);
  await tables.close();
});

test('at random, with kills at random, it is what a journal in memory is', async (t) => {
  const seed = testSeed();
  t.diagnostic(`seed ${seed} (YGG_TEST_SEED=${seed} repeats it)`);
  const random = seeded(seed);
  await using dir = await tempDir();
  let path = join(dir.path, 'journal');
  let journal = await open(path, SMALL);
  const model = new MemoryJournal();
  await model.open();
  for (let step = 0; step < 300; step++) {
    const newValue = (): Buffer => Buffer.alloc(between(random, 0, 300), step);
    const together = Array.from({ length: between(random, 1, 3) }, () =>
      Array.from({ length: between(random, 0, 6) }, (): Change[] => {
        const table = (['records', 'ids', 'alarms', 'facts', 'past'] as const)[between(random, 0, 4)]!;
        const key = `k/${between(random, 0, 40)}`;
        if (random() < 0.55 || table === 'past') return [{ table, key, value: newValue() }];
        // Who removes it may have looked before, and it may come again at once.
        const isThere = model.get(table, key) !== undefined && random() < 0.5 ? { isThere: true } : {};
        const removal: Change = { table, key, value: undefined, ...isThere };
        return random() < 0.7 ? [removal] : [removal, { table, key, value: newValue() }];
      }).flat(),
    );
    await Promise.all(together.flatMap((changes) => [journal.commit(changes), model.commit(changes)]));
    for (const table of TABLES) {
      // One of the facts is the journal's own, and what has ended may stand there twice after a kill.
      if (table !== 'facts' && table !== 'past') assert.equal(journal.count(table), model.count(table), table);
    }
    const [after, before] = [`k/${between(random, 0, 40)}`, random() < 0.5 ? END : `k/${between(random, 0, 40)}`];
    const options = { after, before, limit: between(random, 1, 20) };
    assert.deepEqual([...journal.range('records', options)], [...model.range('records', options)]);
    for (const table of ['ids', 'past'] as const) assert.deepEqual(journal.get(table, after), model.get(table, after));
    assert.ok(journal.count('past') >= model.count('past'));
    if (random() < 0.1) {
      const copy = join(dir.path, `killed-${step}`);
      copyAtRest(path, copy);
      await journal.close();
      path = copy;
      journal = await open(path, SMALL);
    }
    assert.deepEqual(contents(journal), contents(model), `step ${step}`);
  }
  await journal.close();
});

test('a kill in the midst of a checkpoint loses nothing: the tables hold a part, and the log all of it', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'journal');
  const journal = await open(path);
  for (let n = 0; n < 20; n++) await journal.commit([record(`k/${n}`, `${n}`), record(`gone/${n}`)]);
  await journal.commit(
    Array.from({ length: 20 }, (_, n) => ({ table: 'records', key: `gone/${n}`, value: undefined })),
  );
  const copy = killed(path, dir);
  // Some of the first commits, as of a checkpoint that was cut off, without the number behind it.
  const tables = new LmdbTables(copy, silentLog);
  await tables.open();
  await tables.write([record('gone/3'), record('k/3', '3')]);
  await tables.close();
  const again = await open(copy);
  assert.deepEqual(contents(again), contents(journal));
  await again.close();
  await journal.close();
});

test('a log of days long gone is not repeated', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'journal');
  const journal = await open(path);
  await journal.commit([record('a', 'old')]);
  const copy = killed(path, dir);
  await journal.close();
  const second = await open(path);
  await second.commit([record('a', 'new')]);
  await second.close();
  for (const name of ['wal-0', 'wal-1']) cpSync(join(copy, name), join(path, name));
  const third = await open(path);
  assert.equal(third.get('records', 'a')?.toString(), 'new');
  await third.close();
});

test('damage in the midst of the log is told, and costs no other commit', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'journal');
  const journal = await open(path);
  for (const key of ['a', 'b', 'c']) await journal.commit([record(key, `value of ${key}`)]);
  const copy = killed(path, dir);
  await journal.close();
  for (const name of ['wal-0', 'wal-1']) {
    const bytes = readFileSync(join(copy, name));
    const at = bytes.indexOf('value of b');
    if (at < 0) continue;
    bytes.write('x', at);
    writeFileSync(join(copy, name), bytes);
  }
  const log = recordingLog();
  const again = await open(copy, NEVER, log);
  const keys = [...again.range('records', { after: '', before: END })].map(([key]) => key);
  assert.deepEqual(keys, ['a', 'c']);
  await log.line('journal.damaged');
  await again.close();
});

test('a log of a later version is refused, and not touched', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'journal');
  await (await open(path)).close();
  const later = Buffer.alloc(2048);
  for (const at of [0, 512]) later.write('YGGWAL9\n', at);
  writeFileSync(join(path, 'wal-0'), later);
  await assert.rejects(open(path), { code: 'state.version' });
  assert.deepEqual(readFileSync(join(path, 'wal-0')), later);
});

test('where the log cannot be written, commits fail, what was there stays, and it goes on in the other file', async (t) => {
  await using dir = await tempDir();
  const path = join(dir.path, 'journal');
  await (await open(path)).close();
  if (!fillsUp(join(path, 'wal-1'), t)) return;
  const journal = await open(path, { ...NEVER, entries: 3 });
  await assert.rejects(journal.commit([record('a')]), { code: 'journal.write_failed' });
  for (let n = 0; n < 40; n++) {
    const key = `k/${n}`;
    // Each time it is the full one's turn one commit fails, and the next is in the other.
    await journal.commit([record(key)]).catch(() => journal.commit([record(key)]));
  }
  assert.equal(journal.get('records', 'a'), undefined);
  assert.equal(journal.count('records'), 40);
  await journal.close();
  rmSync(join(path, 'wal-1'), { force: true });
  const again = await open(path);
  assert.equal(again.count('records'), 40);
  await again.close();
});

test('a directory that is in the place of the log is told', async () => {
  await using dir = await tempDir();
  await mkdir(join(dir.path, 'wal-0'));
  await assert.rejects(open(dir.path), { code: 'state.unwritable' });
});

test('a commit for which the tables cannot be read fails as a whole, also after the next start', async (t) => {
  await using dir = await tempDir();
  const path = join(dir.path, 'journal');
  const journal = await open(path);
  await journal.commit([record('a')]);
  await journal.close();
  await journal.open();
  let asked = 0;
  const broken = t.mock.method(LmdbTables.prototype, 'has', () => {
    if (++asked === 2) throw new Error('the disk cannot be read');
    return false;
  });
  await assert.rejects(journal.commit([record('b'), record('c')]), { code: 'journal.write_failed' });
  broken.mock.restore();
  assert.equal(journal.get('records', 'b'), undefined);
  await journal.commit([record('d')]);
  const again = await open(killed(path, dir));
  for (const each of [journal, again]) {
    const keys = [...each.range('records', { after: '', before: END })].map(([key]) => key);
    assert.deepEqual([keys, each.count('records')], [['a', 'd'], 2]);
    await each.close();
  }
});

test('a key that the tables would refuse is refused at once, and nothing else is', async () => {
  await using dir = await tempDir();
  const journal = await open(dir.path);
  for (const key of ['', 'k'.repeat(65_536)])
    await assert.rejects(journal.commit([record(key, 'v')]), { code: 'journal.write_failed' });
  await journal.commit([record('a')]);
  await journal.close();
  assert.deepEqual(readdirSync(dir.path).sort(), ['data.mdb', 'lock.mdb', 'made']);
});

test('a commit that failed is made good for by itself: a start would not repeat it, though nobody came since', async (t) => {
  await using dir = await tempDir();
  const path = join(dir.path, 'journal');
  await (await open(path)).close();
  if (!fillsUp(join(path, 'wal-1'), t)) return;
  const journal = await open(path);
  await assert.rejects(journal.commit([record('a')]), { code: 'journal.write_failed' });
  await until(() => journal.get('facts', 'logged')?.toString() === '1');
  await journal.close();
});

test('that the tables are behind is told once, commits go on meanwhile, and what is left stays in the log', async (t) => {
  await using dir = await tempDir();
  const path = join(dir.path, 'journal');
  const log = recordingLog();
  const journal = await open(path, { ...SMALL, entries: Infinity, bytes: Infinity, file: Infinity }, log);
  const { mock } = t.mock.method(LmdbTables.prototype, 'write', () => Promise.reject(new Error('the disk is full')));
  for (let n = 0; n < 20; n++) {
    await journal.commit([record(`k/${n}`)]);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await until(() => mock.callCount() > 2);
  await journal.close();
  assert.equal(log.lines.filter(({ event }) => event === 'journal.behind').length, 1);
  mock.restore();
  const again = await open(path);
  assert.equal(again.count('records'), 20);
  await again.close();
});

test('what has ended goes to the tables once there is much of it, in number or in bytes', async () => {
  for (const measure of [{ entries: 10 }, { bytes: 1_000 }]) {
    await using dir = await tempDir();
    const journal = await open(dir.path, { ...NEVER, ...measure });
    for (let n = 0; n < 10; n++) {
      assert.deepEqual([...journal.pages()], []);
      await journal.commit([{ table: 'past', key: `k/${n}`, value: 'x'.repeat(100) }]);
    }
    await until(() => [...journal.pages()].length === 1);
    await journal.close();
  }
});

test('pages that became one are gone, also where the last write of the checkpoint failed at first', async (t) => {
  await using dir = await tempDir();
  const journal = await open(dir.path, { ...NEVER, after: 1 });
  await journal.commit([{ table: 'past', key: 'a', value: '1' }]);
  await until(() => [...journal.pages()].length === 1);
  assert.equal(journal.get('past', 'a')?.toString(), '1');
  // The page of both is written, and that they are in the tables is not.
  const { mock } = t.mock.method(LmdbTables.prototype, 'write');
  mock.mockImplementationOnce(() => Promise.reject(new Error('the disk is full')), 1);
  await journal.commit([{ table: 'past', key: 'b', value: '2' }]);
  await until(() => mock.callCount() === 2);
  await journal.close();
  await journal.open();
  assert.deepEqual([[...journal.pages()].length, journal.count('past')], [1, 2]);
  await journal.close();
});

test('a page of what has ended that rots while it is known stops neither who asks nor the checkpoints', async (t) => {
  await using dir = await tempDir();
  const log = recordingLog();
  const journal = await open(dir.path, { ...NEVER, after: 1 }, log);
  await journal.commit([{ table: 'past', key: 'a', value: '1' }]);
  await until(() => [...journal.pages()].length === 1);
  assert.equal(journal.get('past', 'a')?.toString(), '1');
  await journal.close();
  await journal.open();
  const { mock } = t.mock.method(LmdbTables.prototype, 'get', () => {
    throw new Error('MDB_CORRUPTED');
  });
  assert.equal(journal.get('past', 'a'), undefined);
  await log.line('journal.torn');
  const { mock: writes } = t.mock.method(LmdbTables.prototype, 'write');
  await journal.commit([{ table: 'past', key: 'b', value: '2' }]);
  await until(() => writes.callCount() === 2);
  await until(() => [...journal.pages()].length === 2);
  mock.restore();
  assert.equal(journal.get('past', 'b')?.toString(), '2');
  assert.ok(!log.lines.some(({ event }) => event === 'journal.behind'));
  await journal.close();
});

test('while the tables are behind, the log grows to its measure and no further; then commits fail, each in its time', async (t) => {
  await using dir = await tempDir();
  const path = join(dir.path, 'journal');
  const journal = await open(path, SMALL);
  const { mock } = t.mock.method(LmdbTables.prototype, 'write', () => Promise.reject(new Error('the disk is full')));
  let kept = 0;
  for (let n = 0; n < 200; n++) {
    await journal.commit([record(`k/${n}`)]).then(
      () => (kept += 1),
      (error: unknown) => assert.equal((error as { code?: string }).code, 'journal.write_failed'),
    );
  }
  assert.ok(kept > 12 && kept < 50, `${kept}`);
  assert.ok(mock.callCount() < 250, `${mock.callCount()}`);
  assert.equal(journal.count('records'), kept);
  mock.restore();
  await journal.commit([record('last')]);
  assert.equal(journal.count('records'), kept + 1);
  await journal.close();
});

test('who closes it a second time waits for the first, and it can be opened again', async () => {
  await using dir = await tempDir();
  const journal = await open(dir.path);
  await journal.commit([record('a')]);
  void journal.close();
  await journal.close();
  assert.deepEqual(readdirSync(dir.path).sort(), ['data.mdb', 'lock.mdb', 'made']);
  const opened = journal.open();
  await journal.close();
  await opened;
  await assert.rejects(journal.commit([]), { code: 'journal.write_failed' });
  await journal.open();
  assert.equal(journal.count('records'), 1);
  await journal.close();
});

test('a file of the log that is readable for all is so no more', async () => {
  await using dir = await tempDir();
  writeFileSync(join(dir.path, 'wal-0'), '', { mode: 0o644 });
  const journal = await open(dir.path);
  assert.equal(statSync(join(dir.path, 'wal-0')).mode & 0o777, 0o600);
  await journal.close();
});
