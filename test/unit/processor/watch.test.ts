import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startWatch } from '../../../src/processor/watch.js';
import { FakeClock } from '../../support/clock.js';

const LIMITS = { stall: 30_000, total: 100_000 };

test('an exchange ends when nothing came for the stall time, however often something came before', async () => {
  const clock = new FakeClock();
  using watch = startWatch(clock, LIMITS, new AbortController().signal);
  await clock.advance(29_000);
  watch.progress();
  await clock.advance(29_000);
  assert.equal(watch.signal.aborted, false);
  await clock.advance(1_000);
  assert.match(String(watch.signal.reason), /nothing came for 30 s/);
  assert.equal(clock.pending, 0);
});

test('an exchange that drips for ever ends after the total time', async () => {
  const clock = new FakeClock();
  using watch = startWatch(clock, LIMITS, new AbortController().signal);
  for (let second = 0; second < 99; second++) {
    await clock.advance(1_000);
    watch.progress();
  }
  assert.equal(watch.signal.aborted, false);
  await clock.advance(1_000);
  assert.match(String(watch.signal.reason), /not done after 100 s/);
});

test('an exchange ends with its scope and with its reason, and a watch that is over leaves no timer', () => {
  const clock = new FakeClock();
  const scope = new AbortController();
  const watch = startWatch(clock, LIMITS, scope.signal);
  const over = startWatch(clock, LIMITS, scope.signal);
  over[Symbol.dispose]();
  scope.abort(new Error('stopped'));
  assert.match(String(watch.signal.reason), /stopped/);
  assert.equal(over.signal.aborted, false);
  assert.equal(clock.pending, 0);
  assert.equal(startWatch(clock, LIMITS, scope.signal).signal.aborted, true);
  watch[Symbol.dispose]();
});
