import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeError } from '../../../src/processor/describe-error.js';

test('several failed addresses are all named, though Node gives their error no text', () => {
  const failed = new AggregateError([
    new Error('connect ECONNREFUSED ::1:443'),
    new Error('connect ETIMEDOUT 10.0.0.1'),
  ]);
  assert.equal(describeError(failed), 'connect ECONNREFUSED ::1:443; connect ETIMEDOUT 10.0.0.1');
  assert.equal(describeError(new AggregateError([])), 'it failed');
});

test('an error is told with its code and its cause', () => {
  const cause = Object.assign(new Error('no space'), { code: 'ENOSPC' });
  assert.equal(describeError(new Error('cannot write', { cause })), 'cannot write: no space (ENOSPC)');
  assert.equal(describeError(new Error('')), 'it failed');
  assert.equal(describeError('text'), 'text');
});
