import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { END } from '../../../src/datastore/journal.js';
import { SortedTable } from '../../../src/datastore/sorted-table.js';
import { between, seeded, testSeed } from '../../support/seeded.js';

type Entry = readonly [string, { readonly n: number }];

suite('a table with its keys in order', () => {
  /** The entries of a Map with after < key < before, in order. */
  function expected(model: ReadonlyMap<string, { n: number }>, after: string, before: string): Entry[] {
    return [...model].filter(([key]) => key > after && key < before).sort(([a], [b]) => (a < b ? -1 : 1));
  }

  test('whatever comes and goes, it holds what a Map would', (t) => {
    const seed = testSeed();
    t.diagnostic(`seed ${seed} (YGG_TEST_SEED=${seed} repeats it)`);
    const random = seeded(seed);
    const table = new SortedTable<{ readonly n: number }>();
    const model = new Map<string, { n: number }>();
    const someKey = (): string => `${'io'.charAt(between(random, 0, 1))}/${between(random, 0, 400)}`;
    for (let n = 0; n < 20_000; n++) {
      const key = someKey();
      // Now more of them come, now more go, so that gaps are made, used and tidied away.
      if (between(random, 0, 9) < (n % 4_000 < 2_000 ? 7 : 2)) {
        table.set(key, { n });
        model.set(key, { n });
      } else {
        table.delete(key);
        model.delete(key);
      }
      assert.deepEqual(table.get(key), model.get(key));
      assert.equal(table.size, model.size);
      if (n % 50 > 0) continue;
      const [after, before] = [someKey(), between(random, 0, 1) === 0 ? END : someKey()];
      const all = expected(model, after, before);
      assert.deepEqual(table.between(after, before), all);
      assert.deepEqual(table.between(after, before, 3), all.slice(0, 3));
    }
    assert.deepEqual(table.between('', END), expected(model, '', END));
  });

  test('two queues beside each other, first in, first out', () => {
    const table = new SortedTable<{ readonly n: number }>();
    const key = (queue: string, n: number): string => `${queue}/${String(n).padStart(6, '0')}`;
    for (let n = 0; n < 5_000; n++) {
      for (const queue of ['i', 'o']) table.set(key(queue, n), { n });
      for (const queue of ['i', 'o']) table.delete(key(queue, n - 100));
      assert.equal(table.get(key('i', n - 100)), undefined);
    }
    assert.equal(table.size, 200);
    const left = Array.from({ length: 100 }, (_, n) => 4_900 + n);
    const keys = table.between('', END).map(([name]) => name);
    assert.deepEqual(keys, [...left.map((n) => key('i', n)), ...left.map((n) => key('o', n))]);
  });
});
