import assert from 'node:assert/strict';
import { finished } from 'node:stream/promises';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Chunk } from '../../../../protocol/generated/stream.js';
import { OutgoingBodies } from '../../../../src/worker/stream/outgoing.js';
import { RuleBroken } from '../../../../src/worker/stream/rules.js';
import { BODY_WINDOW, StreamBody } from '../../../../src/worker/stream/stream-body.js';

const KIB = 1024;

interface Rig {
  readonly body: StreamBody;
  credited: number;
  stops: number;
  /** Puts so many bytes in, at the place where they belong. */
  push(length: number, more?: Partial<Chunk>): void;
}

function rig(size: number): Rig {
  let offset = 0;
  const made: Rig = {
    body: new StreamBody(size, {
      credit: (bytes) => (made.credited += bytes),
      stop: () => (made.stops += 1),
    }),
    credited: 0,
    stops: 0,
    push: (length, more = {}) => {
      const data = Buffer.alloc(length, offset % 251);
      made.body.push({ id: 1, offset: BigInt(offset), data, last: offset + length === size, aborted: false, ...more });
      offset += length;
    },
  };
  return made;
}

test('a body that nobody asks for holds what comes without credit, and gives none', () => {
  const r = rig(3 * BODY_WINDOW);
  for (let i = 0; i < 8; i++) r.push(128 * KIB);
  assert.equal(r.credited, 0);
  assert.throws(() => r.push(1), RuleBroken);
});

test('collected, it gives credit for what came, and none that the sender does not need', async () => {
  const r = rig(BODY_WINDOW + 256 * KIB);
  const whole = r.body.collect();
  for (let i = 0; i < 5; i++) r.push(256 * KIB);
  assert.equal((await whole).length, BODY_WINDOW + 256 * KIB);
  assert.equal(r.credited, 256 * KIB);
});

test('a body of the first window needs no credit at all, and one of nothing is whole by its last chunk', async () => {
  const r = rig(BODY_WINDOW);
  const whole = r.body.collect();
  for (let i = 0; i < 4; i++) r.push(256 * KIB);
  await whole;
  assert.equal(r.credited, 0);
  const nothing = rig(0);
  nothing.push(0);
  assert.equal((await nothing.body.collect()).length, 0);
});

test('as a stream it gives credit as it is read', async () => {
  const r = rig(4 * BODY_WINDOW);
  for (let i = 0; i < 8; i++) r.push(128 * KIB);
  const stream = r.body.stream();
  assert.equal(r.body.stream(), stream);
  assert.equal(r.credited, 0);
  const iterator = stream[Symbol.asyncIterator]();
  await iterator.next();
  assert.ok(r.credited >= 128 * KIB && r.credited < BODY_WINDOW, String(r.credited));
  stream.destroy();
  assert.equal(r.stops, 1);
});

test('a stream has all bytes in order, and then ends', async () => {
  const r = rig(300 * KIB);
  const chunks: Buffer[] = [];
  r.body.stream().on('data', (chunk: Buffer) => chunks.push(chunk));
  r.push(100 * KIB);
  r.push(200 * KIB, { last: false });
  r.push(0);
  await finished(r.body.stream());
  const whole = Buffer.concat(chunks);
  assert.equal(whole.length, 300 * KIB);
  assert.deepEqual([whole[0], whole[100 * KIB]], [0, (100 * KIB) % 251]);
});

test('what is broken off fails whoever waits for it, and whoever asks later', async () => {
  const collected = rig(100);
  const whole = collected.body.collect();
  collected.push(100, { aborted: true });
  await assert.rejects(whole, /could not read/);
  const streamed = rig(100);
  const stream = streamed.body.stream();
  streamed.body.fail(new Error('gone'));
  await assert.rejects(finished(stream), /gone/);
  await assert.rejects(streamed.body.collect(), /gone/);
});

test('what is stopped is dropped until its last chunk, and its stream ends early', async () => {
  const r = rig(1_000);
  r.push(100);
  const stream = r.body.stream();
  r.body.stop();
  r.body.stop();
  await assert.rejects(finished(stream), { code: 'ERR_STREAM_PREMATURE_CLOSE' });
  r.push(100);
  r.push(0, { last: true, aborted: true });
  assert.equal(r.stops, 1);
  assert.equal(r.body.isLast, true);
});

test('chunks out of order, too long, too many or after the last one break a rule', () => {
  assert.throws(() => rig(100).push(10, { offset: 5n }), /at 5 where 0 was to come/);
  assert.throws(() => rig(100).push(101), /longer than its 100 bytes/);
  assert.throws(() => rig(1_000_000).push(256 * KIB + 1), /has 262145 bytes/);
  assert.throws(() => rig(100).push(10, { last: true }), /ends before its time/);
  assert.throws(() => rig(100).push(10, { aborted: true }), /aborted by a chunk that is not its last/);
  const ended = rig(10);
  ended.push(10);
  assert.throws(() => ended.push(0), /after its last one/);
});

test('bodies go out side by side, each whole and within its credit, no more at once than the agent takes', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 3 * BODY_WINDOW }), { maxLength: 6 }),
      fc.integer({ min: 1, max: 3 }),
      (sizes, most) => {
        const bodies = new OutgoingBodies();
        bodies.most = most;
        for (const [id, size] of sizes.entries()) bodies.add(id, Buffer.alloc(size, id));
        const state = sizes.map(() => ({ got: 0, isLast: false }));
        const open = new Set<number>();
        for (let chunk = bodies.next(200 * KIB); chunk !== undefined; chunk = bodies.next(200 * KIB)) {
          const body = state[chunk.id]!;
          assert.equal(chunk.offset, BigInt(body.got));
          assert.equal(body.isLast, false);
          body.got += chunk.data.length;
          body.isLast = chunk.last;
          open.add(chunk.id);
          assert.ok(open.size <= most);
          if (chunk.last) open.delete(chunk.id);
          bodies.credited({ id: chunk.id, bytes: BigInt(chunk.data.length), stop: false });
        }
        for (const [id, size] of sizes.entries()) assert.deepEqual(state[id], { got: size, isLast: true });
      },
    ),
    { numRuns: 30 },
  );
});

test('a body without credit waits while others go on, and one that is stopped ends aborted', () => {
  const bodies = new OutgoingBodies();
  bodies.add(1, Buffer.alloc(2 * BODY_WINDOW));
  bodies.add(2, Buffer.alloc(10));
  const chunks: Chunk[] = [];
  for (let chunk = bodies.next(KIB * KIB); chunk !== undefined; chunk = bodies.next(KIB * KIB)) chunks.push(chunk);
  const sum = (id: number): number =>
    chunks.filter((chunk) => chunk.id === id).reduce((bytes, { data }) => bytes + data.length, 0);
  assert.deepEqual([sum(1), sum(2)], [BODY_WINDOW, 10]);
  bodies.credited({ id: 1, bytes: 0n, stop: true });
  const end = bodies.next(KIB);
  assert.deepEqual([end?.id, end?.last, end?.aborted, end?.data.length], [1, true, true, 0]);
  assert.equal(bodies.next(KIB), undefined);
});
