import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { joinedCrc } from '../../../src/datastore/joined-crc.js';

test('the crc of two parts is that of both together', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.uint8Array({ maxLength: 300 }), (first, second) => {
      const both = crc32(Buffer.concat([first, second]));
      assert.equal(joinedCrc(crc32(first), crc32(second), second.length), both);
    }),
  );
});

test('for every bit of a length', () => {
  const bytes = Buffer.alloc(2 ** 25 + 1, 'some text');
  const first = Buffer.from('what stands before');
  for (let size = 1; size < bytes.length; size *= 2) {
    for (const length of [size - 1, size, size + 1]) {
      const second = bytes.subarray(0, length);
      assert.equal(joinedCrc(crc32(first), crc32(second), length), crc32(second, crc32(first)), String(length));
    }
  }
});
