import assert from 'node:assert/strict';
import { test } from 'node:test';
import { unescaped, urlFrom } from '../../../src/message/index.js';

test('a URL from text is the same at the first call and when the call has been compiled', () => {
  for (let n = 0; n < 20_000; n++) {
    // In Latin-1, and as UTF-8 another text: a line separator that no host may hold, and a letter that it may.
    assert.equal(urlFrom('https://\xe2\x80\xb8'), undefined);
    assert.equal(urlFrom('https://ex\xe4mple.org')?.hostname, 'xn--exmple-cua.org');
  }
  assert.equal(urlFrom('../b?c', 'https://host/a/x')?.href, 'https://host/b?c');
  assert.equal(urlFrom('../b'), undefined);
});

test('escapes are resolved, and a lone % stands for itself', () => {
  assert.equal(unescaped('p%40ss%25'), 'p@ss%');
  assert.equal(unescaped('100%'), '100%');
});
