import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseSocketAddress } from '../../../src/worker/address.js';

test('a path is the same with and without its prefix', () => {
  const expected = { kind: 'path', path: '/run/w.sock', target: 'unix:/run/w.sock' };
  for (const text of ['/run/w.sock', 'unix:/run/w.sock', 'unix:///run/w.sock']) {
    assert.deepEqual(parseSocketAddress(text), expected);
  }
});

test('an abstract name is known in both spellings', () => {
  const expected = { kind: 'abstract', target: 'unix:\0ygg-1' };
  for (const text of ['@ygg-1', 'unix:@ygg-1', 'unix-abstract:ygg-1']) {
    assert.deepEqual(parseSocketAddress(text), expected);
  }
});

test('anything else is no socket', () => {
  for (const text of ['', 'localhost:80', 'unix:w.sock', '@', 'unix-abstract:']) {
    assert.deepEqual(parseSocketAddress(text), { kind: 'unknown' });
  }
});
