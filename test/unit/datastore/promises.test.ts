/** Promises on a message's way: made in this turn, and never a throw where a caller awaits. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deferred, inThisTurn } from '../../../src/datastore/promises.js';

test('work is done in this turn, and what it throws rejects', async () => {
  let isDone = false;
  const done = inThisTurn(() => {
    isDone = true;
    return Promise.resolve('value');
  });
  assert.equal(isDone, true);
  assert.equal(await done, 'value');
  const failed = inThisTurn(() => {
    throw new RangeError('at once');
  });
  await assert.rejects(failed, /at once/);
});

test('many wait for one', async () => {
  const [good, bad] = [deferred(), deferred()];
  const all = Promise.all([good.done, good.done.then(() => 'two')]);
  good.resolve();
  assert.deepEqual(await all, [undefined, 'two']);
  bad.reject(new Error('no'));
  await assert.rejects(bad.done, /no/);
});
