import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { SlotTable } from '../../../src/signal/index.js';

interface Item {
  readonly number: number;
}

test('whatever numbers are chosen, the table holds what a Map would', () => {
  const number = fc.oneof(
    fc.integer({ min: 0, max: 40 }),
    fc.integer({ min: 0, max: 20_000 }).map((each) => each * 16),
    fc.constantFrom(
      2 ** 31 - 1,
      2 ** 31,
      2 ** 32 - 1,
      2 ** 32 - 8,
      2 ** 32,
      2 ** 40 + 8,
      Number.MAX_SAFE_INTEGER,
      8,
      16,
      24,
    ),
  );
  const operation = fc.tuple(number, fc.constantFrom('add', 'add', 'delete', 'clear'));
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 200 }), (operations) => {
      const table = new SlotTable<Item>();
      const model = new Map<number, Item>();
      for (const [at, what] of operations) {
        if (what === 'clear' && at === 0) {
          table.clear();
          model.clear();
        } else if (what === 'delete') assert.equal(table.delete(at), model.delete(at));
        else if (!model.has(at)) {
          const item = { number: at };
          table.add(at, item);
          model.set(at, item);
        }
        assert.equal(table.size, model.size);
        for (const each of [at, 8, 16, 24]) {
          assert.equal(table.get(each), model.get(each));
          assert.equal(
            table.find((item) => item.number === each),
            model.get(each),
          );
        }
        assert.deepEqual(
          table.values(),
          [...model.values()].sort((a, b) => a.number - b.number),
        );
      }
    }),
  );
});

test('numbers that count up find their slots also beside one that stays, and when there are thousands', () => {
  const table = new SlotTable<Item>();
  table.add(3, { number: 3 });
  for (let next = 4; next < 50_000; next++) {
    table.add(next, { number: next });
    if (next >= 1004) assert.ok(table.delete(next - 1000));
  }
  assert.equal(table.size, 1001);
  assert.equal(table.get(3)?.number, 3);
  assert.equal(table.values().length, 1001);
  for (const { number } of table.values()) assert.equal(table.get(number)?.number, number);
});
