/** The agent's topics, and which response topics a requester may name. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { filterMatches, isResponseTopicAllowed, topicsOf } from '../../../src/router/index.js';
import { isTopicName } from '../../../src/router/topics.js';

test('the four topics stand under prefix and client id; the prefix may hold a slash', () => {
  assert.deepEqual(topicsOf('redhat/insights', 'c1'), {
    root: 'redhat/insights/c1',
    controlIn: 'redhat/insights/c1/control/in',
    controlOut: 'redhat/insights/c1/control/out',
    dataIn: 'redhat/insights/c1/data/in',
    dataOut: 'redhat/insights/c1/data/out',
  });
});

describe('filterMatches', () => {
  const cases: [string, string, boolean][] = [
    ['a/b', 'a/b', true],
    ['a/b', 'a/c', false],
    ['a/b', 'a', false],
    ['a', 'a/b', false],
    ['a/+', 'a/b', true],
    ['a/+', 'a', false],
    ['a/+', 'a/b/c', false],
    ['+/b', '/b', true],
    ['+', '', true],
    ['a/#', 'a', true],
    ['a/#', 'a/b/c', true],
    ['#', 'a/b', true],
    ['#', '$SYS/x', false],
    ['+/x', '$SYS/x', false],
    ['$SYS/#', '$SYS/x', true],
    ['a/#/b', 'a/x/b', false],
    ['a+/b', 'a+/b', false],
    ['a/b#', 'a/b#', false],
  ];
  for (const [filter, topic, expected] of cases) {
    test(`${filter} ${expected ? 'matches' : 'does not match'} ${topic}`, () => {
      assert.equal(filterMatches(filter, topic), expected);
    });
  }
});

describe('isResponseTopicAllowed', () => {
  const topics = topicsOf('p', 'c');

  test('without a setting it is everything under the agent’s own root but what it listens to', () => {
    const isAllowed = (topic: string): boolean => isResponseTopicAllowed(topics, undefined, topic);
    assert.equal(isAllowed('p/c/replies/1'), true);
    assert.equal(isAllowed('p/c/data/out'), true);
    assert.equal(isAllowed('p/c/data/in'), false);
    assert.equal(isAllowed('p/c/control/in'), false);
    assert.equal(isAllowed('p/c'), false);
    assert.equal(isAllowed('p/cc/x'), false);
    assert.equal(isAllowed('p/other/data/in'), false);
  });

  test('with a setting it is what a filter matches, and never what the agent listens to', () => {
    const filters = ['replies/+', 'p/#'];
    assert.equal(isResponseTopicAllowed(topics, filters, 'replies/a'), true);
    assert.equal(isResponseTopicAllowed(topics, filters, 'replies/a/b'), false);
    assert.equal(isResponseTopicAllowed(topics, filters, 'p/c/data/in'), false);
    assert.equal(isResponseTopicAllowed(topics, [], 'p/c/x'), false);
  });

  test('what is no topic name is never allowed', () => {
    for (const topic of ['', 'p/c/+', 'p/c/#', 'p/c/\0', `p/c/${'x'.repeat(65_536)}`]) {
      assert.equal(isTopicName(topic), false);
      assert.equal(isResponseTopicAllowed(topics, ['#'], topic), false);
    }
  });
});
