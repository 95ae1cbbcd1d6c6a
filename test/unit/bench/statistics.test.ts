/** The arithmetic of the benchmark. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { latencyOf, median, percentile } from '../../../bench/statistics.js';

test('a percentile is the value of the nearest rank', () => {
  const values = Array.from({ length: 100 }, (_, index) => index + 1);
  assert.equal(percentile(values, 0.5), 50);
  assert.equal(percentile(values, 0.99), 99);
  assert.equal(percentile(values, 1), 100);
  assert.equal(percentile([7], 0.01), 7);
  assert.ok(Number.isNaN(percentile([], 0.5)));
});

test('the latencies of a round come in any order and stay as they are', () => {
  const values = [30, 10, 20];
  assert.deepEqual(latencyOf(values), { p50: 20, p95: 30, p99: 30 });
  assert.deepEqual(values, [30, 10, 20]);
});

test('a median is the middle one, or the mean of two, and knows no NaN', () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.equal(median([10, Number.NaN, 9, 100]), 10);
  assert.ok(Number.isNaN(median([])));
});
