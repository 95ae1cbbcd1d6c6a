import assert from 'node:assert/strict';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseTags } from '../../../src/config/tags.js';
import type { Tags } from '../../../src/facts/ports.js';
import { TagsFile } from '../../../src/facts/tags-file.js';
import { FakeClock } from '../../support/clock.js';
import { recordingLog } from '../../support/log.js';
import { tempDir } from '../../support/temp.js';

const INTERVAL = 1000;

async function watched(text?: string) {
  const dir = await tempDir();
  const home = join(dir.path, 'conf');
  await mkdir(home);
  const path = join(home, 'tags.toml');
  if (text !== undefined) await writeFile(path, text);
  const clock = new FakeClock();
  const log = recordingLog();
  const file = new TagsFile({ path, parse: parseTags, clock, log, interval: INTERVAL });
  const scope = new AbortController();
  const seen: Tags[] = [];
  file.changed.connect((tags) => seen.push(tags), scope.signal);
  await file.start();
  return {
    dir,
    home,
    path,
    clock,
    log,
    file,
    seen,
    /** Lets one interval pass and waits for the look that it starts. */
    async look() {
      await clock.advance(INTERVAL);
      await file.settled();
    },
    async [Symbol.asyncDispose]() {
      scope.abort();
      await file.stop();
      await dir[Symbol.asyncDispose]();
    },
  };
}

test('tags are there after the start, and a missing file is no tags', async () => {
  await using present = await watched('a = "1"');
  assert.deepEqual(present.file.tags, { a: '1' });
  await using absent = await watched();
  assert.deepEqual(absent.file.tags, {});
  assert.deepEqual(absent.seen, []);
});

test('writing, replacing, removing and making anew are each seen once', async () => {
  await using t = await watched('a = "1"');
  await writeFile(t.path, 'a = "2"');
  await t.look();
  await t.look();
  await writeFile(`${t.path}.new`, 'a = "3"');
  await rename(`${t.path}.new`, t.path);
  await t.look();
  await rm(t.path);
  await t.look();
  await writeFile(t.path, 'a = "4"');
  await t.look();
  assert.deepEqual(t.seen, [{ a: '1' }, { a: '2' }, { a: '3' }, {}, { a: '4' }]);
});

test('a directory that goes and comes does not make it blind', async () => {
  await using t = await watched('a = "1"');
  await rm(t.home, { recursive: true });
  await t.look();
  await mkdir(t.home);
  await writeFile(t.path, 'b = 2');
  await t.look();
  assert.deepEqual(t.file.tags, { b: '2' });
});

test('a text that is other but says the same is no change', async () => {
  await using t = await watched('a = "1"');
  await writeFile(t.path, '# words\na = "1"\n');
  await t.look();
  assert.deepEqual(t.seen, [{ a: '1' }]);
});

test('a broken file keeps the old tags and is told once, with its line', async () => {
  await using t = await watched('a = "1"');
  await writeFile(t.path, 'a = "1"\nb = [1]\n');
  for (let i = 0; i < 4; i++) await t.look();
  assert.deepEqual(t.file.tags, { a: '1' });
  const told = t.log.lines.filter((line) => line.level === 'error');
  assert.equal(told.length, 1);
  assert.match(told[0]?.text ?? '', /tags\.toml:2: the tag `b` must be text/);
  await writeFile(t.path, 'b = "1"\n');
  await t.look();
  assert.deepEqual(t.file.tags, { b: '1' });
});

test('a file that is half written when it is looked at is not called broken', async () => {
  await using t = await watched('a = "1"');
  await writeFile(t.path, 'a = "1');
  await t.look();
  await writeFile(t.path, 'a = "10"');
  await t.look();
  assert.deepEqual(t.log.lines, []);
  assert.deepEqual(t.file.tags, { a: '10' });
});

test('a file that cannot be read keeps the old tags', async () => {
  await using t = await watched('a = "1"');
  await rm(t.path);
  await mkdir(t.path);
  await t.file.refresh();
  assert.deepEqual(t.file.tags, { a: '1' });
  assert.equal((await t.log.line('tags.invalid')).level, 'error');
});

test('refresh looks at once, and after stop nobody looks', async () => {
  await using t = await watched();
  await writeFile(t.path, 'a = "1"');
  await t.file.refresh();
  assert.deepEqual(t.file.tags, { a: '1' });
  await t.file.stop();
  await t.file.stop();
  assert.equal(t.clock.pending, 0);
});
