/** Names and numbers: only what the grammar allows becomes one. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  directiveKey,
  isName,
  messageKey,
  newMessageId,
  parseClientId,
  parseDirective,
  parseWorkerName,
  replyMessageId,
} from '../../../src/message/index.js';

describe('names', () => {
  const good = ['a', '0', 'rhc-worker-playbook', 'A.b_c-1', 'x'.repeat(64)];
  const bad = ['', '-a', '.a', '_a', 'a/b', 'a+', '#', 'a b', 'é', 'a\n', '../x', 'x'.repeat(65)];

  test('a name that may become part of a path or a topic passes every parser', () => {
    for (const name of good) {
      assert.equal(isName(name), true, name);
      assert.equal(parseWorkerName(name), name);
      assert.equal(parseDirective(name), name);
      assert.equal(parseClientId(name), name);
    }
  });

  test('any other is refused by every parser', () => {
    for (const name of bad) {
      assert.equal(isName(name), false, name);
      assert.equal(parseWorkerName(name), undefined);
      assert.equal(parseDirective(name), undefined);
      assert.equal(parseClientId(name), undefined);
    }
  });

  test('a hyphen and an underscore are one letter in a directive', () => {
    const key = (text: string): string => directiveKey(parseDirective(text)!);
    assert.equal(key('a-b_c'), key('a_b-c'));
    assert.notEqual(key('ab'), key('a-b'));
  });
});

describe('numbers and ids', () => {
  test('a message key is a positive safe integer and nothing else', () => {
    assert.equal(messageKey(1), 1);
    for (const wrong of [0, -1, 1.5, Number.NaN, 2 ** 53]) assert.throws(() => messageKey(wrong), RangeError);
  });

  test('a new message id is a UUID v4 and never the same twice', () => {
    assert.match(newMessageId(), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.notEqual(newMessageId(), newMessageId());
  });

  test('the id of a reply is a UUID v5 that depends on the request and the index alone', () => {
    const id = replyMessageId('any text', 0);
    assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.equal(replyMessageId('any text', 0), id);
    assert.notEqual(replyMessageId('any text', 1), id);
    assert.notEqual(replyMessageId('any texu', 0), id);
  });
});
