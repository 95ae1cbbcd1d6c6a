/** A signal announces to whoever is connected, and nothing a handler does reaches the emitter. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Signal } from '../../../src/signal/index.js';

const forever = new AbortController().signal;

test('handlers get each payload in the order they were connected', () => {
  const signal = new Signal<number>('n');
  const got: string[] = [];
  signal.connect((n) => got.push(`a${n}`), forever);
  signal.connect((n) => got.push(`b${n}`), forever);
  signal.emit(1);
  signal.emit(2);
  assert.deepEqual(got, ['a1', 'b1', 'a2', 'b2']);
});

test('a subscription ends with its scope', () => {
  const signal = new Signal<number>('n');
  const scope = new AbortController();
  const got: number[] = [];
  signal.connect((n) => got.push(n), scope.signal);
  assert.equal(signal.size, 1);
  scope.abort();
  signal.emit(1);
  assert.deepEqual(got, []);
  assert.equal(signal.size, 0);
});

test('a scope that has ended connects nothing', () => {
  const signal = new Signal<number>('n');
  signal.connect(() => assert.fail(), AbortSignal.abort());
  signal.emit(1);
  assert.equal(signal.size, 0);
});

test('the same function connected twice is called twice', () => {
  const signal = new Signal<number>('n');
  let calls = 0;
  const fn = (): void => void (calls += 1);
  signal.connect(fn, forever);
  signal.connect(fn, forever);
  signal.emit(1);
  assert.equal(calls, 2);
});

test('a handler that throws or rejects goes to the error sink and keeps nobody from running', async () => {
  const errors: string[] = [];
  const signal = new Signal<number>('n', (error, name) => errors.push(`${name}: ${String(error)}`));
  let reached = 0;
  signal.connect(() => {
    throw new Error('one');
  }, forever);
  signal.connect(() => Promise.reject(new Error('two')), forever);
  signal.connect(() => Promise.resolve(), forever);
  signal.connect(() => (reached += 1), forever);
  signal.emit(1);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(reached, 1);
  assert.deepEqual(errors, ['n: Error: one', 'n: Error: two']);
});

test('without an error sink the error is thrown where nobody catches it, after the emitter has gone on', (t) => {
  const later = t.mock.method(globalThis, 'queueMicrotask', () => undefined);
  const signal = new Signal<number>('n');
  signal.connect(() => {
    throw new Error('lost');
  }, forever);
  signal.emit(1);
  const [task] = later.mock.calls[0]?.arguments ?? [];
  assert.ok(task);
  assert.throws(task, /lost/);
});

test('next resolves with the first payload that is accepted, then lets go', async () => {
  const signal = new Signal<number>('n');
  const next = signal.next(forever, (n) => n > 1);
  signal.emit(1);
  signal.emit(2);
  signal.emit(3);
  assert.equal(await next, 2);
  assert.equal(signal.size, 0);
  const any = signal.next(forever);
  signal.emit(7);
  assert.equal(await any, 7);
});

test('next rejects with the reason of its scope', async () => {
  const signal = new Signal<number>('n');
  const scope = new AbortController();
  const next = signal.next(scope.signal);
  scope.abort(new Error('enough'));
  await assert.rejects(next, /enough/);
  assert.equal(signal.size, 0);
  await assert.rejects(signal.next(AbortSignal.abort('no error')), /the scope ended before n/);
});
