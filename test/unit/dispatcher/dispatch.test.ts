/** Messages to a worker over a real socket: order, turns, concurrency, errors, death. The store is in memory. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import type { Data } from '../../../protocol/generated/yggdrasil.js';
import type { MessageKey } from '../../../src/message/ids.js';
import { FakeClock, settle } from '../../support/clock.js';
import { WorkerStatus, type TestWorker } from '../../support/worker.js';
import { Harness } from './harness.js';

const ids = (messages: readonly Data[]): string[] => messages.map(({ messageId }) => messageId);

/** A handler whose calls stay open until the test ends them. */
function gate(): { wait: () => Promise<void>; open: () => void } {
  const waiting: (() => void)[] = [];
  return {
    wait: () => new Promise((resolve) => waiting.push(resolve)),
    open: () => waiting.splice(0).forEach((go) => go()),
  };
}

test('a message that is ready is delivered with its bytes and fields as they are', async () => {
  await using harness = await Harness.inMemory();
  const content = Buffer.from('{ "n": 12345678901234567890,  "x": 1.0 }');
  const key = harness.store.add({ content, messageId: 'id-1' });
  const worker = await harness.worker();
  await worker.join('echo');
  assert.equal(await harness.store.endOf(key), 'delivered');
  assert.deepEqual(worker.received[0], { messageId: 'id-1', metadata: {}, content, responseTo: '', directive: 'echo' });
  assert.deepEqual(harness.outcomes, [{ key, outcome: { kind: 'delivered' } }]);
});

test('a message that comes later is delivered when it is enqueued', async () => {
  await using harness = await Harness.inMemory();
  const worker = await harness.worker();
  await worker.join('echo');
  const key = harness.store.add();
  harness.dispatcher.enqueue(key);
  assert.equal(await harness.store.endOf(key), 'delivered');
});

test('a body that lies in a file is read and delivered', async () => {
  await using harness = await Harness.inMemory();
  const content = Buffer.alloc(100_000, 7);
  const key = harness.store.add({ inFile: true, content });
  const worker = await harness.worker();
  await worker.join('echo');
  await harness.store.endOf(key);
  assert.deepEqual(worker.received[0]?.content, content);
});

test('a body that cannot be read counts as a failed attempt', async () => {
  await using harness = await Harness.inMemory();
  harness.store.onRead = () => Promise.reject(new Error('flipped bit'));
  const key = harness.store.add({ inFile: true, attempts: 9 });
  const worker = await harness.worker();
  await worker.join('echo');
  const end = await harness.store.endOf(key);
  assert.ok(end !== 'delivered' && end.code === 'worker-failed' && end.text.includes('flipped bit'));
});

test('a dash and an underscore in a directive are one letter', async () => {
  await using harness = await Harness.inMemory();
  const key = harness.store.add({ directive: 'rhc-worker' });
  const worker = await harness.worker();
  await worker.join('rhc_worker');
  assert.equal(await harness.store.endOf(key), 'delivered');
});

test('messages come in order of arrival, one call at a time, best priority first', async () => {
  await using harness = await Harness.inMemory();
  for (const priority of [5, 5, 9, 0, 5]) harness.store.add({ priority });
  const worker = await harness.worker();
  await worker.join('echo');
  assert.deepEqual(ids(await worker.got(5)), ['m3', 'm1', 'm2', 'm5', 'm4']);
  assert.equal(worker.mostOpen, 1);
});

test('every eighth turn goes to the oldest message of any priority', async () => {
  await using harness = await Harness.inMemory();
  harness.store.add({ priority: 0 });
  for (let i = 0; i < 10; i++) harness.store.add({ priority: 9 });
  const worker = await harness.worker();
  await worker.join('echo');
  assert.equal(ids(await worker.got(11)).indexOf('m1'), 7);
});

test('two directives of one worker take turns', async () => {
  await using harness = await Harness.inMemory();
  const { wait, open } = gate();
  const worker = await harness.worker('echo-worker', {}, { handler: wait });
  await worker.join('a');
  await worker.register('b');
  for (const directive of ['a', 'a', 'a', 'b', 'b']) harness.dispatcher.enqueue(harness.store.add({ directive }));
  await worker.got(1);
  worker.handler = () => undefined;
  open();
  assert.deepEqual(
    (await worker.got(5)).map(({ directive }) => directive),
    ['a', 'b', 'a', 'b', 'a'],
  );
});

test('a worker that announces a concurrency gets so many calls at once, and its file has the last word', async () => {
  for (const [settings, expected] of [
    [{}, 4],
    [{ concurrency: 2 }, 2],
  ] as const) {
    await using harness = await Harness.inMemory();
    const { wait, open } = gate();
    const keys = Array.from({ length: 8 }, () => harness.store.add());
    const worker = await harness.worker('echo-worker', settings, { handler: wait });
    await worker.join('echo', { features: { concurrency: '4' } });
    await worker.got(expected);
    worker.handler = () => undefined;
    open();
    await Promise.all(keys.map((key) => harness.store.endOf(key)));
    assert.equal(worker.mostOpen, expected);
  }
});

test('a worker that hangs delays no other worker', async () => {
  await using harness = await Harness.inMemory();
  const hung = await harness.worker('hung-worker', {}, { handler: () => new Promise(() => undefined) });
  const quick = await harness.worker('quick-worker');
  await hung.join('slow');
  await quick.join('fast');
  const stuck = harness.store.add({ directive: 'slow' });
  harness.dispatcher.enqueue(stuck);
  await hung.got(1);
  for (let i = 0; i < 50; i++) {
    const key = harness.store.add({ directive: 'fast' });
    harness.dispatcher.enqueue(key);
    assert.equal(await harness.store.endOf(key), 'delivered');
  }
  assert.equal(harness.store.inbound(stuck)?.state, 'dispatching');
});

test('an error answer counts one attempt, gives up the place, and the next message goes on', async () => {
  const clock = new FakeClock();
  await using harness = await Harness.inMemory({ clock });
  const worker = await harness.worker();
  worker.handler = ({ messageId }) => {
    if (messageId === 'm1') throw new WorkerStatus(status.INTERNAL);
  };
  const [first, second] = [harness.store.add(), harness.store.add()];
  await worker.join('echo');
  assert.equal(await harness.store.endOf(second), 'delivered');
  assert.deepEqual(harness.store.retries, [{ key: first, dueAt: clock.now() + 1000 }]);
  assert.deepEqual(harness.outcomes[0], { key: first, outcome: { kind: 'retry', dueAt: clock.now() + 1000 } });
  assert.equal(harness.store.inbound(first)?.attempts, 1);
});

test('the last failed attempt ends a message as dead with what the worker said', async () => {
  await using harness = await Harness.inMemory();
  const worker = await harness.worker();
  worker.handler = () => {
    throw new WorkerStatus(status.FAILED_PRECONDITION, 'no such playbook');
  };
  const key = harness.store.add({ attempts: 9 });
  await worker.join('echo');
  assert.deepEqual(await harness.store.endOf(key), {
    code: 'worker-failed',
    text: 'the worker answered FAILED_PRECONDITION: no such playbook (attempt 10 of 10)',
  });
  assert.equal(harness.outcomes[0]?.outcome.kind, 'dead');
});

test('UNAVAILABLE of a worker counts nothing, keeps the order and comes again', async () => {
  await using harness = await Harness.inMemory();
  const worker = await harness.worker();
  let refusals = 3;
  worker.handler = () => {
    if (refusals-- > 0) throw new WorkerStatus(status.UNAVAILABLE, 'busy');
  };
  const keys = [harness.store.add({ attempts: 9 }), harness.store.add()];
  await worker.join('echo');
  for (const key of keys) assert.equal(await harness.store.endOf(key), 'delivered');
  assert.deepEqual(ids(worker.received), ['m1', 'm1', 'm1', 'm1', 'm2']);
  assert.deepEqual(harness.store.retries, []);
});

test('a message of 4 MiB passes and one byte more is dead as too large', async () => {
  await using harness = await Harness.inMemory();
  const frame = 1 + 4 + (2 + 'm1'.length) + (2 + 'echo'.length);
  const largest = 4 * 1024 * 1024 - frame;
  const fits = harness.store.add({ content: Buffer.alloc(largest) });
  const over = harness.store.add({ content: Buffer.alloc(largest + 1) });
  const worker = await harness.worker();
  await worker.join('echo');
  assert.equal(await harness.store.endOf(fits), 'delivered');
  const end = await harness.store.endOf(over);
  assert.ok(end !== 'delivered' && end.code === 'too-large' && end.text.includes('4194305'));
  assert.equal(worker.received.length, 1);
});

test('a worker that announces a larger message size gets larger messages', async () => {
  await using harness = await Harness.inMemory();
  const key = harness.store.add({ content: Buffer.alloc(5 * 1024 * 1024) });
  const worker = await harness.worker('echo-worker', {}, { maxReceive: 8 * 1024 * 1024 });
  await worker.join('echo', { features: { 'max-message-size': String(8 * 1024 * 1024) } });
  assert.equal(await harness.store.endOf(key), 'delivered');
});

test('a worker that dies with one message in flight fails it, and what waits keeps its order', async () => {
  await using harness = await Harness.inMemory();
  const first = await harness.worker('echo-worker', {}, { handler: () => new Promise(() => undefined) });
  const keys = [harness.store.add(), harness.store.add(), harness.store.add()] as const;
  await first.join('echo');
  await first.got(1);
  first.die();
  harness.died();
  const second = await harness.worker();
  await second.join('echo');
  assert.deepEqual(ids(await second.got(2)), ['m2', 'm3']);
  assert.equal(harness.store.inbound(keys[0])?.attempts, 1);
});

test('of several in flight at a death none counts, and they come one at a time until the guilty one is known', async () => {
  await using harness = await Harness.inMemory();
  const never = (): Promise<void> => new Promise(() => undefined);
  const keys: MessageKey[] = Array.from({ length: 6 }, () => harness.store.add());
  const first = await harness.worker('echo-worker', { concurrency: 3 }, { handler: never });
  await first.join('echo');
  await first.got(3);
  first.die();
  harness.died();
  const second = await harness.worker('echo-worker', { concurrency: 3 });
  second.handler = ({ messageId }) => (messageId === 'm2' ? never() : undefined);
  await second.join('echo');
  await second.got(2);
  await harness.store.endOf(keys[0]!);
  assert.deepEqual(ids(second.received), ['m1', 'm2']);
  assert.equal(second.mostOpen, 1);
  second.die();
  harness.died();
  const third = await harness.worker('echo-worker', { concurrency: 3 });
  await third.join('echo');
  await Promise.all([keys[2]!, ...keys.slice(3)].map((key) => harness.store.endOf(key)));
  assert.deepEqual(
    harness.store.retries.map(({ key }) => key),
    [keys[1]],
  );
});

test('a message in flight at a worker that the agent stopped counts nothing', async () => {
  await using harness = await Harness.inMemory();
  const first = await harness.worker('echo-worker', {}, { handler: () => new Promise(() => undefined) });
  const key = harness.store.add();
  await first.join('echo');
  await first.got(1);
  first.die();
  harness.died('echo-worker', { isStopped: true });
  const second = await harness.worker();
  await second.join('echo');
  assert.equal(await harness.store.endOf(key), 'delivered');
  assert.deepEqual(harness.store.retries, []);
});

test('a receipt that was on its way when the worker died is not lost', async () => {
  await using harness = await Harness.inMemory();
  const { wait, open } = gate();
  const worker = await harness.worker('echo-worker', {}, { handler: wait });
  const key = harness.store.add();
  await worker.join('echo');
  await worker.got(1);
  harness.died();
  open();
  assert.equal(await harness.store.endOf(key), 'delivered');
  assert.deepEqual(harness.store.retries, []);
});

test('a connection that outlives its worker is given up, and the message is judged', async () => {
  const clock = new FakeClock();
  await using harness = await Harness.inMemory({ clock });
  const worker = await harness.worker('echo-worker', {}, { handler: () => new Promise(() => undefined) });
  const key = harness.store.add();
  await worker.join('echo');
  await worker.got(1);
  harness.died();
  const judged = harness.dispatcher.dataDispatch.next(harness.scope.signal);
  await clock.advance(1000);
  assert.equal((await judged).key, key);
  assert.equal(harness.store.inbound(key)?.attempts, 1);
});

test('a connection that breaks while the worker lives counts nothing', async () => {
  await using harness = await Harness.inMemory();
  const worker = await harness.worker('echo-worker', {}, { handler: () => new Promise(() => undefined) });
  const key = harness.store.add();
  const { address } = await worker.join('echo');
  await worker.got(1);
  worker.die();
  worker.handler = () => undefined;
  await worker.listen(address);
  assert.equal(await harness.store.endOf(key), 'delivered');
  assert.deepEqual(harness.store.requeued, [key]);
  assert.deepEqual(harness.store.retries, []);
});

/** Cuts the connection and listens again, as a worker that restarts its server. */
async function cut(worker: TestWorker, address: string): Promise<void> {
  worker.die();
  await worker.listen(address);
}

const never = (): Promise<void> => new Promise(() => undefined);

test('a message whose worker cuts the connection each time fails from the third cut on and gives up its place', async () => {
  await using harness = await Harness.inMemory({ limits: { maxAttempts: 2 } });
  const worker = await harness.worker('echo-worker', {}, { handler: never });
  const [poison, next] = [harness.store.add(), harness.store.add()];
  const { address } = await worker.join('echo');
  for (let cuts = 1; cuts <= 3; cuts++) {
    await worker.got(cuts);
    assert.deepEqual(harness.store.retries, []);
    if (cuts === 3) worker.handler = ({ messageId }) => (messageId === 'm1' ? never() : undefined);
    await cut(worker, address);
  }
  assert.equal(await harness.store.endOf(next), 'delivered');
  assert.deepEqual(ids(worker.received), ['m1', 'm1', 'm1', 'm2']);
  assert.deepEqual(
    harness.store.retries.map(({ key }) => key),
    [poison],
  );
  harness.store.comeBack(poison);
  harness.dispatcher.enqueue(poison);
  await worker.got(5);
  await cut(worker, address);
  const end = await harness.store.endOf(poison);
  assert.match(end === 'delivered' ? end : end.text, /cut the connection again and again .* \(attempt 2 of 2\)$/);
});

test('of several in flight at a cut none counts, and they come one at a time', async () => {
  await using harness = await Harness.inMemory();
  const keys = Array.from({ length: 4 }, () => harness.store.add());
  const worker = await harness.worker('echo-worker', { concurrency: 2 }, { handler: never });
  const { address } = await worker.join('echo');
  await worker.got(2);
  worker.handler = ({ messageId }) => (messageId === 'm2' && worker.received.length < 5 ? never() : undefined);
  await cut(worker, address);
  await worker.got(4);
  await cut(worker, address);
  await Promise.all(keys.map((key) => harness.store.endOf(key)));
  assert.deepEqual(ids(worker.received).slice(2, 5), ['m1', 'm2', 'm2'], 'the one that was cut off alone goes alone');
  assert.deepEqual(harness.store.retries, []);
});

test('a message that its worker died of goes alone until it has a receipt', async () => {
  await using harness = await Harness.inMemory();
  const first = await harness.worker('echo-worker', { concurrency: 3 }, { handler: never });
  const poison = harness.store.add();
  await first.join('echo');
  await first.got(1);
  const judged = (): Promise<unknown> => harness.dispatcher.dataDispatch.next(harness.scope.signal);
  const failedOnce = judged();
  first.die();
  harness.died();
  await failedOnce;
  harness.store.comeBack(poison);
  const keys = [harness.store.add(), harness.store.add()];
  const second = await harness.worker('echo-worker', { concurrency: 3 }, { handler: never });
  await second.join('echo');
  await second.got(1);
  assert.deepEqual(ids(second.received), ['m1']);
  const failedTwice = judged();
  second.die();
  harness.died();
  await failedTwice;
  assert.deepEqual(
    harness.store.retries.map(({ key }) => key),
    [poison, poison],
    'each death counts at once',
  );
  const { wait, open } = gate();
  const third = await harness.worker('echo-worker', { concurrency: 3 }, { handler: wait });
  await third.join('echo');
  await third.got(2);
  harness.store.comeBack(poison);
  harness.dispatcher.enqueue(poison);
  const late = harness.store.add();
  harness.dispatcher.enqueue(late);
  open();
  await third.got(3);
  assert.deepEqual(ids(third.received), ['m2', 'm3', 'm1'], 'it waits for those in flight, and the next for it');
  await Promise.all(keys.map((key) => harness.store.endOf(key)));
  open();
  assert.equal(await harness.store.endOf(poison), 'delivered');
  await third.got(4);
  open();
  assert.equal(await harness.store.endOf(late), 'delivered');
});

test('a call past its deadline stops the worker first and is tried again only after its death', async () => {
  const clock = new FakeClock();
  await using harness = await Harness.inMemory({ clock });
  const settings = { deadline: 5000, concurrency: 2 };
  const worker = await harness.worker('echo-worker', settings, { handler: () => new Promise(() => undefined) });
  const late = harness.store.add();
  await worker.join('echo');
  await worker.got(1);
  await clock.advance(4000);
  const other = harness.store.add();
  harness.dispatcher.enqueue(other);
  await worker.got(2);
  await clock.advance(1000);
  assert.deepEqual(harness.news, ['+echo-worker/echo', '!echo-worker']);
  assert.equal(harness.store.inbound(late)?.state, 'dispatching');
  const judged = harness.dispatcher.dataDispatch.next(harness.scope.signal);
  worker.die();
  harness.died('echo-worker', { isStopped: true });
  assert.equal((await judged).key, late);
  assert.deepEqual(harness.store.requeued, [other]);
});

test('a call that answers past its deadline is taken, and what its worker had beside it is not to blame', async () => {
  const clock = new FakeClock();
  await using harness = await Harness.inMemory({ clock });
  const { wait, open } = gate();
  const handler = ({ messageId }: { messageId: string }): Promise<void> =>
    messageId === 'late' ? wait() : new Promise(() => undefined);
  const worker = await harness.worker('echo-worker', { deadline: 5000, concurrency: 2 }, { handler });
  const late = harness.store.add({ messageId: 'late' });
  await worker.join('echo');
  await worker.got(1);
  await clock.advance(4000);
  const beside = harness.store.add();
  harness.dispatcher.enqueue(beside);
  await worker.got(2);
  await clock.advance(1000);
  open();
  assert.equal(await harness.store.endOf(late), 'delivered');
  // It is being stopped: what comes now waits for the next incarnation.
  const after = harness.store.add();
  harness.dispatcher.enqueue(after);
  assert.equal(harness.store.inbound(after)?.state, 'ready');
  worker.die();
  harness.died('echo-worker', { isStopped: true });
  while (harness.store.requeued.length === 0) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(harness.store.requeued, [beside]);
  assert.deepEqual(harness.store.retries, [], 'no attempt was counted');
});

test('a message that ended while its worker had it is not announced again', async () => {
  await using harness = await Harness.inMemory();
  const { wait, open } = gate();
  const worker = await harness.worker('echo-worker', {}, { handler: wait });
  const key = harness.store.add();
  await worker.join('echo');
  await worker.got(1);
  harness.store.vanish(key);
  const next = harness.store.add();
  worker.handler = () => undefined;
  open();
  await harness.store.endOf(next);
  assert.deepEqual(
    harness.outcomes.map((outcome) => outcome.key),
    [next],
  );
});

test('a journal that fails after a receipt is an error in the log and stops nothing', async () => {
  await using harness = await Harness.inMemory();
  const worker = await harness.worker();
  await worker.join('echo');
  harness.store.durable = () => Promise.reject(new Error('EIO'));
  harness.dispatcher.enqueue(harness.store.add());
  const line = await harness.log.line('dispatcher.journal_failed');
  assert.match(line.text, /EIO/);
  await settle();
});

test('a stop waits for the call in flight and begins no other', async () => {
  await using harness = await Harness.inMemory();
  const { wait, open } = gate();
  const worker = await harness.worker('echo-worker', {}, { handler: wait });
  const [first, second] = [harness.store.add(), harness.store.add()];
  await worker.join('echo');
  await worker.got(1);
  const stopped = harness.dispatcher.stop(60_000);
  open();
  await stopped;
  assert.equal(harness.store.ends.get(first), 'delivered');
  assert.equal(harness.store.inbound(second)?.state, 'ready');
});

test('a stop whose time is over breaks the call off and leaves the message ready', async () => {
  await using harness = await Harness.inMemory();
  const worker = await harness.worker('echo-worker', {}, { handler: () => new Promise(() => undefined) });
  const key = harness.store.add();
  await worker.join('echo');
  await worker.got(1);
  await harness.dispatcher.stop(0);
  await harness.dispatcher.stop(0);
  assert.equal(harness.store.inbound(key)?.state, 'ready');
  assert.equal(harness.store.inbound(key)?.attempts, 0);
});
