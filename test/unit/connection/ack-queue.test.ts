import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { AckQueue } from '../../../src/connection/ack-queue.js';
import { TurnEnd } from '../../../src/connection/turn-end.js';
import { settle } from '../../support/clock.js';

/** A queue that is flushed at the end of each turn in which something became due. */
function queueInto(writes: Buffer[]): AckQueue {
  const turnEnd = new TurnEnd(() => queue.flush());
  const queue = new AckQueue(
    (bytes) => writes.push(bytes),
    () => turnEnd.set(),
  );
  return queue;
}

/** A message that arrived, and its place in the queue. */
interface Arrived {
  readonly packetId: number;
  readonly place: number;
}

function arrived(queue: AckQueue, packetId: number): Arrived {
  return { packetId, place: queue.arrived(packetId) };
}

function idsOf(writes: readonly Buffer[]): number[] {
  return writes.flatMap((bytes) => {
    const ids: number[] = [];
    for (let at = 0; at < bytes.length; at += 4) {
      assert.deepEqual([bytes[at], bytes[at + 1]], [0x40, 2]);
      ids.push(bytes.readUInt16BE(at + 2));
    }
    return ids;
  });
}

test('what becomes due in one turn goes out in one write, in the order of arrival', async () => {
  const writes: Buffer[] = [];
  const queue = queueInto(writes);
  const entries = [300, 2, 65_535].map((id) => arrived(queue, id));
  for (const entry of entries.toReversed()) queue.acknowledge(entry.place);
  assert.equal(queue.depth, 3);
  await settle();
  assert.equal(writes.length, 1);
  assert.deepEqual(idsOf(writes), [300, 2, 65_535]);
  assert.equal(queue.depth, 0);
});

test('for any order of acknowledgement, what is written is the head run', () => {
  fc.assert(
    fc.property(fc.shuffledSubarray(Array.from({ length: 40 }, (_, i) => i + 1)), (order) => {
      const writes: Buffer[] = [];
      const queue = queueInto(writes);
      const entries = Array.from({ length: 40 }, (_, i) => arrived(queue, i + 1));
      const acked = new Set<number>();
      for (const id of order) {
        queue.acknowledge(entries[id - 1]!.place);
        acked.add(id);
        queue.flush();
        let head = 0;
        while (acked.has(head + 1)) head += 1;
        assert.deepEqual(
          idsOf(writes),
          Array.from({ length: head }, (_, i) => i + 1),
        );
      }
      queue.close();
    }),
    { numRuns: 50 },
  );
});

test('it holds its order over thousands, and forgets what is done', () => {
  const writes: Buffer[] = [];
  const queue = queueInto(writes);
  const entries = Array.from({ length: 5_000 }, (_, i) => arrived(queue, i + 1));
  for (const entry of entries) {
    queue.acknowledge(entry.place);
    if (entry.packetId % 100 === 0) queue.flush();
  }
  assert.deepEqual(
    idsOf(writes),
    entries.map((entry) => entry.packetId),
  );
  queue.close();
});

test('one that is acknowledged again, at whatever time, moves nothing', () => {
  const writes: Buffer[] = [];
  const queue = queueInto(writes);
  const [first, second, third] = [arrived(queue, 7), arrived(queue, 65_535), arrived(queue, 7)];
  queue.acknowledge(second.place);
  queue.acknowledge(second.place);
  queue.acknowledge(first.place);
  queue.flush();
  for (const { place } of [first, second]) queue.acknowledge(place);
  assert.equal(queue.flush(), false);
  queue.acknowledge(third.place);
  queue.flush();
  // The queue is empty, and its places count on.
  for (const { place } of [first, second, third]) queue.acknowledge(place);
  const last = arrived(queue, 9);
  assert.equal(queue.flush(), false);
  queue.acknowledge(last.place);
  queue.flush();
  assert.deepEqual(idsOf(writes), [7, 65_535, 7, 9]);
  queue.close();
});

test('a closed queue writes nothing, and an acknowledgement that comes late does nothing', async () => {
  const writes: Buffer[] = [];
  const queue = queueInto(writes);
  const [first, second] = [arrived(queue, 1), arrived(queue, 2)];
  queue.acknowledge(first.place);
  queue.close();
  queue.acknowledge(second.place);
  await settle();
  queue.flush();
  assert.equal(writes.length, 0);
  assert.equal(queue.depth, 0);
});
