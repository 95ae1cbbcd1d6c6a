// Frames of the write-ahead log: what was written whole is found, and nothing else is.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import type { Change } from '../../../src/datastore/journal.js';
import { FRAMES_AT, frameLength, newHead, scan, writeFrame } from '../../../src/datastore/wal-frames.js';

const commits: readonly (readonly Change[])[] = [
  [
    { table: 'records', key: 'i/echo/4/00000000001', value: Buffer.from('first') },
    { table: 'ids', key: 'i/echo/a', value: Buffer.alloc(0) },
  ],
  [{ table: 'records', key: 'i/echo/4/00000000001', value: undefined }],
  [],
  [{ table: 'files', key: 'f', value: Buffer.alloc(70_000, 'x') }],
];

/** A file with these commits, numbered from `first`, and how long each of them makes it. */
function fileOf(all: readonly (readonly Change[])[], first: number): { file: Buffer; ends: number[]; nonce: Buffer } {
  const { head, nonce } = newHead();
  const file = Buffer.alloc(FRAMES_AT + all.reduce((sum, changes) => sum + frameLength(changes), 0));
  head.copy(file);
  const ends: number[] = [];
  let at = FRAMES_AT;
  for (const [n, changes] of all.entries()) {
    writeFrame(file, at, nonce, first + n, changes);
    at += frameLength(changes);
    ends.push(at);
  }
  return { file, ends, nonce };
}

const numbersIn = (file: Buffer): number[] => scan(file).frames.map(({ number }) => number);

test('commits come back as they were, with numbers beyond 32 bits', () => {
  const first = 2 ** 40;
  const { frames, damaged, isForeign } = scan(fileOf(commits, first).file);
  assert.deepEqual(
    frames,
    commits.map((changes, n) => ({ number: first + n, changes })),
  );
  assert.deepEqual([damaged, isForeign], [0, false]);
});

test('a file that breaks off anywhere holds the commits before that, and is not damaged', () => {
  const { file, ends } = fileOf(commits, 1);
  for (let length = 0; length < file.length; length += length > 2_000 && length < file.length - 100 ? 97 : 1) {
    const { frames, damaged } = scan(file.subarray(0, length));
    assert.equal(frames.length, ends.filter((end) => end <= length).length, `cut at ${length}`);
    assert.equal(damaged, 0);
  }
});

test('a bit that flips costs the commit it is in, and no other', () => {
  const { file, ends } = fileOf(commits, 1);
  for (let at = FRAMES_AT; at < file.length; at += at < FRAMES_AT + 300 ? 1 : 997) {
    const bytes = Buffer.from(file);
    bytes.writeUInt8(bytes.readUInt8(at) ^ 4, at);
    const hit = ends.findIndex((end) => at < end) + 1;
    assert.deepEqual(
      numbersIn(bytes),
      [1, 2, 3, 4].filter((number) => number !== hit),
    );
    // Nobody can tell a last one that is damaged from one that was cut off.
    assert.equal(scan(bytes).damaged > 0, hit !== 4);
  }
});

test('the checksum of a commit is the same whether its records are summed anew or not', () => {
  const key = 'i/echo/4/00000000001';
  const size = fc.oneof(fc.integer({ min: 4, max: 40 }), fc.integer({ min: 2_000, max: 20_000 }));
  const value = fc.record({ size, isSummed: fc.boolean(), seed: fc.nat(255) }).map(({ size, isSummed, seed }) => {
    const bytes = Buffer.alloc(size, Buffer.from([seed, 1, 2, 3, size % 251]));
    bytes.writeUInt32LE(crc32(bytes.subarray(4)), 0);
    return { table: 'records', key, value: bytes, isSummed } satisfies Change;
  });
  const removal: Change = { table: 'ids', key: 'a', value: undefined };
  fc.assert(
    fc.property(fc.array(fc.oneof(value, fc.constant(removal)), { maxLength: 6 }), (changes) => {
      const { head, nonce } = newHead();
      const [composed, plain] = [0, 1].map(() => Buffer.alloc(head.length + frameLength(changes))) as [Buffer, Buffer];
      for (const file of [composed, plain]) head.copy(file);
      writeFrame(composed, head.length, nonce, 7, changes);
      writeFrame(
        plain,
        head.length,
        nonce,
        7,
        changes.map(({ table, key, value }) => ({ table, key, value })),
      );
      assert.deepEqual(composed, plain);
      assert.equal(scan(composed).frames.length, 1);
    }),
  );
});

test('a value that changed since it was summed makes its commit one that is not whole', () => {
  const value = Buffer.alloc(10_000, 'x');
  value.writeUInt32LE(crc32(value.subarray(4)), 0);
  value.writeUInt8(0, 5_000);
  const { file } = fileOf([[{ table: 'records', key: 'r', value, isSummed: true }], ...commits.slice(1)], 1);
  assert.deepEqual(numbersIn(file), [2, 3, 4]);
});

test('either head will do; without both of them the first commit tells it, and without that it is damage', () => {
  const { file } = fileOf(commits, 1);
  const flipped = (...places: number[]): Buffer => {
    const bytes = Buffer.from(file);
    for (const at of places) bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
    return bytes;
  };
  assert.deepEqual(numbersIn(flipped(9)), [1, 2, 3, 4]);
  assert.deepEqual(numbersIn(flipped(512 + 9)), [1, 2, 3, 4]);
  assert.deepEqual(numbersIn(flipped(9, 512 + 9)), [1, 2, 3, 4]);
  const lost = { frames: [], damaged: file.length, isForeign: false };
  assert.deepEqual(scan(flipped(9, 512 + 9, FRAMES_AT + 40)), lost);
});

test('what an earlier turn of the file left behind the last commit is not read', () => {
  const older = fileOf(commits, 1).file;
  const newer = fileOf(commits.slice(0, 2), 100);
  newer.file.copy(older);
  assert.deepEqual(numbersIn(older), [100, 101]);
});

test('a content that looks like a frame is never taken for one', () => {
  // All that a sender can know: the layout, and the number that comes next.
  const forged = fileOf([[{ table: 'facts', key: 'owner/root', value: Buffer.from('evil') }]], 2).file.subarray(
    FRAMES_AT,
  );
  const value = Buffer.concat(Array.from({ length: 50 }, () => forged));
  const { file, ends } = fileOf([[{ table: 'records', key: 'r', value }], ...commits.slice(1)], 1);
  assert.deepEqual(numbersIn(file), [1, 2, 3, 4]);
  // Nor when the frame around it is damaged, so that the file is searched; nor when it is all that was left.
  file.writeUInt8(file.readUInt8(FRAMES_AT + 30) ^ 1, FRAMES_AT + 30);
  assert.deepEqual(numbersIn(file), [2, 3, 4]);
  assert.deepEqual(numbersIn(file.subarray(0, ends[0])), []);
});

test('a log of another layout is told from garbage', () => {
  const { file } = fileOf(commits, 1);
  file.write('YGGWAL2\n', 0, 'latin1');
  file.write('YGGWAL2\n', 512, 'latin1');
  assert.equal(scan(file).isForeign, true);
  for (const other of [Buffer.alloc(0), Buffer.alloc(4096), Buffer.from('YGGWAL')])
    assert.deepEqual(scan(other), { frames: [], damaged: 0, isForeign: false });
  assert.deepEqual(scan(Buffer.alloc(9000, 'YGG')), { frames: [], damaged: 9000, isForeign: false });
});
