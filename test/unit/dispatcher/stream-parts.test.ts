/** The pure parts of the stream: windows, frames, the order of outcomes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AgentFrame, Refusal_Kind, WorkerFrame } from '../../../protocol/generated/stream.js';
import { frameFrom } from '../../../src/dispatcher/stream/frame-reader.js';
import { framed } from '../../../src/grpc/index.js';
import { bytesOf } from '../../../src/dispatcher/stream/frame-writer.js';
import { LaneOrder, type Outcome } from '../../../src/dispatcher/stream/lane-order.js';
import {
  boundOf,
  MOST_IN_FRAME,
  takeFrame,
  type Acknowledgements,
  type Part,
} from '../../../src/dispatcher/stream/outbox.js';
import { Window, windowFrom } from '../../../src/dispatcher/stream/window.js';
import { anyData, assertReadAlike, mostly, number, text } from '../../support/frames.js';

const OWN = { messages: 100, bytes: 1000, bodies: 8 };
const load = (bytes: number, bodies = 0): { messages: number; bytes: number; bodies: number } => ({
  messages: 1,
  bytes,
  bodies,
});

test('a window is what the worker announced, bounded by the agent’s own, and never nothing', () => {
  assert.deepEqual(windowFrom({ messages: 7, bytes: 50, bodies: 2 }, OWN), { messages: 7, bytes: 50, bodies: 2 });
  assert.deepEqual(windowFrom({ messages: 2 ** 32 - 1, bytes: 2 ** 32 - 1, bodies: 2 ** 32 - 1 }, OWN), OWN);
  assert.deepEqual(windowFrom(undefined, OWN), { messages: 1, bytes: 0, bodies: 4 });
});

test('a window is full at its messages and at its bytes, and admits one when nothing is in flight', () => {
  const window = new Window({ messages: 2, bytes: 10, bodies: 1 });
  assert.equal(window.roomFor(load(1000)), 'here');
  window.take(load(1000));
  assert.equal(window.roomFor(load(0)), 'none');
  window.give(load(1000));
  window.take(load(4));
  assert.equal(window.roomFor(load(6)), 'here');
  assert.equal(window.roomFor(load(7)), 'none');
  window.take(load(6));
  assert.equal(window.isFull, true);
});

test('a message with a body waits for the bodies before it, and lets those without pass', () => {
  const window = new Window({ messages: 10, bytes: 10, bodies: 1 });
  window.take(load(0, 1));
  assert.equal(window.roomFor(load(0, 1)), 'not-for-it');
  assert.equal(window.roomFor(load(1)), 'here');
});

const delivery = (tag: number, size: number, text = 'm'): Part => ({
  kind: 'delivery',
  tag,
  priority: 9,
  data: {
    messageId: text,
    responseTo: text,
    directive: text,
    metadata: { [text]: text },
    content: Buffer.alloc(size),
  },
  body: undefined,
});
const noAcks = (): Acknowledgements => ({ settled: [], accepted: [], refusals: [], pings: [] });

test('what gathered goes out in order, in frames of at most 256 KiB, a big message alone in its own', () => {
  const part = fc.oneof(
    {
      weight: 8,
      arbitrary: fc.tuple(fc.integer({ min: 0, max: 70_000 }), fc.string({ unit: 'binary', maxLength: 60 })),
    },
    { weight: 1, arbitrary: fc.tuple(fc.constant(600_000), fc.constant('big')) },
  );
  fc.assert(
    fc.property(fc.array(part, { maxLength: 12 }), fc.array(fc.nat(2 ** 31), { maxLength: 3000 }), (parts, tags) => {
      const wanted = parts.map((_, index) => index + 1);
      const queue = parts.map(([size, text], index) => delivery(index + 1, size, text));
      const acks = { ...noAcks(), settled: [...tags], accepted: [...tags], pings: [1] };
      const got: number[] = [];
      const settled: number[] = [];
      for (
        let rounds = 0;
        queue.length + acks.settled.length + acks.accepted.length + acks.pings.length > 0;
        rounds++
      ) {
        assert.ok(rounds < 100, 'each frame takes something');
        const frame = takeFrame(acks, queue);
        const size = AgentFrame.encode(frame).finish().length;
        const isAlone = frame.deliveries.length === 1 && frame.settled.length + frame.accepted.length === 0;
        assert.ok(size <= MOST_IN_FRAME || isAlone, `${size} bytes`);
        got.push(...frame.deliveries.map(({ tag }) => tag));
        settled.push(...frame.settled);
      }
      assert.deepEqual([got, settled], [wanted, tags]);
    }),
    { numRuns: 60 },
  );
});

test('a cancel never comes before the delivery it names', () => {
  const queue: Part[] = [delivery(1, 200_000), delivery(2, 200_000), { kind: 'cancel', tag: 2 }];
  assert.deepEqual(takeFrame(noAcks(), queue).cancels, []);
  const second = takeFrame(noAcks(), queue);
  assert.deepEqual([second.deliveries[0]?.tag, second.cancels], [2, [2]]);
});

test('the bound of a delivery is never below what it takes', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.nat(300), (text, size) => {
      const part = delivery(2 ** 32 - 1, size, text);
      const empty = AgentFrame.encode(takeFrame(noAcks(), [])).finish().length;
      assert.ok(AgentFrame.encode(takeFrame(noAcks(), [part])).finish().length - empty <= boundOf(part));
    }),
  );
});

/** Outcomes of lanes `a` and `b`; each notes its name when it takes effect. */
function outcomes(order: LaneOrder, ran: string[], names: readonly string[], isReady: boolean): Outcome[] {
  return names.map((name) => {
    const outcome = { isReady, run: () => void ran.push(name) };
    order.add(name.slice(0, 1), outcome);
    return outcome;
  });
}

test('an outcome that is not whole holds back those behind it in its lane, and no other', () => {
  const order = new LaneOrder();
  const ran: string[] = [];
  const [big] = outcomes(order, ran, ['a1'], false);
  outcomes(order, ran, ['a2', 'b1', 'a3'], true);
  assert.deepEqual(ran, ['b1']);
  order.ready('a', big!);
  assert.deepEqual(ran, ['b1', 'a1', 'a2', 'a3']);
  outcomes(order, ran, ['a4'], true);
  assert.equal(ran.at(-1), 'a4');
});

test('an outcome that will never be whole lets those behind it pass, wherever it stands', () => {
  const order = new LaneOrder();
  const ran: string[] = [];
  const [first, second] = outcomes(order, ran, ['a1', 'a2'], false);
  outcomes(order, ran, ['a3'], true);
  order.drop('a', second!);
  assert.deepEqual(ran, []);
  order.drop('a', first!);
  assert.deepEqual(ran, ['a3']);
});

test('an outcome may bring others while it takes effect', () => {
  const order = new LaneOrder();
  const ran: string[] = [];
  const held: Outcome = { isReady: false, run: () => outcomes(order, ran, ['a2'], true) };
  order.add('a', held);
  order.ready('a', held);
  outcomes(order, ran, ['a3'], true);
  assert.deepEqual(ran, ['a2', 'a3']);
});

const aBody = fc.option(fc.constant({ size: 70_000n }), { nil: undefined, freq: 20 });

test('a frame to a worker has the bytes that the generated encoder makes of it', () => {
  const deliveries = fc.record({
    tag: number,
    priority: fc.nat(9),
    data: mostly(anyData),
    body: fc.constant(undefined),
  });
  const bodies = fc.array(fc.record({ tag: number, priority: fc.nat(9), data: mostly(anyData), body: aBody }), {
    maxLength: 1,
  });
  const numbers = fc.array(number, { maxLength: 300 });
  fc.assert(
    fc.property(
      fc.array(deliveries, { maxLength: 5 }),
      bodies,
      numbers,
      numbers,
      fc.boolean(),
      (small, large, some, others, isRare) => {
        const frame: AgentFrame = {
          welcome: undefined,
          deliveries: [...small, ...large],
          settled: some,
          accepted: others,
          resultRefusals: isRare ? [{ number: 1, tag: undefined, passing: true, reason: 'full' }] : [],
          cancels: others,
          events: [],
          pings: some,
        };
        assert.deepEqual(bytesOf(frame), framed(AgentFrame.encode(frame).finish()));
      },
    ),
    { numRuns: 300 },
  );
});

const result = fc.record({ number, data: mostly(anyData), body: aBody });
const results = fc.array(result, { maxLength: 3 });
const workerFrames = fc.record({
  hello: fc.constant(undefined),
  completions: fc.array(fc.record({ tag: number, results }), { maxLength: 4 }),
  refusals: fc.array(
    fc.record({ tag: number, kind: fc.constantFrom(Refusal_Kind.FAILED, Refusal_Kind.CANCELLED), reason: text }),
    { maxLength: 1 },
  ),
  results: fc.array(result, { maxLength: 1 }),
  pongs: fc.array(fc.record({ number, serving: fc.boolean() }), { maxLength: 1 }),
});

test('a frame of a worker is read as the generated decoder reads it, also when it is cut short, altered or made of noise', () => {
  const frames = workerFrames.map((frame) => WorkerFrame.encode(frame).finish());
  assertReadAlike(frames, frameFrom, (bytes) => WorkerFrame.decode(bytes));
});

test('a content that was read keeps no more than sixteen times its length of its frame in memory', () => {
  const content = Buffer.alloc(5_000, 'x');
  const data = { messageId: 'm', metadata: {}, content, responseTo: '', directive: 'echo' };
  for (const [count, isPart] of [
    [15, true],
    [17, false],
  ] as const) {
    const completions = Array.from({ length: count }, (_, n) => ({
      tag: n + 1,
      results: [{ number: n + 1, data, body: undefined }],
    }));
    const frame = { hello: undefined, completions, refusals: [], results: [], pongs: [] };
    const bytes = Buffer.from(WorkerFrame.encode(frame).finish());
    const read = frameFrom(bytes).completions.map(({ results }) => results[0]?.data?.content);
    assert.equal(read.length, count);
    for (const each of read) {
      assert.ok(each !== undefined);
      assert.ok(each.equals(content));
      assert.equal(each.buffer === bytes.buffer, isPart);
    }
  }
});
