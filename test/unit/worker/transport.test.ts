import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AgentError } from '../../../src/errors.js';
import { firstTransport, nextAttempt, type SessionEnd } from '../../../src/worker/transport.js';

const error = new AgentError('worker.unreachable', 'x');
const lost: SessionEnd = { kind: 'lost', reason: '', wasUseful: true };

test('auto tries the stream first, and takes unary calls at once where an agent has none', () => {
  assert.equal(firstTransport('auto'), 'stream');
  const next = nextAttempt('auto', { kind: 'unsupported' }, { transport: 'stream', failures: 0 });
  assert.deepEqual(next, { transport: 'unary', backoff: undefined, failures: 0 });
});

test('that an agent has no stream is remembered while it refuses, and forgotten once it is gone', () => {
  const unary = { transport: 'unary', failures: 0 } as const;
  assert.equal(nextAttempt('auto', { kind: 'refused', error }, unary).transport, 'unary');
  assert.equal(nextAttempt('auto', { kind: 'deaf', error }, unary).transport, 'unary');
  assert.equal(nextAttempt('auto', lost, unary).transport, 'stream');
  assert.equal(nextAttempt('auto', { kind: 'unreachable', error }, unary).transport, 'stream');
});

test('one transport alone is never left', () => {
  for (const choice of ['stream', 'unary'] as const) {
    const ends: SessionEnd[] = [
      lost,
      { kind: 'unreachable', error },
      { kind: 'refused', error },
      { kind: 'deaf', error },
    ];
    assert.equal(firstTransport(choice), choice);
    for (const end of ends) {
      if (end.kind === 'stopped') continue;
      assert.equal(nextAttempt(choice, end, { transport: choice, failures: 3 }).transport, choice);
    }
  }
  const { transport, backoff } = nextAttempt('stream', { kind: 'unsupported' }, { transport: 'stream', failures: 0 });
  assert.equal(transport, 'stream');
  assert.ok((backoff?.first ?? 0) >= 10_000, 'an agent gets its stream by an upgrade, not soon');
});

test('a session of which nothing came backs off ever longer, one that was of use begins anew at once', () => {
  const useless: SessionEnd = { kind: 'lost', reason: '', wasUseful: false };
  assert.equal(nextAttempt('auto', useless, { transport: 'stream', failures: 4 }).failures, 5);
  assert.deepEqual(nextAttempt('auto', lost, { transport: 'stream', failures: 4 }), {
    transport: 'stream',
    backoff: undefined,
    failures: 0,
  });
});
