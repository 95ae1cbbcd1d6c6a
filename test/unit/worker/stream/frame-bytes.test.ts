/** Frames by hand: what is made and read is what the generated codec makes and reads. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AgentFrame, Refusal_Kind, WorkerFrame } from '../../../../protocol/generated/stream.js';
import type { EventNotification } from '../../../../protocol/generated/yggdrasil.js';
import { framed } from '../../../../src/grpc/index.js';
import { bytesOf, frameFrom } from '../../../../src/worker/stream/frame-bytes.js';
import { anyData, assertReadAlike, mostly, number, text } from '../../../support/frames.js';

const rare = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T[]> =>
  fc.oneof(
    { weight: 9, arbitrary: fc.constant<T[]>([]) },
    { weight: 1, arbitrary: fc.array(arbitrary, { maxLength: 2 }) },
  );
const body = fc.option(fc.constant({ size: 70_000n }), { nil: undefined, freq: 20 });
const result = fc.record({ number, data: mostly(anyData), body });
const completions = fc.array(fc.record({ tag: number, results: fc.array(result, { maxLength: 3 }) }), { maxLength: 4 });

test('a frame to the agent has the bytes that the generated encoder makes of it', () => {
  const refusals = rare(fc.record({ tag: number, kind: fc.constant(Refusal_Kind.FAILED), reason: text }));
  const pongs = rare(fc.record({ number, serving: fc.boolean() }));
  fc.assert(
    fc.property(completions, refusals, rare(result), pongs, (some, refused, others, answers) => {
      const frame = { hello: undefined, completions: some, refusals: refused, results: others, pongs: answers };
      assert.deepEqual(bytesOf(frame), framed(WorkerFrame.encode(frame).finish()));
    }),
    { numRuns: 500 },
  );
});

test('a frame of the agent is read as the generated decoder reads it, also when it is cut short, altered or made of noise', () => {
  const deliveries = fc.array(fc.record({ tag: number, priority: fc.nat(9), data: mostly(anyData), body }), {
    maxLength: 4,
  });
  const frames = fc.record({
    welcome: fc.constant(undefined),
    deliveries,
    settled: fc.array(number, { maxLength: 9 }),
    accepted: rare(number),
    resultRefusals: rare(fc.record({ number, tag: fc.constant(undefined), passing: fc.boolean(), reason: text })),
    cancels: rare(number),
    events: fc.constant<EventNotification[]>([]),
    pings: rare(number),
  });
  const encoded = frames.map((frame) => AgentFrame.encode(frame).finish());
  assertReadAlike(encoded, frameFrom, (bytes) => AgentFrame.decode(bytes));
});
