import assert from 'node:assert/strict';
import { test } from 'node:test';
import { directiveKey, messageKey, parseDirective, type InboundRecord } from '../../../src/message/index.js';
import { findHandler, lapseOf, nextInboundStep } from '../../../src/processor/plan.js';
import { inboundRecord } from '../../support/messages.js';

const directive = parseDirective('my-echo')!;
const NOW = 1_000_000;

const record = (change: Partial<InboundRecord> = {}): InboundRecord =>
  inboundRecord({ state: 'accepted', directive, directiveKey: directiveKey(directive), ...change });

const step = (change: Partial<InboundRecord>, wantsDetached?: boolean): string =>
  nextInboundStep(record(change), wantsDetached === undefined ? undefined : { wantsDetached }, NOW).kind;

test('a message waits for its worker, then goes to it or is fetched for it', () => {
  assert.equal(step({}), 'wait');
  assert.equal(step({}, false), 'process');
  assert.equal(step({}, true), 'fetch');
  assert.equal(step({ state: 'fetching' }, true), 'fetch');
});

test('what was fetched is not fetched again, whoever is registered', () => {
  for (const wants of [undefined, true, false]) assert.equal(step({ isFetched: true }, wants), 'process');
});

test('a message that is ready goes on though its worker is away, and is fetched when its worker wants that now', () => {
  assert.equal(step({ state: 'ready' }), 'process');
  assert.equal(step({ state: 'ready' }, true), 'fetch');
});

test('an expired message ends, but not while its call is in flight, and a replay ignores it', () => {
  assert.equal(step({ expiresAt: NOW }, false), 'expire');
  assert.equal(step({ expiresAt: NOW + 1 }, false), 'process');
  assert.equal(step({ expiresAt: NOW, state: 'dispatching' }, false), 'leave');
  assert.equal(step({ expiresAt: NOW, replayOf: messageKey(9) }, false), 'process');
});

test('a handler is found by directive, hyphen or underscore, at registered workers only', () => {
  const handlers = [{ directive: parseDirective('my_echo')!, detachedContent: true }];
  const key = directiveKey(directive);
  assert.deepEqual(findHandler([{ state: 'registered', handlers }], key), { wantsDetached: true });
  assert.equal(findHandler([{ state: 'gone', handlers }], key), undefined);
  assert.equal(findHandler([{ state: 'registered', handlers: [] }], key), undefined);
});

test('a message whose time is over is expired, or unroutable when nobody ever knew its directive', () => {
  const code = (change: Partial<InboundRecord>, isKnown: boolean): string => {
    const { end, failure } = lapseOf(record(change), isKnown, NOW);
    return `${end} ${failure.code}`;
  };
  assert.equal(code({}, true), 'expired expired');
  assert.equal(code({}, false), 'dead unroutable');
  assert.equal(code({ expiresAt: NOW }, false), 'expired expired');
});
