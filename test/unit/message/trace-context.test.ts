// The W3C Trace Context in metadata: what is one, and how an answer gets that of its message.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { metadataFrom, traceContextOf, withTraceContext } from '../../../src/message/index.js';

const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';

test('a traceparent that can be read is one, and a tracestate only beside it', () => {
  assert.deepEqual(traceContextOf(metadataFrom([['traceparent', traceparent]])), {
    traceparent,
    tracestate: undefined,
  });
  const state = (tracestate: string): unknown =>
    traceContextOf(
      metadataFrom([
        ['traceparent', traceparent],
        ['tracestate', tracestate],
      ]),
    )?.tracestate;
  assert.equal(state('a=1'), 'a=1');
  assert.equal(state(''), undefined);
  assert.equal(state('x'.repeat(513)), undefined, 'longer than each party must pass on');
  for (const wrong of ['', 'x', traceparent.replace('00-', 'ff-'), traceparent.toUpperCase(), `${traceparent}-00`])
    assert.equal(traceContextOf(metadataFrom([['traceparent', wrong]])), undefined, wrong);
  assert.equal(traceContextOf(metadataFrom([['tracestate', 'a=1']])), undefined);
});

test('an answer gets it, unless it has one of its own', () => {
  const answer = metadataFrom([
    ['status', 'ok'],
    ['tracestate', 'of=nothing'],
  ]);
  assert.equal(withTraceContext(answer, undefined), answer);
  const own = metadataFrom([['traceparent', 'mine']]);
  assert.equal(withTraceContext(own, { traceparent, tracestate: 'a=1' }), own);
  assert.deepEqual(
    { ...withTraceContext(answer, { traceparent, tracestate: undefined }) },
    { status: 'ok', traceparent },
  );
  assert.deepEqual(
    { ...withTraceContext(answer, { traceparent, tracestate: 'a=1' }) },
    { status: 'ok', traceparent, tracestate: 'a=1' },
  );
});
