import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AtOnce } from '../../../src/datastore/at-once.js';
import { settle } from '../../support/clock.js';

test('no more run at once than may, and the others begin in order, also behind one that failed', async () => {
  const atOnce = new AtOnce(2);
  const begun: number[] = [];
  const ends: ((error?: Error) => void)[] = [];
  const run = (name: number): Promise<number> =>
    atOnce.run(() => {
      begun.push(name);
      return new Promise((resolve, reject) => ends.push((error) => (error ? reject(error) : resolve(name))));
    });

  const runs = [1, 2, 3, 4].map(run);
  assert.deepEqual(begun, [1, 2], 'in this turn');

  ends[0]?.(new Error('the disk is full'));
  await assert.rejects(runs[0] ?? Promise.resolve(), /the disk is full/);
  const late = run(5);
  await settle();
  assert.deepEqual(begun, [1, 2, 3], 'the place of the first is the next one’s, not that of who comes then');

  ends[1]?.();
  ends[2]?.();
  await settle();
  assert.deepEqual(begun, [1, 2, 3, 4, 5]);
  ends[3]?.();
  ends[4]?.();
  assert.deepEqual(await Promise.all([...runs.slice(1), late]), [2, 3, 4, 5]);

  const last = [run(6), run(7), run(8)];
  assert.deepEqual(begun.slice(5), [6, 7], 'both places are free again, and no more');
  for (const end of ends.slice(5)) end();
  await settle();
  ends[7]?.();
  assert.deepEqual(await Promise.all(last), [6, 7, 8]);
});
