import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Slots } from '../../../src/processor/slots.js';
import { settle } from '../../support/clock.js';

/** Runs a task that ends when it is told to. */
function hold(
  slots: Slots,
  host: string,
  log: string[],
  name: string,
  scope = new AbortController().signal,
): () => void {
  let end = (): void => undefined;
  const held = new Promise<void>((resolve) => (end = resolve));
  slots
    .run(
      host,
      () => {
        log.push(name);
        return held;
      },
      scope,
    )
    .catch(() => log.push(`${name} gave up`));
  return end;
}

test('no more than the total run, and no more than its share at one host', async () => {
  const slots = new Slots(3, 2);
  const log: string[] = [];
  const ends = ['a1', 'a2', 'a3', 'b1', 'b2'].map((name) => hold(slots, name.slice(0, 1), log, name));
  await settle();
  assert.deepEqual(log, ['a1', 'a2', 'b1']);
  assert.deepEqual([slots.running, slots.waiting], [3, 2]);
  ends[0]?.();
  await settle();
  ends[2]?.();
  ends[1]?.();
  ends[3]?.();
  await settle();
  assert.deepEqual(log.slice(3).sort(), ['a3', 'b2']);
  ends.forEach((end) => end());
  await settle();
  assert.deepEqual([slots.running, slots.waiting], [0, 0]);
});

test('hosts that wait take turns, whoever came first', async () => {
  const slots = new Slots(1, 1);
  const log: string[] = [];
  const ends = ['a1', 'a2', 'a3', 'b1', 'c1'].map((name) => hold(slots, name.slice(0, 1), log, name));
  for (let turn = 0; turn < 5; turn++) {
    await settle();
    const running = log.at(-1) ?? '';
    ends[['a1', 'a2', 'a3', 'b1', 'c1'].indexOf(running)]?.();
  }
  await settle();
  assert.deepEqual(log, ['a1', 'a2', 'b1', 'c1', 'a3']);
});

test('a task whose scope ends while it waits leaves the line and never runs', async () => {
  const slots = new Slots(1, 1);
  const log: string[] = [];
  const scope = new AbortController();
  const end = hold(slots, 'a', log, 'first');
  hold(slots, 'a', log, 'second', scope.signal);
  scope.abort();
  hold(slots, 'a', log, 'third', AbortSignal.abort());
  await settle();
  end();
  await settle();
  assert.deepEqual(log, ['first', 'second gave up', 'third gave up']);
  assert.deepEqual([slots.running, slots.waiting], [0, 0]);
});

test('a task that fails gives its place back', async () => {
  const slots = new Slots(1, 1);
  const scope = new AbortController().signal;
  await assert.rejects(
    slots.run('a', () => Promise.reject(new Error('no')), scope),
    /no/,
  );
  assert.equal(await slots.run('a', () => Promise.resolve('yes'), scope), 'yes');
});
