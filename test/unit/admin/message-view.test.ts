/** Which messages a filter of the operator lets through, and how they are shown. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MessageFilter } from '../../../protocol/generated/admin.js';
import { messageView, passes } from '../../../src/admin/message-view.js';
import {
  directiveKey,
  messageKey,
  metadataFrom,
  type DeadRecord,
  type InboundRecord,
} from '../../../src/message/index.js';
import { directive } from '../../support/messages.js';

const ALL: MessageFilter = { state: '', directive: '', before: 0n, after: 0n, limit: 0, contentLimit: 0n };

const WAITING: InboundRecord = {
  kind: 'inbound',
  key: messageKey(7),
  state: 'ready',
  messageId: 'id',
  responseTo: '',
  directive: directive('run-it'),
  directiveKey: directiveKey(directive('run-it')),
  metadata: metadataFrom([['name', 'value']]),
  content: { kind: 'file', path: '/nowhere', size: 70_000 },
  isFetched: false,
  priority: 5,
  arrivedAt: 1000,
  expiresAt: 2000.5,
  attempts: 2,
  fetches: 0,
  dueAt: 0,
  replyTopic: undefined,
  replayOf: undefined,
};

const DEAD: DeadRecord = {
  kind: 'dead',
  key: messageKey(8),
  direction: 'outbound',
  endedAt: 3000,
  failure: { code: 'expired', text: 'too late' },
  messageId: 'id',
  directive: 'https://host/path-with_both',
  metadata: metadataFrom([]),
  content: { kind: 'inline', bytes: Buffer.from('x') },
  origin: { kind: 'unknown' },
};

test('a filter names state, directive and time; of a dead message the time of its end', () => {
  const cases: readonly (readonly [Partial<MessageFilter>, boolean, boolean])[] = [
    [{}, true, true],
    [{ state: 'ready' }, true, false],
    [{ state: 'dead' }, false, true],
    [{ directive: 'run_it' }, true, false],
    [{ directive: 'run-it' }, true, false],
    [{ directive: 'https://host/path-with_both' }, false, true],
    [{ directive: 'https://host/path_with_both' }, false, false],
    [{ before: 2000n }, true, false],
    [{ after: 2000n }, false, true],
    [{ before: 1000n }, false, false],
  ];
  for (const [filter, waiting, dead] of cases) {
    assert.deepEqual([passes(WAITING, { ...ALL, ...filter }), passes(DEAD, { ...ALL, ...filter })], [waiting, dead]);
  }
});

test('a view has what is known of the message, and no time that no number can hold', () => {
  const view = messageView(WAITING);
  assert.deepEqual(
    [view.key, view.direction, view.state, view.contentSize, view.content.length, view.attempts, view.expiresAt],
    [7n, 'inbound', 'ready', 70_000n, 0, 2, 2001n],
  );
  assert.equal(messageView({ ...WAITING, expiresAt: 1e300 }).expiresAt, BigInt(Number.MAX_SAFE_INTEGER));
  assert.equal(messageView({ ...WAITING, expiresAt: Number.NaN }).expiresAt, 0n);
  const dead = messageView(DEAD, Buffer.from('x'));
  assert.deepEqual(
    [dead.direction, dead.state, dead.failureCode, dead.failure, dead.endedAt, dead.content.toString()],
    ['outbound', 'dead', 'expired', 'too late', 3000n, 'x'],
  );
});
