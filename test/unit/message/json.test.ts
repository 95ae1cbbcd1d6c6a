/** The JSON reader: what it accepts, what it refuses and where it says things stand. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isJson, MAX_DEPTH, Names, readNamed, readObject, valueAt } from '../../../src/message/index.js';

const bytes = (text: string): Buffer => Buffer.from(text, 'utf8');

function reasonOf(text: string | Buffer, maxDepth?: number): string {
  const result = readObject(typeof text === 'string' ? bytes(text) : text, maxDepth);
  assert.equal(result.kind, 'fault');
  return `${result.reason} at ${result.at}`;
}

describe('isJson', () => {
  for (const text of [
    'null',
    ' true ',
    'false',
    '0',
    '-0',
    '1.0',
    '12345678901234567890',
    '1e5',
    '1E+5',
    '1.5e-3',
    '""',
    '"\\u00e9\\"\\\\\\/\\b\\f\\n\\r\\t"',
    '[]',
    '[ ]',
    '{}',
    '{ }',
    '[1,[2,{"a":[]}],"b"]',
    '{"a":{"b":null},"c":[{}]}',
    '\t[\r\n1 , 2 ]\n',
  ]) {
    test(`accepts ${JSON.stringify(text)}, as JSON.parse does`, () => {
      assert.doesNotThrow(() => JSON.parse(text) as unknown);
      assert.equal(isJson(bytes(text)), true);
    });
  }

  for (const text of [
    '',
    ' ',
    'nul',
    'truE',
    'undefined',
    '01',
    '-',
    '-a',
    '1.',
    '.5',
    '1e',
    '1e+',
    '+1',
    '"',
    '"\n"',
    '"\\',
    '"\\x"',
    '"\\u12g4"',
    '"\\u12',
    "'a'",
    '[',
    '[1',
    '[1,',
    '[1,]',
    '[1 2]',
    '[1}',
    '[,1]',
    '{',
    '{"a"',
    '{"a":',
    '{"a":1',
    '{"a":1,}',
    '{"a" 1}',
    '{a:1}',
    '{1:1}',
    '[{"a":1,]',
    '1 2',
    'null,',
  ]) {
    test(`refuses ${JSON.stringify(text)}, as JSON.parse does`, () => {
      assert.throws(() => JSON.parse(text) as unknown);
      assert.equal(isJson(bytes(text)), false);
    });
  }

  test('refuses bytes that are not UTF-8', () => {
    assert.equal(isJson(Buffer.from([0x22, 0xff, 0x22])), false);
  });

  test('accepts nesting up to the limit and refuses one level more, without recursion', () => {
    const nested = (depth: number): Buffer => bytes('['.repeat(depth) + ']'.repeat(depth));
    assert.equal(isJson(nested(MAX_DEPTH)), true);
    assert.equal(isJson(nested(MAX_DEPTH + 1)), false);
    assert.equal(isJson(nested(200_000)), false);
    assert.equal(isJson(bytes('[[1]]'), 1), false);
  });
});

describe('readObject', () => {
  test('says where each value stands, byte for byte', () => {
    const payload = bytes(' {"é": 1.0 , "b":[ 1, 2 ],"c":"x\\u0041" } ');
    const object = readObject(payload);
    assert.equal(object.kind, 'object');
    const texts = [...object.members].map(([name, at]) => [name, payload.toString('utf8', at.start, at.end)]);
    assert.deepEqual(texts, [
      ['é', '1.0'],
      ['b', '[ 1, 2 ]'],
      ['c', '"x\\u0041"'],
    ]);
  });

  test('takes the last of two members with one name, as JSON.parse does', () => {
    const payload = bytes('{"a":1,"a":2}');
    const object = readObject(payload);
    assert.equal(object.kind, 'object');
    assert.equal(valueAt(payload, object.members.get('a')!), 2);
  });

  test('treats __proto__ and escaped names as names like any other', () => {
    const payload = bytes('{"__proto__":{"x":1},"\\u0061":2}');
    const object = readObject(payload);
    assert.equal(object.kind, 'object');
    assert.deepEqual([...object.members.keys()], ['__proto__', 'a']);
  });

  test('reads the bytes of a view into a larger buffer at the right place', () => {
    const view = bytes('xx{"a":7}yy').subarray(2, 9);
    const object = readObject(view);
    assert.equal(object.kind, 'object');
    assert.equal(valueAt(view, object.members.get('a')!), 7);
  });

  test('accepts an empty object', () => {
    const object = readObject(bytes(' { } '));
    assert.equal(object.kind, 'object');
    assert.equal(object.members.size, 0);
  });

  test('says what is wrong and at which byte', () => {
    assert.equal(reasonOf(''), 'empty at 0');
    assert.equal(reasonOf('  '), 'empty at 2');
    assert.equal(reasonOf('[]'), 'not an object at 0');
    assert.equal(reasonOf('{"a" 1}'), 'a colon is missing at 5');
    assert.equal(reasonOf('{"a":1 "b":2}'), 'a comma or the end of the object is missing at 7');
    assert.equal(reasonOf('{"a":1'), 'a comma or the end of the object is missing at 6');
    assert.equal(reasonOf('{"a":1}x'), 'there is something behind the object at 7');
    assert.equal(reasonOf('{'), 'ends too early at 1');
    assert.equal(reasonOf('{a'), 'a string is missing at 1');
    assert.equal(reasonOf('{"a":nope}'), 'an unknown word at 5');
    assert.equal(reasonOf('{"a":x}'), 'not a value at 5');
    assert.equal(reasonOf('{"a":'), 'ends too early at 5');
    assert.equal(reasonOf('{"a":012}'), 'a number with a leading zero at 5');
    assert.equal(reasonOf(Buffer.from([0x7b, 0xff])), 'not UTF-8 at 0');
  });

  test('counts the object itself as one level of nesting', () => {
    assert.equal(readObject(bytes('{"a":1}'), 1).kind, 'object');
    assert.equal(reasonOf('{"a":[]}', 1), 'nested too deep at 5');
  });

  test('keeps the members that stood whole before a fault', () => {
    const cut = readObject(bytes('{"a":1,"b":"cut of'));
    assert.equal(cut.kind, 'fault');
    assert.deepEqual([...cut.members.keys()], ['a']);
  });
});

describe('readNamed', () => {
  const names = new Names(['a', 'bc', 'é']);

  test('finds the members with the names it is given, however they are written, and no others', () => {
    const payload = bytes(' {"b":0,"bc": 1.0 ,"\\u0061":[ 2 ],"cb":4,"x\\n":5,"é":6 } ');
    const { spans, fault } = readNamed(payload, names);
    assert.equal(fault, undefined);
    const texts = names.texts.map((_name, n) => payload.toString('utf8', spans[n * 2], spans[n * 2 + 1]));
    assert.deepEqual(texts, ['[ 2 ]', '1.0', '6']);
  });

  test('takes the last of two members with one name, and -1 for none', () => {
    assert.deepEqual(readNamed(bytes('{"a":1,"a":22}'), names).spans, [11, 13, -1, -1, -1, -1]);
  });

  test('looks for an escape in a name no further than the name goes', () => {
    // Otherwise a payload of many other names would take the square of its length: 16 MiB, minutes.
    let searches = 0;
    const indexOf = (): number => -(searches += 1);
    const payload = Object.assign(bytes(`{"a":1${',"x":2'.repeat(20)}}`), { indexOf });
    assert.deepEqual(readNamed(payload, names).spans, [5, 6, -1, -1, -1, -1]);
    assert.equal(searches, 0);
  });

  test('keeps what stood whole before a fault, and says where that is', () => {
    const cut = readNamed(bytes('{"a":1,"bc":"cut of'), names);
    assert.deepEqual([...cut.spans], [5, 6, -1, -1, -1, -1]);
    assert.deepEqual([cut.fault?.reason, cut.fault?.at], ['a string does not end', 12]);
    assert.equal(readNamed(Buffer.from([0x7b, 0xff]), names).fault?.reason, 'not UTF-8');
    assert.equal(readNamed(bytes('{"a":[]}'), names, 1).fault?.reason, 'nested too deep');
  });
});

test('a long string is held to the same rules at every place in it', () => {
  const bad = { '\u0000': false, '\u001f': false, '\t': false, '\\q': false, '"': false };
  const good = { '\u0020': true, '\u007f': true, é: true, '😀': true, '\\n': true, '\\"': true, '\\u00e9': true };
  for (const [what, isGood] of Object.entries({ ...bad, ...good })) {
    for (let place = 252; place < 282; place++) {
      for (let offset = 0; offset < 4; offset++) {
        const text = `"${'x'.repeat(place)}${what}${'é'.repeat(50)}"`;
        // The same bytes at each alignment.
        const bytes = Buffer.concat([Buffer.alloc(offset), Buffer.from(text)]).subarray(offset);
        assert.equal(isJson(bytes), isGood, `${JSON.stringify(what)} at ${place}`);
      }
    }
  }
  assert.equal(isJson(Buffer.from(`"${'x'.repeat(300)}`)), false);
  const at = readObject(Buffer.from(`{"a":"${'x'.repeat(300)}\n"}`));
  assert.equal(at.kind === 'fault' && at.at, 306);
});
