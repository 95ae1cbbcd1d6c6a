/** The codec of Transfer's frames is of one mind with the generated one, whole or damaged. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeBodyFrame, encodeBodyFrame } from '../../protocol/body-frame.js';
import { BodyFrame } from '../../protocol/generated/stream.js';

const bytes = fc.oneof(
  fc.uint8Array({ maxLength: 20 }),
  fc.integer({ min: 100, max: 20_000 }).map((length) => new Uint8Array(length).fill(length & 0xff)),
);
const buffer = bytes.map((each) => Buffer.from(each));
const uint32 = fc.oneof(
  fc.constantFrom(0, 1, 127, 128, 2 ** 31, 2 ** 32 - 1),
  fc.integer({ min: 0, max: 2 ** 32 - 1 }),
);
const position = fc.oneof(fc.constantFrom(0, 127, 128, 2 ** 32, 2 ** 53 - 1), fc.maxSafeNat()).map(BigInt);
const frame: fc.Arbitrary<BodyFrame> = fc.record({
  token: buffer,
  chunks: fc.array(
    fc.record({ id: uint32, offset: position, data: buffer, last: fc.boolean(), aborted: fc.boolean() }),
    { maxLength: 3 },
  ),
  credits: fc.array(fc.record({ id: uint32, bytes: position, stop: fc.boolean() }), { maxLength: 3 }),
});

test('what is written here is, byte for byte, what the generated codec writes', () => {
  fc.assert(
    fc.property(frame, (each) => {
      assert.ok(encodeBodyFrame(each).equals(BodyFrame.encode(each).finish()));
    }),
  );
});

test('what the generated codec writes is read here as it reads it itself', () => {
  fc.assert(
    fc.property(frame, (each) => {
      const encoded = Buffer.from(BodyFrame.encode(each).finish());
      assert.deepEqual(decodeBodyFrame(encoded), BodyFrame.decode(encoded));
    }),
  );
});

/** What comes of reading bytes; why they cannot be read is nobody's business. */
function outcome(read: () => BodyFrame): unknown {
  try {
    return read();
  } catch {
    return 'refused';
  }
}

test('on bytes that hold no frame, or one with fields of a later version, both are of one mind', () => {
  const damaged = fc
    .tuple(frame, fc.nat(), fc.nat({ max: 3 }), fc.uint8Array({ maxLength: 6 }))
    .map(([each, place, cut, put]) => {
      const whole = BodyFrame.encode(each).finish();
      const at = place % (whole.length + 1);
      return Buffer.concat([whole.subarray(0, at), put, whole.subarray(at + cut)]);
    });
  fc.assert(
    fc.property(fc.oneof(damaged, buffer), (each) => {
      assert.deepEqual(
        outcome(() => decodeBodyFrame(each)),
        outcome(() => BodyFrame.decode(each)),
      );
    }),
    { numRuns: 1_000 },
  );
});

test('the data of a chunk that was read is no copy, and an offset that is no position is refused', () => {
  const chunk = { id: 1, offset: 0n, data: Buffer.alloc(70_000, 1), last: true, aborted: false };
  const encoded = encodeBodyFrame({ token: Buffer.alloc(0), chunks: [chunk], credits: [] });
  assert.equal(decodeBodyFrame(encoded).chunks[0]?.data.buffer, encoded.buffer);
  const beyond = { ...chunk, offset: 2n ** 60n };
  assert.throws(() => encodeBodyFrame({ token: Buffer.alloc(0), chunks: [beyond], credits: [] }), RangeError);
});
