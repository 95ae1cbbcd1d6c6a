import assert from 'node:assert/strict';
import { test } from 'node:test';
import { printable, quoted } from '../../../src/message/index.js';

test('text from outside is shown quoted, short and on one line, and no terminal obeys it', () => {
  assert.equal(quoted('echo'), '"echo"');
  assert.equal(quoted('a"b\r\n\u001b[2J\u009b\u202e\u2028'), '"a\\"b\\r\\n\\u001b[2J\\u009b\\u202e\\u2028"');
  assert.equal(quoted('x'.repeat(65)), `"${'x'.repeat(64)}…"`);
  assert.equal(quoted('abc', 2), '"ab…"');
  assert.equal(printable('a\0b "c"'), 'a\\u0000b "c"');
  assert.equal(printable('abc', 2), 'ab…');
});
