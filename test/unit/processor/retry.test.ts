import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  fetchVerdict,
  LONGEST_RETRY_AFTER,
  parseRetryAfter,
  postVerdict,
  retryDelay,
} from '../../../src/processor/retry.js';

const by = (verdict: (status: number) => string, statuses: readonly number[]): readonly string[] =>
  statuses.map(verdict);

test('a fetch ends with a 2xx, gives up at a 4xx that time will not mend, and tries again after all else', () => {
  assert.deepEqual(by(fetchVerdict, [200, 204, 299]), ['ok', 'ok', 'ok']);
  assert.deepEqual(by(fetchVerdict, [400, 401, 404, 410, 499]), ['final', 'final', 'final', 'final', 'final']);
  assert.deepEqual(by(fetchVerdict, [304, 408, 425, 429, 500, 599]), [
    'retry',
    'retry',
    'retry',
    'retry',
    'retry',
    'retry',
  ]);
});

test('a POST ends with a 2xx, is repeated after 408, 429 and 5xx, and is given up after all else', () => {
  assert.deepEqual(by(postVerdict, [200, 202]), ['ok', 'ok']);
  assert.deepEqual(by(postVerdict, [408, 429, 500, 503]), ['retry', 'retry', 'retry', 'retry']);
  assert.deepEqual(by(postVerdict, [301, 307, 400, 404, 425]), ['final', 'final', 'final', 'final', 'final']);
});

test('the wait doubles from one second to a minute, with full jitter, and is never shorter than Retry-After', () => {
  const most = (failures: number): number => retryDelay(failures, undefined, () => 1);
  assert.deepEqual([0, 1, 2, 5, 6, 50].map(most), [1000, 2000, 4000, 32_000, 60_000, 60_000]);
  assert.equal(
    retryDelay(5, undefined, () => 0),
    0,
  );
  assert.equal(
    retryDelay(0, 90_000, () => 1),
    90_000,
  );
});

test('Retry-After is read as seconds or as a date, and is capped', () => {
  const now = Date.parse('2026-01-01T00:00:00Z');
  assert.equal(parseRetryAfter('120', now), 120_000);
  assert.equal(parseRetryAfter(['7', '8'], now), 7000);
  assert.equal(parseRetryAfter('Thu, 01 Jan 2026 00:01:00 GMT', now), 60_000);
  assert.equal(parseRetryAfter('Wed, 31 Dec 2025 00:00:00 GMT', now), 0);
  assert.equal(parseRetryAfter('99999999', now), LONGEST_RETRY_AFTER);
  for (const value of [undefined, '', 'soon', '-5', '1.5']) assert.equal(parseRetryAfter(value, now), undefined);
});
