/** When what is for a worker goes: at the end of a turn, but for tags that only say what it need not wait for. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { AgentFrame } from '../../../protocol/generated/stream.js';
import { Outbox } from '../../../src/dispatcher/stream/outbox.js';
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
      const frame = AgentFrame.decode(bytes);
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

test('eight do not wait, nor does one whose results take much of their window', async () => {
  const { outbox, frames } = await openOutbox();
  for (let tag = 1; tag <= 8; tag++) outbox.settled(tag, false);
  await turns();
  assert.deepEqual(frames[0]?.settled, [1, 2, 3, 4, 5, 6, 7, 8]);
  outbox.settled(9, false);
  outbox.settled(10, true);
  await turns();
  assert.deepEqual(frames[1]?.settled, [9, 10]);
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
