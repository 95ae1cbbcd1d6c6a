/** When what is for a worker goes: with all that comes in one callback of the event loop, but for tags that only say what it need not wait for. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { AgentFrame } from '../../../protocol/generated/stream.js';
import { Outbox } from '../../../src/dispatcher/stream/outbox.js';
import { PREFIX } from '../../../src/grpc/index.js';
import { Signal } from '../../../src/signal/index.js';

const WELCOME = { registrations: [], window: undefined, token: Buffer.alloc(0), maxResult: 0n, config: undefined };

interface Scene {
  readonly outbox: Outbox;
  /** What went after Welcome. */
  readonly frames: AgentFrame[];
  readonly next: () => Promise<AgentFrame>;
}

async function openOutbox(): Promise<Scene> {
  const frames: AgentFrame[] = [];
  const gone = new Signal<AgentFrame>('frame-gone');
  const outbox = new Outbox({
    write: (bytes, sent) => {
      const frame = AgentFrame.decode(bytes.subarray(PREFIX));
      setImmediate(sent);
      if (frame.welcome !== undefined) return;
      frames.push(frame);
      gone.emit(frame);
    },
    gather: () => undefined,
  });
  outbox.welcome(WELCOME);
  await turns();
  return { outbox, frames, next: () => gone.next(AbortSignal.timeout(5000)) };
}

/** Longer than the end of a turn, and much shorter than a tag waits. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}

test('tags of small completions ride in the next frame that goes anyway', async () => {
  const { outbox, frames } = await openOutbox();
  outbox.settled(1, false);
  outbox.settled(2, false);
  await turns();
  assert.deepEqual(frames, []);
  outbox.ping(7);
  await turns();
  assert.deepEqual(
    frames.map(({ settled, pings }) => [settled, pings]),
    [[[1, 2], [7]]],
  );
  outbox.close();
});

test('where none goes, they go by themselves after a while, in one frame', async () => {
  const { outbox, frames, next } = await openOutbox();
  // Their timer keeps no process alive.
  const patience = setTimeout(() => undefined, 5000);
  const gone = next();
  outbox.settled(1, false);
  outbox.settled(2, false);
  assert.deepEqual((await gone).settled, [1, 2]);
  clearTimeout(patience);
  assert.equal(frames.length, 1);
  outbox.close();
});

test('sixty-four do not wait, nor does one whose results take much of their window', async () => {
  const { outbox, frames } = await openOutbox();
  const tags = Array.from({ length: 64 }, (_, index) => index + 1);
  for (const tag of tags.slice(1)) outbox.settled(tag, false);
  await turns();
  assert.equal(frames.length, 0, 'sixty-three do');
  outbox.settled(1, false);
  await turns();
  assert.deepEqual(frames[0]?.settled, [...tags.slice(1), 1]);
  outbox.settled(65, false);
  outbox.settled(66, true);
  await turns();
  assert.deepEqual(frames[1]?.settled, [65, 66]);
  outbox.close();
});

test('what one callback and its promises hand in goes in one frame, before the turn of the event loop ends', async () => {
  const { outbox, frames } = await openOutbox();
  const immediate = new Promise<number>((resolve) => setImmediate(() => resolve(frames.length)));
  outbox.ping(1);
  await Promise.resolve();
  outbox.accepted(2);
  assert.equal(frames.length, 0);
  assert.equal(await immediate, 1);
  assert.deepEqual([frames[0]?.pings, frames[0]?.accepted], [[1], [2]]);
  outbox.close();
});

test('an end of the stream waits for none of them, and a cut leaves none behind', async () => {
  const ending = await openOutbox();
  ending.outbox.settled(1, false);
  const drained = new AbortController();
  ending.outbox.drained(() => drained.abort());
  await once(drained.signal, 'abort');
  assert.deepEqual(ending.frames[0]?.settled, [1]);
  ending.outbox.close();

  const cut = await openOutbox();
  cut.outbox.settled(1, false);
  cut.outbox.close();
  cut.outbox.settled(2, false);
  await new Promise((resolve) => setTimeout(resolve, 150));
  assert.deepEqual(cut.frames, []);
});
