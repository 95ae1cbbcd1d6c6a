/** Where a body that comes bit by bit is put: its bytes, what is told of them, and what lives on until it is whole. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { ContentFiles } from '../../../src/datastore/content-files.js';
import { BodySink } from '../../../src/dispatcher/stream/body-sink.js';

interface Bench {
  readonly sink: BodySink;
  readonly files: ContentFiles;
  /** What was written last, where that was all of a body. */
  readonly shown: (readonly Buffer[] | undefined)[];
}

async function bench(t: TestContext): Promise<Bench> {
  const directory = await mkdtemp(join(tmpdir(), 'body-sink-'));
  t.after(() => rm(directory, { recursive: true }));
  const shown: (readonly Buffer[] | undefined)[] = [];
  const files = new ContentFiles(directory);
  const sink = new BodySink({
    newContentFile: (kind) => {
      const file = files.create(kind);
      let writes = 0;
      return {
        write: (parts) => {
          writes += 1;
          return file.write(parts);
        },
        finish: (parts) => {
          shown.push(writes === 0 ? parts : undefined);
          return file.finish(parts);
        },
        discard: () => file.discard(),
      };
    },
  });
  return { sink, files, shown };
}

const SIZE = 200_000;

function chunksOf(bytes: Buffer, size: number): Buffer[] {
  const chunks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += size) chunks.push(Buffer.from(bytes.subarray(at, at + size)));
  return chunks;
}

test('a body is what came, whenever its size became known, and however it was cut', async (t) => {
  // How many chunks come before the size is known.
  for (const known of [0, 1, 3, Infinity]) {
    for (const step of [1_000, 65_536, SIZE]) {
      const { sink, files, shown } = await bench(t);
      const body = randomBytes(SIZE);
      for (const [n, chunk] of chunksOf(body, step).entries()) {
        sink.add(chunk, n < known ? undefined : SIZE);
        // The next one comes to stand in its place.
        chunk.fill(0);
        assert.equal(sink.held, sink.size);
      }
      assert.equal(sink.size, SIZE);
      const whole = await sink.finish();
      assert.ok(!Buffer.isBuffer(whole));
      assert.ok(body.equals(await readFile(whole.path)));
      assert.equal(whole.sum, files.sums.of(body));
      assert.ok(body.equals(Buffer.concat(shown[0] ?? [])));
    }
  }
});

test('a body of a known size is gathered in one buffer, and the chunks it came in are not kept', async (t) => {
  const { sink, shown } = await bench(t);
  const body = randomBytes(SIZE);
  for (const chunk of chunksOf(body, 50_000)) {
    sink.add(chunk, SIZE);
    chunk.fill(0);
  }
  await sink.finish();
  assert.equal(shown[0]?.length, 1);
  assert.ok(body.equals(shown[0][0] ?? Buffer.alloc(0)));
});

test('a body that is small after all is given as it is', async (t) => {
  for (const size of [undefined, 20]) {
    const { sink, shown } = await bench(t);
    sink.add(Buffer.from('0123456789'), size);
    sink.add(Buffer.from('abcdefghij'), size);
    assert.deepEqual(await sink.finish(), Buffer.from('0123456789abcdefghij'));
    assert.deepEqual(shown, []);
  }
});

test('what was written before the size was known stays where it is', async (t) => {
  const { sink, shown } = await bench(t);
  const body = randomBytes(SIZE);
  const [first, ...others] = chunksOf(body, 80_000);
  sink.add(first ?? Buffer.alloc(0));
  await sink.flush();
  for (const chunk of others) sink.add(chunk, SIZE);
  const whole = await sink.finish();
  assert.ok(!Buffer.isBuffer(whole));
  assert.ok(body.equals(await readFile(whole.path)));
  // All of it was not in memory: there is nothing to show.
  assert.deepEqual(shown, [undefined]);
});

test('a body that is not wanted any more leaves no file', async (t) => {
  const { sink, files } = await bench(t);
  sink.add(Buffer.alloc(80_000), SIZE);
  await sink.flush();
  sink.add(Buffer.alloc(80_000), SIZE);
  sink.discard();
  await assert.rejects(sink.finish(), /not wanted any more/);
  assert.deepEqual(await readdir(files.directory), []);
  assert.equal(sink.held, 0);
});

test('behind a part that could not be written nothing is, and the body is not whole', async (t) => {
  const { sink, files } = await bench(t);
  await rm(files.directory, { recursive: true });
  sink.add(Buffer.alloc(80_000));
  const first = assert.rejects(sink.flush(), { code: 'ENOENT' }).then(() => mkdir(files.directory));
  sink.add(Buffer.alloc(80_000));
  const second = sink.flush();
  sink.add(Buffer.alloc(80_000));
  const whole = sink.finish();
  await Promise.all([first, assert.rejects(second, { code: 'ENOENT' }), assert.rejects(whole, { code: 'ENOENT' })]);
  assert.deepEqual(await readdir(files.directory), []);
  sink.discard();
});
