/** Calls that wait for their answer, with one timer for all. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Patience } from '../../../src/dispatcher/patience.js';
import { FakeClock } from '../../support/clock.js';

test('each call is given up in its time, unless it was answered', async () => {
  const clock = new FakeClock();
  const patience = new Patience(clock, 900);
  const given: string[] = [];
  const calls = ['a', 'b', 'c'].map((name) => () => void given.push(name));
  const [a, b, c] = calls as [() => void, () => void, () => void];
  const first = patience.begin(a);
  await clock.advance(500);
  const second = patience.begin(b);
  patience.begin(c);
  assert.equal(patience.end(second), true);
  await clock.advance(399);
  assert.deepEqual(given, []);
  await clock.advance(1);
  assert.deepEqual(given, ['a']);
  assert.equal(patience.end(first), false, 'it was given up');
  await clock.advance(499);
  assert.deepEqual(given, ['a']);
  await clock.advance(1);
  assert.deepEqual(given, ['a', 'c']);
  patience.begin(a);
  await clock.advance(900);
  assert.deepEqual(given, ['a', 'c', 'a'], 'the timer is set again after all were gone');
});

test('once closed nothing is given up, and no timer is left', async () => {
  const clock = new FakeClock();
  const patience = new Patience(clock, 900);
  patience.begin(() => assert.fail('it was given up'));
  patience.close();
  await clock.advance(10_000);
});
