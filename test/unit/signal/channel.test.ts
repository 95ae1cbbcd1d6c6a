/** A channel is bounded, says what it does when full, and hands its entries out in order. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Channel } from '../../../src/signal/index.js';

test('entries come out in the order they went in', async () => {
  const channel = new Channel<number>(3, 'block');
  for (const n of [1, 2, 3]) assert.equal(await channel.put(n), true);
  assert.equal(channel.depth, 3);
  channel.close();
  const got: number[] = [];
  for await (const n of channel) got.push(n);
  assert.deepEqual(got, [1, 2, 3]);
});

test('a taker that waits gets the next entry', async () => {
  const channel = new Channel<string>(1, 'block');
  const taken = channel.take();
  await channel.put('a');
  assert.equal(await taken, 'a');
  assert.equal(channel.depth, 0);
});

test('with block, put waits for room', async () => {
  const channel = new Channel<number>(1, 'block');
  await channel.put(1);
  const second = channel.put(2);
  assert.equal(channel.depth, 1);
  assert.equal(await channel.take(), 1);
  assert.equal(await second, true);
  assert.equal(await channel.take(), 2);
});

test('with drop-oldest, a full channel loses its oldest entry and counts it', async () => {
  const channel = new Channel<number>(2, 'drop-oldest');
  for (const n of [1, 2, 3]) assert.equal(await channel.put(n), true);
  assert.equal(channel.dropped, 1);
  assert.equal(await channel.take(), 2);
});

test('with reject, a full channel refuses and counts it', async () => {
  const channel = new Channel<number>(1, 'reject');
  assert.equal(await channel.put(1), true);
  assert.equal(await channel.put(2), false);
  assert.equal(channel.dropped, 1);
  assert.equal(await channel.take(), 1);
});

test('a closed channel takes nothing more, and lets those who wait go', async () => {
  const channel = new Channel<number>(1, 'block');
  await channel.put(1);
  const waiting = channel.put(2);
  channel.close();
  channel.close();
  assert.equal(await waiting, false);
  assert.equal(await channel.put(3), false);
  assert.equal(await channel.take(), 1);
  assert.equal(await channel.take(), undefined);

  const empty = new Channel<number>(1, 'block');
  const taker = empty.take();
  empty.close();
  assert.equal(await taker, undefined);
});

test('a capacity that is no positive integer is refused', () => {
  for (const capacity of [0, -1, 1.5]) assert.throws(() => new Channel<number>(capacity, 'block'), RangeError);
});
