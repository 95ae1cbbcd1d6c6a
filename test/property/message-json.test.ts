/** The JSON reader agrees with the platform's parser on every text, whole or damaged. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isJson, readObject, valueAt } from '../../src/message/index.js';

function parses(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    // The question was whether it throws.
    return false;
  }
}

/** A JSON text with white space, escapes and numbers that no serialiser would write. */
const jsonText: fc.Arbitrary<string> = fc.letrec<{ value: string }>((tie) => {
  const space = fc.constantFrom('', '', ' ', '\n', '\t \r');
  const padded = (inner: fc.Arbitrary<string>): fc.Arbitrary<string> =>
    fc.tuple(space, inner, space).map((parts) => parts.join(''));
  const text = fc.string({ unit: 'grapheme', maxLength: 8 }).map((s) => JSON.stringify(s));
  const name = fc.oneof(text, fc.constantFrom('"__proto__"', '"\\u0061"', '""', '"content"'));
  const scalar = fc.oneof(
    text,
    fc.constantFrom('null', 'true', 'false', '0', '-0', '1.0', '12345678901234567890', '1E+5', '"\\ud800"', '1e-9'),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map(String),
  );
  return {
    value: padded(
      fc.oneof(
        { maxDepth: 4, withCrossShrink: true },
        scalar,
        fc.array(tie('value'), { maxLength: 4 }).map((items) => `[${items.join(',')}]`),
        fc
          .array(fc.tuple(padded(name), tie('value')), { maxLength: 4 })
          .map((pairs) => `{${pairs.map(([n, v]) => `${n}:${v}`).join(',')}}`),
      ),
    ),
  };
}).value;

test('whatever JSON.parse accepts, the reader accepts', () => {
  fc.assert(
    fc.property(jsonText, (text) => isJson(Buffer.from(text)) && parses(text)),
    { numRuns: 300 },
  );
});

test('on damaged texts the reader and JSON.parse are of one mind', () => {
  const damage = fc.tuple(
    fc.nat(),
    fc.nat({ max: 3 }),
    fc.string({
      unit: fc.constantFrom(...'{ } [ ] , : " \\ u e 0 x 1 . - +'.split(' '), ' ', '\n', '\u0001'),
      maxLength: 3,
    }),
  );
  fc.assert(
    fc.property(jsonText, damage, (text, [where, cut, put]) => {
      const at = text.length === 0 ? 0 : where % text.length;
      // Through bytes and back: a surrogate that lost its half becomes U+FFFD for both.
      const damaged = Buffer.from(text.slice(0, at) + put + text.slice(at + cut)).toString();
      assert.equal(isJson(Buffer.from(damaged)), parses(damaged), damaged);
    }),
    { numRuns: 1000 },
  );
});

test('on any bytes at all it neither throws nor accepts what JSON.parse refuses', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      if (isJson(bytes)) assert.ok(parses(Buffer.from(bytes).toString()));
      readObject(bytes);
    }),
    { numRuns: 500 },
  );
});

test('the members of an object are those of JSON.parse, each at its very bytes', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.string({ maxLength: 5 }), jsonText), { maxLength: 6 }), (pairs) => {
      const text = `{${pairs.map(([name, value]) => `${JSON.stringify(name)}:${value}`).join(',')}}`;
      const payload = Buffer.from(text);
      const object = readObject(payload);
      assert.equal(object.kind, 'object');
      const last = new Map(pairs);
      assert.deepEqual(new Set(object.members.keys()), new Set(last.keys()));
      for (const [name, value] of last) {
        const span = object.members.get(name);
        assert.ok(span);
        assert.equal(payload.toString('utf8', span.start, span.end), value.replace(/^[ \t\r\n]+|[ \t\r\n]+$/g, ''));
        assert.deepEqual(valueAt(payload, span), JSON.parse(value));
      }
    }),
    { numRuns: 300 },
  );
});

test('every prefix of an object keeps the members that stood whole before the cut', () => {
  fc.assert(
    fc.property(jsonText, fc.nat(), (value, where) => {
      const text = `{"first":1,"second":${value},"third":3}`;
      const cut = readObject(Buffer.from(text).subarray(0, where % Buffer.byteLength(text)));
      assert.equal(cut.kind, 'fault');
      const names = [...cut.members.keys()];
      assert.deepEqual(names, ['first', 'second', 'third'].slice(0, names.length));
    }),
    { numRuns: 300 },
  );
});
