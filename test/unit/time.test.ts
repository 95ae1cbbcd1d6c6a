import assert from 'node:assert/strict';
import { test } from 'node:test';
import { untilBeat } from '../../src/time.js';
import { FakeClock } from '../support/clock.js';

test('whenever they began, those that share an interval meet at its multiples', async () => {
  const clock = new FakeClock();
  for (const [at, left] of [
    [0, 1_000],
    [300, 700],
    [500, 500],
    // A beat that is nearly there is the next one's: nothing follows closely on itself.
    [501, 1_499],
    [999, 1_001],
    [1_000, 1_000],
  ] as const) {
    await clock.advance(at - clock.monotonic());
    assert.equal(untilBeat(clock, 1_000), left, `at ${at}`);
  }
});
