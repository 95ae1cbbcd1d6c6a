/** The kinds of settings: what each lets through, as what, and what it refuses. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  choice,
  duration,
  integer,
  list,
  listenPort,
  optional,
  size,
  text,
  toggle,
} from '../../../src/config/kinds.js';
import type { Kind } from '../../../src/config/kinds.js';

/** Pairs of what is given and what the program gets; `refused` is a value no kind makes. */
const refused = Symbol('refused');

function holds<T>(kind: Kind<T>, rows: readonly (readonly [given: unknown, got: unknown])[]): void {
  for (const [given, got] of rows) {
    const checked = kind.check(given);
    assert.deepEqual(checked.kind === 'ok' ? checked.value : refused, got, `given ${String(given)}`);
  }
}

test('a text is not empty, and passes its own test', () => {
  holds(text({ test: (value) => value !== 'no' }), [
    ['yes', 'yes'],
    ['', refused],
    ['no', refused],
    [1, refused],
    [undefined, refused],
  ]);
});

test('a list takes one text for a list of one, and refuses all for one bad entry', () => {
  holds(list(text()), [
    ['a', ['a']],
    [
      ['a', 'b'],
      ['a', 'b'],
    ],
    [[], []],
    [['a', 1], refused],
    [['a', ''], refused],
    [{ 0: 'a', length: 1 }, refused],
  ]);
});

test('a choice is blind for capitals and takes a number for its text', () => {
  holds(choice(['auto', '5', '3.1.1'], 'VERSION'), [
    ['AUTO', 'auto'],
    [5, '5'],
    ['4', refused],
    [['auto'], refused],
    [true, refused],
  ]);
});

test('a toggle is true or false and nothing that looks like it', () => {
  holds(toggle(), [
    [true, true],
    [false, false],
    ['true', refused],
    [1, refused],
  ]);
});

test('a whole number is whole, finite and between its bounds', () => {
  holds(integer(1, 10), [
    [1, 1],
    [10, 10],
    [0, refused],
    [11, refused],
    [1.5, refused],
    [Number.NaN, refused],
    [Number.POSITIVE_INFINITY, refused],
    ['1', refused],
    [2n, refused],
  ]);
  holds(integer(0, Number.MAX_VALUE), [[2 ** 53, refused]]);
});

test('a duration is checked against its bounds before it is lifted', () => {
  holds(duration({ min: 1, max: 60_000, atLeast: 100 }), [
    ['30s', 30_000],
    [30, 30_000],
    ['50ms', 100],
    ['0s', refused],
    ['2m', refused],
    ['soon', refused],
    [true, refused],
    [null, refused],
  ]);
});

test('a size is bytes', () => {
  holds(size(2), [
    ['1KiB', 1024],
    [2, 2],
    [1, refused],
    [-1, refused],
    [[], refused],
  ]);
});

test('a port may also be on or off', () => {
  holds(listenPort(1883), [
    [true, 1883],
    [false, undefined],
    [0, 0],
    [65_535, 65_535],
    [65_536, refused],
    [-1, refused],
    ['1883', refused],
  ]);
});

test('what is optional may be an empty text, which is the same as nothing', () => {
  holds(optional(integer(1, 2)), [
    ['', undefined],
    [2, 2],
    [3, refused],
    [undefined, refused],
  ]);
});
