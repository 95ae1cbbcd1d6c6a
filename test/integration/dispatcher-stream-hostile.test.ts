/** Workers that break the rules of the stream: each is told which, and what it had is pending again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { Refusal_Kind as Kind, type Delivery, type Result } from '../../protocol/generated/stream.js';
import { FakeClock } from '../support/clock.js';
import { chunk, type WorkerTransfer } from '../support/stream-bodies.js';
import { openScene } from '../support/stream-scene.js';
import { hello, resultOf, type StreamWorker } from '../support/stream-worker.js';

const KIB = 1024;

interface Crime {
  readonly name: string;
  readonly reason: RegExp;
  readonly commit: (worker: StreamWorker, delivery: Delivery, transfer: () => WorkerTransfer) => void;
}

const body = (number: number, delivery: Delivery, size: bigint): Result => ({
  ...resultOf(number, delivery, ''),
  body: { size },
});

const crimes: readonly Crime[] = [
  { name: 'a second Hello', reason: /first frame and in no other/, commit: (w) => w.send({ hello: hello(['x']) }) },
  {
    name: 'a completion of no delivery',
    reason: /no delivery 99/,
    commit: (w) => w.complete({ tag: 99, results: [] }),
  },
  {
    name: 'a completion twice',
    reason: /no delivery|settled before/,
    commit: (w, { tag }) => w.complete({ tag, results: [] }, { tag, results: [] }),
  },
  {
    name: 'a refusal of no delivery',
    reason: /no delivery 0/,
    commit: (w) => w.refuse({ tag: 0, kind: Kind.FAILED, reason: '' }),
  },
  {
    name: 'a refusal of no kind',
    reason: /-1 is no kind/,
    commit: (w, { tag }) => w.refuse({ tag, kind: Kind.UNRECOGNIZED, reason: '' }),
  },
  {
    name: 'a refusal as cancelled of what was not',
    reason: /was not/,
    commit: (w, { tag }) => w.refuse({ tag, kind: Kind.CANCELLED, reason: '' }),
  },
  {
    name: 'more results than the window',
    reason: /more results are in flight/,
    commit: (w, d) => {
      w.send({ results: [resultOf(1, d)] });
      w.complete({ tag: d.tag, results: Array.from({ length: 1024 }, (_, i) => resultOf(i + 2, d, `${i}`)) });
    },
  },
  {
    name: 'more bodies than the window',
    reason: /more results are in flight/,
    commit: (w, d) => w.send({ results: Array.from({ length: 9 }, (_, i) => body(i, d, 100_000n)) }),
  },
  {
    name: 'one number for two results',
    reason: /number 5 is that of another/,
    commit: (w, d) => w.complete({ tag: d.tag, results: [resultOf(5, d, 'a'), resultOf(5, d, 'b')] }),
  },
  {
    name: 'a result without data',
    reason: /result 1 has no data/,
    commit: (w) => w.send({ results: [{ number: 1, data: undefined, body: undefined }] }),
  },
  {
    name: 'a large content in a frame',
    reason: /must go as a body/,
    commit: (w, d) => w.send({ results: [resultOf(1, d, Buffer.alloc(64 * KIB + 1))] }),
  },
  {
    name: 'a result with two contents',
    reason: /two contents/,
    commit: (w, d) => w.send({ results: [{ ...resultOf(1, d), body: { size: 3n } }] }),
  },
  {
    name: 'a pong to no ping',
    reason: /answers no ping/,
    commit: (w) => w.send({ pongs: [{ number: 1, serving: true }] }),
  },
  {
    name: 'a flood of empty frames',
    reason: /too many empty frames/,
    commit: (w) => {
      for (let i = 0; i < 200; i++) w.send({});
    },
  },
  {
    name: 'a frame of many messages over 256 KiB',
    reason: /more than one message/,
    commit: (w, d) => {
      w.send({ results: Array.from({ length: 5 }, (_, i) => resultOf(i + 1, d, Buffer.alloc(60 * KIB, i))) });
    },
  },
  {
    name: 'a frame over the limit',
    reason: /a frame may have/,
    commit: (w, { tag }) => w.refuse({ tag, kind: Kind.FAILED, reason: 'x'.repeat(5 * KIB * KIB) }),
  },
  {
    name: 'chunks out of order',
    reason: /begins at 10 and not at 0/,
    commit: (w, d, transfer) => {
      w.send({ results: [body(1, d, 100n)] });
      transfer().send({ chunks: [chunk(1, 0, Buffer.alloc(10)), chunk(1, 0, Buffer.alloc(10))] });
    },
  },
  {
    name: 'an offset beyond all numbers',
    reason: /begins at 0 and not at 18446744073709551615/,
    commit: (_w, _d, transfer) =>
      transfer().send({ chunks: [{ ...chunk(1, 0, Buffer.alloc(1)), offset: 2n ** 64n - 1n }] }),
  },
  {
    name: 'a chunk over 256 KiB',
    reason: /a chunk may have/,
    commit: (_w, _d, transfer) => transfer().send({ chunks: [chunk(1, 0, Buffer.alloc(256 * KIB + 1))] }),
  },
  {
    name: 'a frame of Transfer over the limit',
    reason: /a frame of Transfer may have/,
    commit: (_w, _d, transfer) =>
      transfer().send({ chunks: [0, 1, 2].map((i) => chunk(1, i * 256 * KIB, Buffer.alloc(256 * KIB))) }),
  },
  {
    name: 'more of a body than was allowed',
    reason: /than was allowed/,
    commit: (_w, _d, transfer) => {
      const to = transfer();
      for (let i = 0; i < 5; i++) to.send({ chunks: [chunk(1, i * 256 * KIB, Buffer.alloc(256 * KIB))] });
    },
  },
  {
    name: 'more of a body than was named',
    reason: /more than the 5 bytes/,
    commit: (w, d, transfer) => {
      w.send({ results: [body(1, d, 5n)] });
      transfer().send({ chunks: [chunk(1, 0, Buffer.alloc(6))] });
    },
  },
  {
    name: 'less of a body than was named',
    reason: /ended after 4 of 5 bytes|ended after 4/,
    commit: (w, d, transfer) => {
      w.send({ results: [body(1, d, 5n)] });
      transfer().send({ chunks: [chunk(1, 0, Buffer.alloc(4), { last: true })] });
    },
  },
  {
    name: 'a chunk behind the last',
    reason: /the body 1 has ended/,
    commit: (_w, _d, transfer) =>
      transfer().send({ chunks: [chunk(1, 0, Buffer.alloc(4), { last: true }), chunk(1, 4, Buffer.alloc(4))] }),
  },
  {
    name: 'an aborted chunk that is not the last',
    reason: /aborted body ends/,
    commit: (_w, _d, transfer) => transfer().send({ chunks: [chunk(1, 0, Buffer.alloc(0), { aborted: true })] }),
  },
  {
    name: 'many bodies side by side',
    reason: /too many bodies are sent side by side/,
    commit: (_w, _d, transfer) => {
      const to = transfer();
      for (let i = 1; i < 40; i++) to.send({ chunks: [chunk(i, 0, Buffer.alloc(1))] });
    },
  },
  {
    name: 'a credit for no body',
    reason: /credit for 77 is for no body/,
    commit: (_w, _d, transfer) => transfer().send({ credits: [{ id: 77, bytes: 1n, stop: false }] }),
  },
  {
    name: 'a second token',
    reason: /token stands in the first frame/,
    commit: (_w, _d, transfer) => transfer().send({ token: Buffer.alloc(32) }),
  },
  {
    name: 'a flood of empty frames on Transfer',
    reason: /too many empty frames/,
    commit: (_w, _d, transfer) => {
      const to = transfer();
      for (let i = 0; i < 200; i++) to.send({});
    },
  },
];

for (const { name, reason, commit } of crimes) {
  test(`${name} ends the stream with INVALID_ARGUMENT and the rule`, async () => {
    await using scene = await openScene();
    const [key] = await scene.deliver(['m0']);
    const worker = await scene.harness.streamWorker();
    await worker.join(['echo']);
    const [delivery] = await worker.got(1);
    commit(worker, delivery!, () => worker.transfer());
    const { code, details } = await worker.end;
    assert.match(details, reason);
    assert.equal(code, status.INVALID_ARGUMENT);
    assert.match((await scene.harness.log.line('dispatcher.stream_refused')).text, reason);
    // It is with the worker no more: the next stream gets it, or it was completed.
    const next = await scene.harness.streamWorker();
    await next.join(['echo']);
    if (scene.store.inbound(key!) !== undefined) await next.got(1);
  });
}

test('a credit for more than was sent ends the stream', async () => {
  await using scene = await openScene();
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo']);
  await scene.deliver(['m0'], { content: () => Buffer.alloc(3 * KIB * KIB) });
  const [delivery] = await worker.got(1);
  const transfer = worker.transfer();
  transfer.isCrediting = false;
  await transfer.until(() => (transfer.chunks.length === 4 ? true : undefined));
  transfer.send({ credits: [{ id: delivery!.tag, bytes: 2n ** 64n - 1n, stop: false }] });
  const { code, details } = await worker.end;
  assert.deepEqual([code, /was used than was sent/.test(details)], [status.INVALID_ARGUMENT, true]);
});

const greetings: readonly [string, RegExp, (worker: StreamWorker) => void][] = [
  ['no Hello in its first frame', /first frame is Hello/, (w) => w.complete({ tag: 1, results: [] })],
  ['an empty first frame', /first frame is Hello/, (w) => w.send({})],
  [
    'a Hello with something beside it',
    /Hello stands alone/,
    (w) => w.send({ hello: hello(['echo']), pongs: [{ number: 1, serving: true }] }),
  ],
  ['a Hello without handlers', /at least one handler/, (w) => w.send({ hello: hello([]) })],
  [
    'a Hello with too many handlers',
    /at most 256/,
    (w) => w.send({ hello: hello(Array.from({ length: 257 }, (_, i) => `h${i}`)) }),
  ],
  [
    'something between Hello and Welcome',
    /nothing comes before Welcome|no delivery/,
    (w) => {
      w.send({ hello: hello(['echo']) });
      w.complete({ tag: 1, results: [] });
    },
  ],
  ['an end before Hello', /first frame is Hello/, (w) => void w.call.end()],
];

for (const [name, reason, commit] of greetings) {
  test(`a stream with ${name} is ended with INVALID_ARGUMENT`, async () => {
    await using scene = await openScene();
    const worker = await scene.harness.streamWorker();
    commit(worker);
    const { code, details } = await worker.end;
    assert.match(details, reason);
    assert.equal(code, status.INVALID_ARGUMENT);
  });
}

test('a stream that never says Hello is ended, and so is a Transfer without a token', async () => {
  const clock = new FakeClock();
  await using scene = await openScene({ clock });
  const silent = await scene.harness.streamWorker();
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo']);
  await clock.advance(10_000);
  assert.equal((await silent.end).code, status.DEADLINE_EXCEEDED);
  await scene.deliver(['m0']);
  await worker.got(1);
});

test('a worker has sixteen streams open at most', async () => {
  await using scene = await openScene();
  const { harness } = scene;
  const silent: StreamWorker[] = [];
  // Each has reached the agent when the next is made: Welcome of none of them comes, so their Hello names no handler.
  for (let i = 0; i < 17; i++) silent.push(await harness.streamWorker());
  const refused = await Promise.race(silent.map(async ({ end }) => end));
  assert.equal(refused.code, status.RESOURCE_EXHAUSTED);
});
