/** Bodies of results on their way in: what becomes of one that comes, or fails, before a result has named it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { BodyCredit, Chunk } from '../../../protocol/generated/stream.js';
import { IncomingBodies, type Arrival } from '../../../src/dispatcher/stream/incoming.js';

interface Rig {
  readonly bodies: IncomingBodies;
  readonly credits: BodyCredit[];
  readonly arrivals: Arrival[];
  readonly expect: (id: number, size: number) => void;
}

/** Bodies on a disk that takes nothing. */
function fullDisk(): Rig {
  const credits: BodyCredit[] = [];
  const arrivals: Arrival[] = [];
  const full = (): Promise<never> => Promise.reject(new Error('ENOSPC'));
  const bodies = new IncomingBodies({
    files: { newContentFile: () => ({ write: full, finish: full, discard: () => Promise.resolve() }) },
    bodies: 8,
    credit: (credit) => credits.push(credit),
    onPressure: () => undefined,
  });
  return { bodies, credits, arrivals, expect: (id, size) => bodies.expect(id, size, (each) => arrivals.push(each)) };
}

function chunk(id: number, offset: number, size: number, end: Partial<Chunk> = {}): Chunk {
  return { id, offset: BigInt(offset), data: Buffer.alloc(size), last: false, aborted: false, ...end };
}

const BROKEN = [{ kind: 'broken', reason: 'the agent could not write it: ENOSPC' }];

test('a whole body that could not be written is told as broken to the result that names it then', async () => {
  const { bodies, arrivals, expect } = fullDisk();
  bodies.chunk(chunk(1, 0, 100_000, { last: true }));
  await turn();
  expect(1, 100_000);
  await turn();
  assert.deepEqual(arrivals, BROKEN);
  assert.equal(bodies.count, 0);
});

test('so is one of which more is to come, which is dropped', async () => {
  for (const isNamedFirst of [true, false]) {
    const { bodies, credits, arrivals, expect } = fullDisk();
    bodies.chunk(chunk(1, 0, 100_000));
    await turn();
    assert.deepEqual(credits, [{ id: 1, bytes: 0n, stop: true }]);
    bodies.chunk(chunk(1, 100_000, 100));
    if (isNamedFirst) expect(1, 200_000);
    await turn();
    bodies.chunk(chunk(1, 100_100, 0, { last: true, aborted: true }));
    if (!isNamedFirst) expect(1, 200_000);
    await turn();
    assert.deepEqual(arrivals, BROKEN);
    assert.equal(bodies.count, 0);
  }
});

test('a body that the worker breaks off before its result is told as broken, and breaks no rule', async () => {
  const { bodies, arrivals, expect } = fullDisk();
  bodies.chunk(chunk(1, 0, 100));
  bodies.chunk(chunk(1, 100, 0, { last: true, aborted: true }));
  expect(1, 2000);
  await turn();
  assert.deepEqual(arrivals, [{ kind: 'broken', reason: 'the worker could not read the body to its end' }]);
  assert.equal(bodies.count, 0);
});

test('one that failed and is not wanted by its result leaves nothing', async () => {
  for (const last of [true, false]) {
    const { bodies, credits, arrivals } = fullDisk();
    bodies.chunk(chunk(1, 0, 100_000, { last }));
    await turn();
    bodies.stop(1);
    if (!last) bodies.chunk(chunk(1, 100_000, 0, { last: true, aborted: true }));
    await turn();
    assert.deepEqual([bodies.count, arrivals.length, credits.length], [0, 0, last ? 0 : 1]);
  }
});
