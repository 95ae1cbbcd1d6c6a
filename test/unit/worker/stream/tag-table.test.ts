import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TagTable } from '../../../../src/worker/stream/tag-table.js';

test('whatever tags an agent chooses, the table holds what a Map would', () => {
  const tag = fc.oneof(
    fc.integer({ min: 0, max: 40 }),
    fc.constantFrom(2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32 - 8, 8, 16, 24),
  );
  const operation = fc.tuple(tag, fc.constantFrom('add', 'add', 'delete', 'clear'));
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 100 }), (operations) => {
      const table = new TagTable<string>(4);
      const model = new Map<number, string>();
      for (const [at, what] of operations) {
        if (what === 'clear' && at === 0) {
          assert.deepEqual(table.clear().sort(), [...model.values()].sort());
          model.clear();
        } else if (what === 'delete') assert.equal(table.delete(at), model.delete(at));
        else if (!model.has(at)) {
          table.add(at, String(at));
          model.set(at, String(at));
        }
        assert.equal(table.size, model.size);
        for (const each of [at, 8, 16, 24]) assert.equal(table.get(each), model.get(each));
      }
    }),
  );
});
