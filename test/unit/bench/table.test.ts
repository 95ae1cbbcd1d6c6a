/** What a person reads of a benchmark. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { figure, megabytes, table } from '../../../bench/table.js';

test('a table is Markdown whose columns stand below each other', () => {
  const text = table(
    ['row', 'msg/s'],
    [
      ['unary/100B/16', '1,234'],
      ['x', '–'],
    ],
  );
  assert.deepEqual(text.split('\n'), [
    '| row           | msg/s |',
    '| ------------- | ----: |',
    '| unary/100B/16 | 1,234 |',
    '| x             |     – |',
  ]);
});

test('a figure has three digits, or as many as it has before the point', () => {
  assert.deepEqual([0, 0.1234, 1.2345, 12.345, 123.45, 12_345.6, -1.5].map(figure), [
    '0',
    '0.12',
    '1.23',
    '12.3',
    '123',
    '12,346',
    '-1.50',
  ]);
  assert.equal(figure(undefined), '–');
  assert.equal(figure(Number.NaN), '–');
  assert.equal(megabytes(91_800_000), '91.8');
});
