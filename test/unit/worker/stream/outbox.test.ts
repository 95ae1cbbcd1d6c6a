import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Refusal_Kind, WorkerFrame } from '../../../../protocol/generated/stream.js';
import { Outbox } from '../../../../src/worker/stream/outbox.js';
import { type Parcel, parcelOf, problemOf } from '../../../../src/worker/stream/parcel.js';
import { Window } from '../../../../src/worker/stream/window.js';
import { messageOf } from '../../../support/fake-stream-agent.js';

const KIB = 1024;
let last = 0;
const parcel = (tag: number | undefined, ...sizes: number[]): Parcel =>
  parcelOf(
    tag,
    sizes.map((size) => messageOf({ content: Buffer.alloc(size) })),
    () => ++last,
  );

function opened(messages = 256, bytes = KIB * KIB, bodies = 4): Outbox {
  const outbox = new Outbox();
  outbox.open(new Window({ messages, bytes, bodies }));
  return outbox;
}

const tagsOf = (frame: WorkerFrame | undefined): number[] => frame?.completions.map(({ tag }) => tag) ?? [];

test('nothing but answers to pings goes before the agent said what it takes', () => {
  const outbox = new Outbox();
  outbox.addParcel(parcel(1, 10));
  assert.equal(outbox.take(), undefined);
});

test('what comes together goes in one frame, each kind in its order', () => {
  const outbox = opened();
  outbox.addParcel(parcel(1, 10));
  outbox.addParcel(parcel(undefined, 10));
  outbox.addParcel(parcel(2));
  outbox.addRefusal({ tag: 3, kind: Refusal_Kind.FAILED, reason: 'x' });
  outbox.addPong({ number: 7, serving: true });
  const { frame } = outbox.take()!;
  assert.deepEqual(tagsOf(frame), [1, 2]);
  assert.equal(frame.results.length, 1);
  assert.deepEqual([frame.refusals[0]?.tag, frame.pongs[0]?.number], [3, 7]);
  assert.equal(outbox.take(), undefined);
});

test('results wait for room in the agent’s window, and completions without results do not', () => {
  const outbox = opened(2);
  const parcels = [parcel(1, 1), parcel(2, 1), parcel(3, 1), parcel(4)];
  for (const each of parcels) outbox.addParcel(each);
  assert.deepEqual(tagsOf(outbox.take()?.frame), [1, 2]);
  assert.equal(outbox.isReady, false);
  outbox.free(parcels[0]!);
  assert.deepEqual(tagsOf(outbox.take()?.frame), [3, 4]);
});

test('a completion that is larger than the whole window goes when nothing else is under way', () => {
  const outbox = opened(2, 100);
  const small = parcel(1, 1);
  outbox.addParcel(small);
  outbox.addParcel(parcel(2, 200, 200, 200));
  assert.deepEqual(tagsOf(outbox.take()?.frame), [1]);
  assert.equal(outbox.take(), undefined);
  outbox.free(small);
  assert.deepEqual(tagsOf(outbox.take()?.frame), [2]);
});

test('contents over 64 KiB go as bodies, and so does what would be over the frame', () => {
  const exact = parcel(1, 64 * KIB);
  assert.deepEqual(exact.load, { messages: 1, bytes: 64 * KIB, bodies: 0 });
  const over = parcel(1, 64 * KIB + 1);
  assert.deepEqual(over.load, { messages: 1, bytes: 0, bodies: 1 });
  const { data, body } = over.results[0]!;
  assert.deepEqual([body?.size, data?.content.length], [BigInt(64 * KIB + 1), 0]);
  const many = parcel(1, ...Array.from({ length: 10 }, () => 60 * KIB));
  assert.deepEqual(many.load, { messages: 10, bytes: 3 * 60 * KIB, bodies: 7 });
});

test('a parcel that no frame can hold is told of', () => {
  const fits = parcelOf(1, [messageOf({ metadata: { a: 'x'.repeat(4_000_000) } })], () => 1);
  assert.equal(problemOf(fits), undefined);
  const tooLarge = parcelOf(1, [messageOf({ metadata: { a: 'x'.repeat(4_200_000) } })], () => 1);
  assert.match(problemOf(tooLarge) ?? '', /42\d{5} bytes in a frame/);
});

test('whatever is added goes once and in order, in frames of 256 KiB or one message, within the window', () => {
  const item = fc.oneof(
    fc.array(fc.integer({ min: 0, max: 100 * KIB }), { maxLength: 5 }),
    fc.constantFrom('free', 'refusal', 'pong', 'take'),
  );
  fc.assert(
    fc.property(fc.array(item, { maxLength: 60 }), (items) => {
      const window = { messages: 8, bytes: 200 * KIB, bodies: 2 };
      const outbox = opened(window.messages, window.bytes, window.bodies);
      const under: Parcel[] = [];
      const gone: number[] = [];
      let added = 0;
      const take = (): void => {
        for (let taken = outbox.take(); taken !== undefined; taken = outbox.take()) {
          const { frame, parcels } = taken;
          const size = WorkerFrame.encode(frame).finish().length;
          const parts = frame.completions.length + frame.refusals.length + frame.results.length + frame.pongs.length;
          assert.ok(parts > 0);
          assert.ok(size <= 256 * KIB || parts === 1, `${parts} parts in ${size} bytes`);
          under.push(...parcels.filter(({ results }) => results.length > 0));
          gone.push(...tagsOf(frame));
          const messages = under.reduce((sum, { load }) => sum + load.messages, 0);
          const bytes = under.reduce((sum, { load }) => sum + load.bytes, 0);
          const bodies = under.reduce((sum, { load }) => sum + load.bodies, 0);
          const isAlone = under.length === 1;
          assert.ok((messages <= window.messages && bytes <= window.bytes) || isAlone);
          // Behind a completion with too many bodies, which went alone, those without any may go.
          assert.ok(bodies <= window.bodies || under.filter(({ load }) => load.bodies > 0).length === 1);
        }
      };
      for (const each of items) {
        if (each === 'free') {
          const first = under.shift();
          if (first !== undefined) outbox.free(first);
        } else if (each === 'refusal')
          outbox.addRefusal({ tag: 0, kind: Refusal_Kind.FAILED, reason: 'é'.repeat(900) });
        else if (each === 'pong') outbox.addPong({ number: 1, serving: true });
        else if (each === 'take') take();
        else outbox.addParcel(parcel(++added, ...each));
      }
      take();
      while (under.length > 0) {
        outbox.free(under.shift()!);
        take();
      }
      assert.deepEqual(
        gone,
        Array.from({ length: added }, (_, i) => i + 1),
      );
    }),
  );
});
