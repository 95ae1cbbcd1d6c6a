/** The pure decisions: turns, verdicts, blame, registration, health; and the codec's arithmetic. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import fc from 'fast-check';
import { Data } from '../../../protocol/generated/yggdrasil.js';
import { claimedPid, countFeature, dataFromRecord, resultFromData, wireSize } from '../../../src/dispatcher/codec.js';
import { afterCheck, isAllowed, judgeDeath, turnOrder, verdictOn, workerLimit } from '../../../src/dispatcher/plan.js';
import type { Answer, Load } from '../../../src/dispatcher/plan.js';
import { directiveKey, messageKey, parseDirective } from '../../../src/message/ids.js';
import { metadataFrom } from '../../../src/message/codec.js';
import { inboundRecord } from '../../support/messages.js';

const directive = (name: string): ReturnType<typeof directiveKey> => directiveKey(parseDirective(name)!);
const load = (name: string, more: Partial<Load> = {}): Load => ({
  directive: directive(name),
  inFlight: 0,
  limit: 1,
  isPaused: false,
  ...more,
});
const names = (loads: readonly Load[]): string[] => loads.map((one) => one.directive);

test('the directive after the last one has the next turn, and those without room have none', () => {
  const loads = [load('a'), load('b'), load('c')];
  assert.deepEqual(names(turnOrder(loads, undefined)), ['a', 'b', 'c']);
  assert.deepEqual(names(turnOrder(loads, directive('a'))), ['b', 'c', 'a']);
  assert.deepEqual(names(turnOrder(loads, directive('c'))), ['a', 'b', 'c']);
  assert.deepEqual(names(turnOrder(loads, directive('gone'))), ['a', 'b', 'c']);
  assert.deepEqual(
    names(turnOrder([load('a', { inFlight: 1 }), load('b', { isPaused: true }), load('c')], undefined)),
    ['c'],
  );
});

test('a worker has as many calls in flight as its widest directive, and one while there are suspects', () => {
  assert.equal(workerLimit([load('a', { limit: 3 }), load('b')], false), 3);
  assert.equal(workerLimit([load('a', { limit: 3 })], true), 1);
  assert.equal(workerLimit([], false), 0);
});

test('what an answer means', () => {
  const answer = (code: status, details = '', isConnected = true): Answer => ({
    kind: 'status',
    code,
    details,
    isConnected,
  });
  assert.equal(verdictOn({ kind: 'receipt', response: Buffer.alloc(0) }, 0, 10).kind, 'delivered');
  assert.equal(verdictOn(answer(status.UNAVAILABLE, 'busy'), 9, 10).kind, 'unavailable');
  assert.equal(verdictOn(answer(status.UNAVAILABLE, 'Connection dropped', false), 9, 10).kind, 'broken');
  assert.equal(verdictOn(answer(status.INTERNAL, 'Received RST_STREAM with code 2', false), 9, 10).kind, 'broken');
  assert.equal(verdictOn(answer(status.INTERNAL, 'bad', false), 0, 10).kind, 'retry');
  assert.equal(verdictOn(answer(status.UNKNOWN, 'boom'), 8, 10).kind, 'retry');
  assert.equal(verdictOn(answer(status.UNKNOWN, 'boom'), 9, 10).kind, 'dead');
});

test('each unanswered call is judged in exactly one way, and nobody is guilty of what several may have done', () => {
  const call = fc.record({ key: fc.integer({ min: 1, max: 1000 }).map(messageKey), isOverdue: fc.boolean() });
  const calls = fc.uniqueArray(call, { selector: ({ key }) => key, maxLength: 8 });
  fc.assert(
    fc.property(calls, fc.boolean(), (unanswered, isBlameless) => {
      const { guilty, innocent, suspects } = judgeDeath(unanswered, isBlameless);
      const all = [...guilty, ...innocent, ...suspects];
      assert.deepEqual(
        all.toSorted((a, b) => a - b),
        unanswered.map(({ key }) => key).toSorted((a, b) => a - b),
      );
      const overdue = unanswered.filter(({ isOverdue }) => isOverdue);
      if (overdue.length > 0) assert.equal(guilty.length, overdue.length);
      else if (isBlameless || unanswered.length !== 1) assert.equal(guilty.length, 0);
      else assert.equal(guilty.length, 1);
      if (suspects.length > 0) assert.ok(suspects.length > 1 && !isBlameless);
    }),
  );
});

test('the handlers of a file that are no names bind nothing', () => {
  assert.equal(isAllowed(['', '../x', 'my-echo'], directive('my_echo')), true);
  assert.equal(isAllowed(['../x'], directive('x')), false);
});

test('three failed checks in a row make a worker unhealthy', () => {
  assert.equal(afterCheck(0, 'not-serving'), 1);
  assert.equal(afterCheck(1, 'silence'), 2);
  assert.equal(afterCheck(2, 'not-serving'), 'unhealthy');
  assert.equal(afterCheck(2, 'serving'), 0);
  assert.equal(afterCheck(2, 'unknown'), 2);
  assert.equal(afterCheck(2, 'unimplemented'), 'ask-no-more');
});

test('the size of a message is known before its body is read, to the byte', () => {
  const text = fc.string({ maxLength: 200 });
  fc.assert(
    fc.property(
      text,
      text,
      fc.array(fc.tuple(text, text), { maxLength: 5 }),
      fc.oneof(fc.nat(300), fc.nat(100_000), fc.constantFrom(127, 128, 16_383, 16_384, 2_097_152)),
      (messageId, responseTo, metadata, size) => {
        const bytes = Buffer.alloc(size);
        const content = { kind: 'file', path: '/nowhere', size } as const;
        const record = inboundRecord({ messageId, responseTo, metadata: metadataFrom(metadata), content });
        assert.equal(wireSize(record), Data.encode(dataFromRecord(record, bytes)).finish().length);
      },
    ),
  );
});

test('a feature that counts is a whole number of at least one', () => {
  for (const [value, expected] of [
    ['4', 4],
    ['0', undefined],
    ['-1', undefined],
    ['many', undefined],
    ['1.5', undefined],
    ['9'.repeat(16), undefined],
  ] as const) {
    assert.equal(countFeature(metadataFrom([['concurrency', value]]), 'concurrency'), expected);
  }
  assert.equal(countFeature(metadataFrom([]), 'concurrency'), undefined);
});

test('a pid that cannot be one is not shown', () => {
  const request = { handler: 'echo', detachedContent: false, features: {} };
  assert.equal(claimedPid({ ...request, pid: 42n }), 42);
  assert.equal(claimedPid({ ...request, pid: 0n }), undefined);
  assert.equal(claimedPid({ ...request, pid: 2n ** 62n }), undefined);
});

test('metadata of a result inherits nothing', () => {
  const data = { messageId: 'r', responseTo: '', directive: 'echo', content: Buffer.alloc(0), metadata: { a: 'b' } };
  const result = resultFromData(data, { resultSize: 10, metadataSize: 10 });
  assert.ok(result.kind === 'result');
  assert.equal(Object.getPrototypeOf(result.metadata), null);
});
