import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatDuration, formatSize, parseDuration, parseSize } from '../../../src/config/units.js';

test('a duration is a number of seconds, or text with units', () => {
  const cases: [number | string, number | undefined][] = [
    [30, 30_000],
    [0.5, 500],
    ['30', 30_000],
    ['1.5s', 1500],
    ['500ms', 500],
    ['1h30m', 5_400_000],
    ['1m0s', 60_000],
    ['2d', 172_800_000],
    ['', undefined],
    ['5 apples', undefined],
    ['-5s', undefined],
    [-1, undefined],
    [Number.POSITIVE_INFINITY, undefined],
    ['1m 30s', undefined],
  ];
  for (const [text, expected] of cases) assert.equal(parseDuration(text), expected, String(text));
});

test('a size is a number of bytes, or text with a unit', () => {
  const cases: [number | string, number | undefined][] = [
    [1024, 1024],
    ['16MiB', 16 * 2 ** 20],
    ['64 kib', 65_536],
    ['1GB', 1e9],
    ['1.5KiB', 1536],
    ['12', 12],
    ['12B', 12],
    ['12X', undefined],
    [1.5, undefined],
    [-1, undefined],
    ['', undefined],
  ];
  for (const [text, expected] of cases) assert.equal(parseSize(text), expected, String(text));
});

test('what is written is read back as the same amount', () => {
  fc.assert(
    fc.property(fc.nat({ max: 2 ** 40 }), (amount) => {
      assert.equal(parseDuration(formatDuration(amount)), amount);
      assert.equal(parseSize(formatSize(amount)), amount);
    }),
  );
});
