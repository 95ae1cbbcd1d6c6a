import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Meter } from '../../../src/dispatcher/meter.js';

test('what happened in the last minute is counted, and forgotten after it', () => {
  const meter = new Meter();
  for (let second = 100; second < 160; second++) meter.count(second * 1000);
  assert.deepEqual([meter.total, meter.lastMinute(159_999)], [60, 60]);
  // To five seconds.
  assert.equal(meter.lastMinute(190_000), 25);
  assert.equal(meter.lastMinute(215_000), 0);
  meter.count(1e12);
  assert.deepEqual([meter.total, meter.lastMinute(1e12)], [61, 1]);
});

test('a meter that nothing was counted with is at zero', () => {
  assert.deepEqual([new Meter().total, new Meter().lastMinute(5e9)], [0, 0]);
});
