/** Promises on a message's way: one for many, and never a throw where a caller awaits. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deferred, rejected } from '../../../src/datastore/promises.js';

test('what was thrown rejects, as an error whatever it was', async () => {
  await assert.rejects(rejected(new RangeError('at once')), RangeError);
  await assert.rejects(rejected('a text'), /^Error: a text$/);
});

test('many wait for one', async () => {
  const [good, bad] = [deferred(), deferred()];
  const all = Promise.all([good.done, good.done.then(() => 'two')]);
  good.resolve();
  assert.deepEqual(await all, [undefined, 'two']);
  bad.reject(new Error('no'));
  await assert.rejects(bad.done, /no/);
});
