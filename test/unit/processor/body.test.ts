import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import {
  BodyTooLarge,
  receiveBody,
  StorageFault,
  type BodyFiles,
  type BodyOptions,
} from '../../../src/processor/body.js';
import { ContentFiles } from '../../../src/datastore/content-files.js';
import { INLINE_LIMIT } from '../../../src/message/index.js';
import { tempDir } from '../../support/temp.js';

function filesIn(directory: string): BodyFiles {
  const files = new ContentFiles(directory);
  return { newContentFile: () => files.create() };
}

function options(files: BodyFiles, change: Partial<BodyOptions> = {}): BodyOptions {
  return { encoding: undefined, announced: undefined, limit: 10_000_000, files, onChunk: () => undefined, ...change };
}

test('a body of just the inline limit stays in memory, one byte more goes to a file', async () => {
  await using dir = await tempDir();
  const files = filesIn(dir.path);
  const small = await receiveBody(Readable.from([Buffer.alloc(INLINE_LIMIT, 1)]), options(files));
  assert.equal(small.content.kind, 'inline');
  const chunks = [Buffer.alloc(INLINE_LIMIT, 1), Buffer.from([2]), Buffer.from([3])];
  const large = await receiveBody(Readable.from(chunks), options(files));
  assert.ok(large.content.kind === 'file');
  assert.equal(large.content.size, INLINE_LIMIT + 2);
  assert.deepEqual(await readFile(large.content.path), Buffer.concat(chunks));
});

test('a body that breaks off in its file leaves no file', async () => {
  await using dir = await tempDir();
  async function* broken(): AsyncGenerator<Buffer> {
    yield Buffer.alloc(100_000);
    await Promise.resolve();
    throw new Error('cut');
  }
  await assert.rejects(receiveBody(Readable.from(broken()), options(filesIn(dir.path))), /cut/);
  assert.deepEqual(await readdir(dir.path), []);
});

test('a compressed body counts after decompression, and leaves no file when it is too large', async () => {
  await using dir = await tempDir();
  const bomb = (): Readable => Readable.from([gzipSync(Buffer.alloc(1_000_000))]);
  const files = filesIn(dir.path);
  const limited = options(files, { encoding: 'gzip', limit: 999_999 });
  await assert.rejects(receiveBody(bomb(), limited), BodyTooLarge);
  assert.deepEqual(await readdir(dir.path), []);
  const fits = await receiveBody(bomb(), { ...limited, limit: 1_000_000 });
  assert.equal(fits.content.kind, 'file');
});

test('an announced length over the limit ends the transfer before it begins', async () => {
  const body = Readable.from([Buffer.from('x')]);
  const refused = receiveBody(body, options(filesIn('/'), { announced: '11', limit: 10 }));
  await assert.rejects(refused, BodyTooLarge);
  assert.equal(body.destroyed, true);
});

test('an encoding that nobody asked for is an error', async () => {
  const body = receiveBody(Readable.from([Buffer.from('x')]), options(filesIn('/'), { encoding: 'zstd' }));
  await assert.rejects(body, /Content-Encoding/);
});

test('a disk that cannot be written is a storage fault, not a fault of the transfer', async () => {
  const files: BodyFiles = {
    newContentFile: () => ({
      write: () => Promise.reject(new Error('no space left')),
      finish: () => assert.fail('nothing was written'),
      discard: () => Promise.resolve(),
    }),
  };
  await assert.rejects(receiveBody(Readable.from([Buffer.alloc(100_000)]), options(files)), StorageFault);
});

test('what onChunk throws ends the transfer', async () => {
  const onChunk = (): never => {
    throw new Error('not wanted');
  };
  await assert.rejects(
    receiveBody(Readable.from([Buffer.from('x')]), options(filesIn('/'), { onChunk })),
    /not wanted/,
  );
});
