/** Frames of a stream as they mostly are and as they may be, for tests that compare two codecs. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { MessageReader } from '../../protocol/message-reader.js';

/** Texts as they mostly are, and of all that a string can hold. */
export const text = fc.oneof(
  fc.uuid(),
  fc.string({ unit: 'binary', maxLength: 90 }),
  fc.constantFrom('', '__proto__', '\ud800'),
);
export const number = fc.oneof(
  fc.nat(300),
  fc.constantFrom(0, 127, 128, 2 ** 14, 2 ** 28 - 1, 2 ** 28, 2 ** 31, 2 ** 32 - 1),
);
export const anyData = fc.record({
  messageId: text,
  metadata: fc.dictionary(text, text, { maxKeys: 3 }),
  content: fc
    .oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc.nat(20_000).map((size) => new Uint8Array(size).fill(7)),
    )
    .map((bytes) => Buffer.from(bytes)),
  responseTo: text,
  directive: text,
});
export const mostly = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.option(arbitrary, { nil: undefined, freq: 20 });

/** The bytes, sometimes altered or cut short. */
function damaged(bytes: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Buffer> {
  const change = fc.record({ at: fc.nat(), byte: fc.nat(255), cut: fc.option(fc.nat(), { freq: 3 }) });
  return fc.tuple(bytes, fc.array(change, { maxLength: 2 })).map(([whole, changes]) => {
    let made = Buffer.from(whole);
    for (const { at, byte, cut } of changes) {
      if (made.length === 0) break;
      if (cut === null) made[at % made.length] = byte;
      else made = made.subarray(0, cut % made.length);
    }
    return made;
  });
}

/** What a decoder makes of bytes: a frame, or nothing. */
function read<F>(decode: (bytes: Buffer) => F, bytes: Buffer): F | 'no frame' {
  try {
    return decode(bytes);
  } catch {
    return 'no frame';
  }
}

/** Fails unless both make the same of these frames, whole, damaged, and of noise; `byHand` has one reader for all. */
export function assertReadAlike<F>(
  frames: fc.Arbitrary<Uint8Array>,
  byHand: (bytes: Buffer, reader: MessageReader) => F,
  generated: (bytes: Buffer) => F,
): void {
  const noise = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from([18, bytes.length, ...bytes]));
  const reader = new MessageReader();
  fc.assert(
    fc.property(fc.oneof(damaged(frames), noise), (each) => {
      assert.deepEqual(
        read((bytes) => byHand(bytes, reader), each),
        read(generated, each),
      );
    }),
    { numRuns: 2000 },
  );
}
