// In which order bodies of deliveries go out.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Chunk } from '../../../protocol/generated/stream.js';
import { OutgoingBodies } from '../../../src/dispatcher/stream/outgoing.js';
import { settle } from '../../support/clock.js';

const MIB = 1024 * 1024;

/** Bodies of so many bytes each, all of them there before the way is; the chunks that went, and how many were open at most. */
function scene(sizes: readonly number[]): {
  readonly bodies: OutgoingBodies;
  readonly sent: Chunk[];
  readonly open: { now: number; most: number };
  readonly run: () => Promise<void>;
} {
  const open = { now: 0, most: 0 };
  const bodies = new OutgoingBodies({
    openContent: ({ size }) => {
      open.most = Math.max(open.most, ++open.now);
      let at = 0;
      return Promise.resolve({
        next: (most) => {
          const bytes = Buffer.alloc(Math.min(most, size - at));
          at += bytes.length;
          return Promise.resolve({ bytes, isLast: at === size });
        },
        close: () => {
          open.now -= 1;
          return Promise.resolve();
        },
      });
    },
  });
  const sent: Chunk[] = [];
  const unreadable = (): void => assert.fail('every body can be read');
  for (const [n, size] of sizes.entries()) bodies.send(n + 1, { kind: 'file', path: String(n), size }, unreadable);
  const run = async (): Promise<void> => {
    bodies.attach((chunk) => {
      sent.push(chunk);
      return Promise.resolve();
    });
    for (let turns = 0; turns < 50; turns++) await settle();
  };
  return { bodies, sent, open, run };
}

const ids = (chunks: readonly Chunk[]): number[] => chunks.map(({ id }) => id);

test('short bodies go one after the other, so that one of them is in memory', async () => {
  const { bodies, sent, open, run } = scene([MIB, MIB, 300_000, MIB]);
  await run();
  assert.deepEqual(ids(sent), [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 4, 4, 4]);
  assert.deepEqual([open.most, open.now, bodies.count], [1, 0, 0]);
  bodies.close();
});

test('long ones go in turn, as far as their credits, and a short one between them is not held up', async () => {
  const { bodies, sent, run } = scene([3 * MIB, 3 * MIB, MIB]);
  await run();
  assert.deepEqual(ids(sent), [1, 2, 3, 3, 3, 3, 1, 2, 1, 2, 1, 2]);
  // What is credited lets the first go to its end, and the other waits for its own.
  bodies.credit({ id: 1, bytes: BigInt(MIB), stop: false });
  await settle();
  bodies.credit({ id: 1, bytes: BigInt(MIB), stop: false });
  for (let turns = 0; turns < 50; turns++) await settle();
  assert.deepEqual(ids(sent.slice(12)), [1, 1, 1, 1, 1, 1, 1, 1]);
  assert.equal(sent.at(-1)?.last, true);
  assert.equal(bodies.count, 1);
  bodies.close();
});

test('one that is not wanted any more ends in the midst, and the next begins', async () => {
  const { bodies, sent } = scene([MIB, 100_000]);
  bodies.attach((chunk) => {
    sent.push(chunk);
    if (sent.length === 2) bodies.stop(1);
    return Promise.resolve();
  });
  for (let turns = 0; turns < 50; turns++) await settle();
  assert.deepEqual(ids(sent), [1, 1, 1, 2]);
  assert.deepEqual([sent[2]?.last, sent[2]?.aborted, sent[3]?.last, sent[3]?.aborted], [true, true, true, false]);
  assert.equal(bodies.count, 0);
  bodies.close();
});
