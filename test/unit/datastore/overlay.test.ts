/** What lies over the tables, held against a Map: also where a key changes several times in one commit. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { Value } from '../../../src/datastore/journal.js';
import { Overlay } from '../../../src/datastore/overlay.js';
import { between, seeded, testSeed } from '../../support/seeded.js';

const KEYS = Array.from({ length: 12 }, (_, n) => `k${String(n).padStart(2, '0')}`);

suite('what lies over the tables', () => {
  for (const table of ['records', 'ids'] as const) {
    test(`whatever comes and goes in one commit, it holds what the ${table} below do not`, (t) => {
      const seed = testSeed();
      t.diagnostic(`seed ${seed} (YGG_TEST_SEED=${seed} repeats it)`);
      const random = seeded(seed);
      for (let round = 0; round < 200; round++) {
        const below = new Set(KEYS.filter(() => random() < 0.3));
        const [byEntries, byBytes] = [
          new Overlay({ entries: 1, bytes: Infinity }),
          new Overlay({ entries: Infinity, bytes: 1 }),
        ];
        const expected = new Map<string, Value | undefined>();
        for (let commit = 0; commit < 10; commit++) {
          const changes = Array.from({ length: between(random, 1, 8) }, () => {
            const value = random() < 0.5 ? undefined : 'x'.repeat(between(random, 0, 5));
            return { table, key: KEYS[between(random, 0, KEYS.length - 1)] ?? '', value };
          });
          for (const overlay of [byEntries, byBytes]) {
            // As the journal does it: all of a commit is looked up before any of it is there.
            const found = changes.map(({ key }) => overlay.get(table, key) ?? below.has(key));
            for (const [n, change] of changes.entries()) overlay.set(change, found[n] ?? false);
          }
          for (const { key, value } of changes) {
            if (value === undefined && !below.has(key)) expected.delete(key);
            else expected.set(key, value);
          }
          const sorted = [...expected].sort(([a], [b]) => (a < b ? -1 : 1));
          assert.deepEqual(
            byEntries.changes().map(({ key, value }) => [key, value]),
            sorted,
          );
          let growth = 0;
          let bytes = 0;
          for (const [key, value] of sorted) {
            growth += Number(value !== undefined) - Number(below.has(key));
            bytes += value?.length ?? 0;
          }
          assert.deepEqual([byEntries.growth(table), byEntries.fill, byBytes.fill], [growth, expected.size, bytes]);
        }
      }
    });
  }
});
