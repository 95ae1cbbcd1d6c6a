import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Lanes } from '../../../src/worker/lanes.js';

const always = (): boolean => true;

function all(lanes: Lanes<string>): string[] {
  const taken: string[] = [];
  for (let item = lanes.take(always); item !== undefined; item = lanes.take(always)) taken.push(item);
  return taken;
}

test('the greater priority goes first, and one lane keeps its order', () => {
  const lanes = new Lanes<string>();
  for (const [priority, item] of [
    [5, 'a'],
    [5, 'b'],
    [9, 'c'],
    [0, 'd'],
  ] as const)
    lanes.add(priority, item);
  assert.deepEqual(all(lanes), ['c', 'a', 'b', 'd']);
  assert.equal(lanes.size, 0);
});

test('every eighth turn is the oldest one’s', () => {
  const lanes = new Lanes<string>();
  lanes.add(0, 'old');
  for (let i = 0; i < 10; i++) lanes.add(9, `new ${i}`);
  assert.equal(all(lanes).indexOf('old'), 7);
});

test('the first of a lane that is not ready holds up its lane and no other', () => {
  const lanes = new Lanes<string>();
  lanes.add(9, 'large');
  lanes.add(9, 'behind it');
  lanes.add(1, 'small');
  const isReady = (item: string): boolean => item !== 'large';
  assert.equal(lanes.take(isReady), 'small');
  assert.equal(lanes.take(isReady), undefined);
  assert.deepEqual(all(lanes), ['large', 'behind it']);
});

test('what is pruned never comes, and the rest keeps its order', () => {
  const lanes = new Lanes<string>();
  for (const item of ['a', 'b', 'c', 'd']) lanes.add(3, item);
  assert.equal(lanes.take(always), 'a');
  lanes.prune((item) => item === 'c');
  assert.equal(lanes.size, 2);
  assert.deepEqual(all(lanes), ['b', 'd']);
});

test('whatever is added comes once, each lane in its order', () => {
  const operations = fc.array(fc.oneof(fc.integer({ min: 0, max: 9 }), fc.constant('take' as const)), {
    maxLength: 200,
  });
  fc.assert(
    fc.property(operations, (list) => {
      const lanes = new Lanes<{ priority: number; order: number }>();
      const taken: { priority: number; order: number }[] = [];
      let order = 0;
      const take = (): boolean => {
        const item = lanes.take(always);
        if (item !== undefined) taken.push(item);
        return item !== undefined;
      };
      for (const operation of list) {
        if (operation === 'take') take();
        else lanes.add(operation, { priority: operation, order: order++ });
      }
      while (take());
      assert.equal(taken.length, order);
      for (let priority = 0; priority < 10; priority++) {
        const lane = taken.filter((item) => item.priority === priority).map((item) => item.order);
        assert.deepEqual(
          lane,
          lane.toSorted((a, b) => a - b),
        );
      }
    }),
  );
});
