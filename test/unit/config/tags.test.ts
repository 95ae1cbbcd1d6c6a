import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseTags } from '../../../src/config/tags.js';
import { parseToml } from '../../../src/config/toml-file.js';

test('values that are not text become their text', () => {
  const text =
    'a = "x"\nn = 5\nf = 1.5\nb = true\nd = 2026-01-02\nt = 07:32:00\no = 2026-01-02T03:04:05Z\n"strange key" = ""\n';
  assert.deepEqual(parseTags(text, 'tags.toml'), {
    kind: 'ok',
    tags: {
      a: 'x',
      n: '5',
      f: '1.5',
      b: 'true',
      d: '2026-01-02',
      t: '07:32:00',
      o: '2026-01-02T03:04:05Z',
      'strange key': '',
    },
  });
});

test('lists and tables are refused with their lines', () => {
  assert.deepEqual(parseTags('a = "x"\nb = [1]\n[c]\nd = 1\n', 'tags.toml'), {
    kind: 'invalid',
    problems: [
      'tags.toml:2: the tag `b` must be text, not the list [1]',
      'tags.toml:3: the tag `c` must be text, not a table',
    ],
  });
  assert.deepEqual(parseTags('a', 'tags.toml').kind, 'invalid');
});

test('the line of a key is found past strings of many lines, quotes and tables', () => {
  const file = parseToml('a = """\nb = 1\n"""\nb = 2\n"c d" = 3\n[e.f]\ng = 4\n', 'x');
  assert.ok(file.kind === 'ok');
  const lines = [['a'], ['b'], ['c d'], ['e'], ['e', 'f'], ['e', 'f', 'g'], ['h']].map((path) => file.lineOf(...path));
  assert.deepEqual(lines, [1, 4, 5, 6, 6, 7, undefined]);
});
