/** Content files, and what is kept in memory of those that were just written. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdirSync, statSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import { ContentFiles } from '../../../src/datastore/content-files.js';
import { ContentSums } from '../../../src/datastore/content-sums.js';
import { ContentWriter } from '../../../src/datastore/content-writer.js';
import { HotContents, type HotKind } from '../../../src/datastore/hot-contents.js';
import { FakeClock } from '../../support/clock.js';
import { tempDir } from '../../support/temp.js';

const MIB = 1024 * 1024;

interface Scene extends AsyncDisposable {
  readonly directory: string;
  readonly clock: FakeClock;
  readonly files: ContentFiles;
  readonly scope: AbortController;
}

async function openScene(): Promise<Scene> {
  const dir = await tempDir();
  const directory = join(dir.path, 'content');
  const clock = new FakeClock();
  const scope = new AbortController();
  const files = new ContentFiles(directory, clock);
  await files.open(scope.signal);
  return {
    directory,
    clock,
    files,
    scope,
    [Symbol.asyncDispose]: async () => {
      scope.abort();
      await dir[Symbol.asyncDispose]();
    },
  };
}

async function stored(files: ContentFiles, bytes: Buffer): Promise<{ kind: 'file'; path: string; size: number }> {
  const content = await files.store(bytes);
  assert.ok(content.kind === 'file');
  return content;
}

test('the first reader of a content gets the bytes that were written, every other one those of the file', async () => {
  await using scene = await openScene();
  const bytes = Buffer.alloc(100_000, 7);
  const content = await stored(scene.files, bytes);
  assert.deepEqual(await readFile(content.path), bytes, 'it is on disk all the same');
  assert.equal(await scene.files.read(content), bytes);
  const again = await scene.files.read(content);
  assert.notEqual(again, bytes);
  assert.deepEqual(again, bytes);
});

test('few are written at once', async () => {
  await using scene = await openScene();
  const storing = Array.from({ length: 10 }, (_, n) => stored(scene.files, Buffer.alloc(MIB, n)));
  await Promise.race(storing);
  // One or two that are through by then, and as many behind them.
  const begun = readdirSync(scene.directory).length;
  assert.ok(begun <= 6, `${begun} files were begun`);
  await Promise.all(storing);
  assert.equal(readdirSync(scene.directory).length, 10);
});

test('one of which much is written already takes no turn', async () => {
  await using dir = await tempDir();
  const taken: string[] = [];
  const writer = (name: string): ContentWriter =>
    new ContentWriter(join(dir.path, name), new ContentSums().begin(), {
      inTurn: (task) => {
        taken.push(name);
        return task();
      },
      named: () => Promise.resolve(),
      written: () => undefined,
      remove: (path) => rm(path),
    });
  const long = writer('long');
  await long.write([Buffer.alloc(100)]);
  await Promise.all([long.finish([Buffer.alloc(100)]), writer('short').finish([Buffer.alloc(100)])]);
  assert.deepEqual(taken, ['short']);
});

test('a content that is read bit by bit comes from memory as it comes from its file', async () => {
  await using scene = await openScene();
  const bytes = Buffer.alloc(100_000, 7);
  const content = await stored(scene.files, bytes);
  for (const isHot of [true, false]) {
    const reader = await scene.files.openRead(content);
    const [first, last] = [await reader.next(60_000), await reader.next(60_000)];
    await reader.close();
    assert.equal(first.bytes.buffer === bytes.buffer, isHot);
    assert.deepEqual([first.isLast, last.isLast], [false, true]);
    assert.deepEqual(Buffer.concat([first.bytes, last.bytes]), bytes);
  }
});

test('what is in memory is not handed out once its file was touched, replaced or removed', async () => {
  await using scene = await openScene();
  const bytes = Buffer.alloc(100_000, 7);
  const other = Buffer.alloc(100_000, 8);
  const harm: ((path: string) => Promise<void>)[] = [
    (path) => writeFile(path, other),
    (path) => truncate(path, 70_000),
    (path) => rm(path),
    async (path) => {
      await writeFile(`${path}.new`, other);
      await rename(`${path}.new`, path);
    },
  ];
  for (const does of harm) {
    const content = await stored(scene.files, bytes);
    await does(content.path);
    await assert.rejects(scene.files.read(content), { code: 'content.damaged' });
  }
});

test('a file that goes is forgotten, one that is gone is no error', async () => {
  await using scene = await openScene();
  const content = await stored(scene.files, Buffer.alloc(100_000, 7));
  await scene.files.remove(content.path);
  await scene.files.remove(content.path);
  assert.deepEqual(await readdir(scene.directory), []);
  await assert.rejects(scene.files.read(content), { code: 'content.damaged' });
});

test('a directory that cannot be synced fails each store that waited for it, and the next one is synced anew', async () => {
  await using scene = await openScene();
  const begun = [1, 2, 3].map(() => scene.files.create());
  for (const file of begun) await file.write([Buffer.alloc(10)]);
  await rm(scene.directory, { recursive: true });
  const failed = await Promise.allSettled(begun.map((file) => file.finish([])));
  assert.deepEqual(
    failed.map(({ status }) => status),
    ['rejected', 'rejected', 'rejected'],
  );
  for (const file of begun) await file.discard();
  await mkdir(scene.directory);
  await stored(scene.files, Buffer.alloc(100_000));
});

function keep(hot: HotContents, path: string, parts: readonly Buffer[], kind: HotKind): void {
  hot.keep({ path, parts, kind, stats: statSync(path) });
}

/** Files of these bytes, and a place that keeps them. */
async function keeping(): Promise<Scene & { readonly hot: HotContents; add(bytes: Buffer): Promise<string> }> {
  const scene = await openScene();
  const hot = new HotContents(scene.clock);
  hot.start(scene.scope.signal);
  let n = 0;
  return {
    ...scene,
    hot,
    async add(bytes) {
      const path = join(scene.directory, String(n++));
      await writeFile(path, bytes);
      return path;
    },
  };
}

test('messages take two thirds of what results may take, and nothing is kept beyond that', async () => {
  await using scene = await keeping();
  const bytes = Buffer.alloc(MIB, 1);
  const kept = async (kind: 'message' | 'result'): Promise<number> => {
    const paths: string[] = [];
    for (let n = 0; n < 40; n++) paths.push(await scene.add(bytes));
    for (const path of paths) keep(scene.hot, path, [bytes], kind);
    return paths.filter((path) => scene.hot.take(path, MIB) !== undefined).length;
  };
  assert.deepEqual([await kept('message'), await kept('result'), await kept('message')], [16, 24, 16]);
});

test('a content of more than 1 MiB is not kept', async () => {
  await using scene = await keeping();
  const bytes = Buffer.alloc(MIB + 1);
  const path = await scene.add(bytes);
  keep(scene.hot, path, [bytes], 'result');
  assert.equal(scene.hot.take(path, bytes.length), undefined);
});

test('what nobody came for is given back after a moment, and all of it at the end', async () => {
  await using scene = await keeping();
  const bytes = Buffer.alloc(70_000, 1);
  const paths = [await scene.add(bytes), await scene.add(bytes), await scene.add(bytes)];
  keep(scene.hot, paths[0]!, [bytes], 'result');
  await scene.clock.advance(2_000);
  keep(scene.hot, paths[1]!, [bytes.subarray(0, 30_000), bytes.subarray(30_000)], 'result');
  await scene.clock.advance(1_500);
  assert.equal(scene.hot.take(paths[0]!, 70_000), undefined);
  assert.deepEqual(scene.hot.take(paths[1]!, 70_000), bytes);
  keep(scene.hot, paths[2]!, [bytes], 'result');
  scene.scope.abort();
  assert.equal(scene.hot.take(paths[2]!, 70_000), undefined);
  keep(scene.hot, paths[2]!, [bytes], 'result');
  assert.equal(scene.hot.take(paths[2]!, 70_000), undefined, 'nothing is kept behind the end');
});

test('the sum that is recorded is that of the bytes, in however many pieces they came', async () => {
  await using scene = await openScene();
  const bytes = randomBytes(200_000);
  const sum = scene.files.sums.of(bytes);
  assert.notEqual(sum, scene.files.sums.of(Buffer.concat([bytes.subarray(1), bytes.subarray(0, 1)])));
  for (const step of [1_001, 65_536, 200_000]) {
    const file = scene.files.create();
    for (let at = 0; at < 150_000; at += step) await file.write([bytes.subarray(at, Math.min(at + step, 150_000))]);
    const content = await file.finish([bytes.subarray(150_000, 170_000), bytes.subarray(170_000)]);
    assert.deepEqual(content, { kind: 'file', path: file.path, size: 200_000, sum });
    assert.deepEqual(await readFile(content.path), bytes);
    assert.equal((await stat(content.path)).mode & 0o777, 0o600);
  }
});

test('a file that is not what was recorded is not handed out, nor the last bit of it', async () => {
  await using scene = await openScene();
  const bytes = Buffer.alloc(100_000, 7);
  const content = await scene.files.create().finish([bytes]);
  // As an older version recorded it.
  const { sum: _, ...older } = { ...content, crc32: crc32(bytes) };
  for (const known of [content, older]) {
    await writeFile(content.path, bytes);
    assert.deepEqual(await scene.files.read(known), bytes);
    await writeFile(content.path, Buffer.concat([bytes.subarray(1), Buffer.from('x')]));
    await assert.rejects(scene.files.read(known), { code: 'content.damaged' });
    const reader = await scene.files.openRead(known);
    assert.equal((await reader.next(60_000)).isLast, false);
    await assert.rejects(reader.next(60_000), { code: 'content.damaged' });
    await reader.close();
  }
});

test('what was discarded is gone, whether it was begun, finished or neither', async () => {
  await using scene = await openScene();
  const [untouched, begun, finished] = [scene.files.create(), scene.files.create(), scene.files.create()];
  await begun.write([Buffer.alloc(10)]);
  await finished.finish([Buffer.alloc(10)]);
  assert.equal((await readdir(scene.directory)).length, 2);
  for (const file of [untouched, begun, finished]) await file.discard();
  assert.deepEqual(await readdir(scene.directory), []);
});
