/** The stream of workers over the real dispatcher, the real datastore and real sockets. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { Refusal_Kind as Kind } from '../../protocol/generated/stream.js';
import { Event } from '../../protocol/generated/yggdrasil.js';
import type { MessageKey } from '../../src/message/ids.js';
import { FakeClock, settle } from '../support/clock.js';
import { FaultyJournal } from '../support/faulty-journal.js';
import { directive } from '../support/messages.js';
import { names, openScene } from '../support/stream-scene.js';
import { resultOf, type StreamWorker } from '../support/stream-worker.js';
import { workerName } from '../unit/dispatcher/harness.js';
import { directiveKey } from '../../src/message/ids.js';

const ids = (worker: StreamWorker): (string | undefined)[] => worker.deliveries.map(({ data }) => data?.messageId);

/** Completes each delivery at once, with one result. */
function answersAll(worker: StreamWorker): void {
  let number = 0;
  worker.handler = (delivery) => {
    number += 1;
    worker.complete({ tag: delivery.tag, results: [resultOf(number, delivery)] });
  };
}

const settledAre = (worker: StreamWorker, count: number): Promise<boolean> =>
  worker.until(() => (worker.settled.length === count ? true : undefined));

for (const isOnDisk of [false, true]) {
  test(`a hundred messages go and their results come ${isOnDisk ? 'over LMDB' : 'over memory'}, in order`, async () => {
    await using scene = await openScene({ isOnDisk });
    const { harness, store } = scene;
    const wanted = names(100);
    await scene.deliver(wanted);
    const worker = await harness.streamWorker();
    answersAll(worker);
    const welcome = await worker.join(['echo']);
    assert.deepEqual(welcome.registrations, [{ registered: true, reason: '' }]);
    assert.equal(welcome.config?.clientId, 'edge-7');
    await settledAre(worker, wanted.length);
    assert.deepEqual(ids(worker), wanted);
    assert.deepEqual(
      harness.returned.map((key) => store.outbound(key)?.responseTo),
      wanted,
    );
    assert.deepEqual(new Set(harness.outcomes.map(({ outcome }) => outcome.kind)), new Set(['delivered']));
    assert.equal(harness.outcomes.length, wanted.length);
    assert.match((await harness.log.line('dispatcher.registered')).text, /handles echo/);
  });
}

test('what becomes durable in one commit is told in one frame', async () => {
  await using scene = await openScene({ isOnDisk: true });
  await scene.deliver(names(16));
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo']);
  await worker.got(16);
  worker.complete(...worker.deliveries.map((each) => ({ tag: each.tag, results: [resultOf(each.tag, each)] })));
  await settledAre(worker, 16);
  assert.equal(worker.frames.filter(({ settled }) => settled.length > 0).length, 1);
});

test('an agent that stops tells of all that is durable first, also of what waits for a frame to ride in', async () => {
  await using scene = await openScene();
  await scene.deliver(names(16));
  const { harness } = scene;
  const worker = await harness.streamWorker();
  await worker.join(['echo']);
  await worker.got(16);
  worker.complete(...worker.deliveries.map(({ tag }) => ({ tag, results: [] })));
  while (harness.outcomes.length < 16) await new Promise(setImmediate);
  await harness.dispatcher.stop(0);
  await worker.end;
  assert.equal(worker.settled.length, 16);
});

test('no more is in flight than the window allows, and each that is durable makes room', async () => {
  await using scene = await openScene();
  await scene.deliver(names(5));
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo'], { window: { messages: 2, bytes: 1000, bodies: 1 } });
  await worker.got(2);
  await settle();
  assert.deepEqual(ids(worker), ['m0', 'm1']);
  worker.complete({ tag: worker.deliveries[0]!.tag, results: [] });
  await worker.got(3);
  assert.deepEqual(ids(worker), ['m0', 'm1', 'm2']);
});

test('a window of no bytes lets one message through after the other', async () => {
  await using scene = await openScene();
  await scene.deliver(names(3));
  const worker = await scene.harness.streamWorker();
  let open = 0;
  worker.handler = ({ tag }) => {
    open += 1;
    assert.equal(open, 1);
    setImmediate(() => {
      open -= 1;
      worker.complete({ tag, results: [] });
    });
  };
  await worker.join(['echo'], { window: undefined });
  await settledAre(worker, 3);
});

test('the concurrency of a worker’s file bounds its window', async () => {
  await using scene = await openScene();
  await scene.deliver(names(3));
  const worker = await scene.harness.streamWorker('echo-worker', { concurrency: 1 });
  await worker.join(['echo']);
  await worker.got(1);
  await settle();
  assert.equal(worker.deliveries.length, 1);
});

test('a failed message counts an attempt and gives up its place; those behind it go on', async () => {
  const clock = new FakeClock();
  await using scene = await openScene({ clock });
  const [first] = await scene.deliver(names(3));
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo'], { window: { messages: 1, bytes: 0, bodies: 0 } });
  await worker.got(1);
  const retried = scene.harness.dispatcher.dataDispatch.next(scene.harness.scope.signal);
  worker.handler = ({ tag }) => worker.complete({ tag, results: [] });
  worker.refuse({ tag: worker.deliveries[0]!.tag, kind: Kind.FAILED, reason: 'the disk is on fire' });
  const { key, outcome } = await retried;
  assert.deepEqual([key, outcome.kind], [first, 'retry']);
  await settledAre(worker, 2);
  await clock.advance(60_000);
  await settledAre(worker, 3);
  assert.deepEqual(ids(worker), ['m0', 'm1', 'm2', 'm0']);
});

test('a message that the worker calls invalid is dead after its last attempt, with the worker’s own words', async () => {
  await using scene = await openScene({ limits: { maxAttempts: 1 } });
  await scene.deliver(['m0']);
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo']);
  const [delivery] = await worker.got(1);
  const dead = scene.harness.dispatcher.dataDispatch.next(scene.harness.scope.signal);
  worker.refuse({ tag: delivery!.tag, kind: Kind.INVALID, reason: 'no such colour' });
  const { outcome } = await dead;
  assert.ok(outcome.kind === 'dead' && outcome.answer !== undefined);
  assert.match(scene.store.outbound(outcome.answer)?.metadata['error'] ?? '', /INVALID_ARGUMENT: no such colour/);
});

test('what a worker cannot take now comes again first in its lane, and counts nothing', async () => {
  const clock = new FakeClock();
  await using scene = await openScene({ clock });
  const [, second] = await scene.deliver(names(6));
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo'], { window: { messages: 4, bytes: 1000, bodies: 0 } });
  await worker.got(4);
  const [m0, m1, m2, m3] = worker.deliveries;
  worker.complete({ tag: m0!.tag, results: [] });
  worker.refuse(...[m1, m2, m3].map((each) => ({ tag: each!.tag, kind: Kind.UNAVAILABLE, reason: 'I stop' })));
  await settledAre(worker, 1);
  await clock.advance(1000);
  await worker.got(8);
  assert.deepEqual(ids(worker).slice(4), ['m1', 'm2', 'm3', 'm4']);
  assert.equal(scene.store.inbound(second!)?.attempts, 0);
});

test('a stream that ends puts what it had in flight back to its place, before what was behind it', async () => {
  const clock = new FakeClock();
  await using scene = await openScene({ clock });
  await scene.deliver(names(6));
  const first = await scene.harness.streamWorker();
  await first.join(['echo'], { window: { messages: 3, bytes: 1000, bodies: 0 } });
  await first.got(3);
  first.complete({ tag: first.deliveries[0]!.tag, results: [] });
  await settledAre(first, 1);
  first.die();
  const second = await scene.harness.streamWorker();
  answersAll(second);
  await second.join(['echo']);
  await clock.advance(1000);
  await settledAre(second, 5);
  assert.deepEqual(ids(second), ['m1', 'm2', 'm3', 'm4', 'm5']);
});

test('a second Connect of a worker takes the place of the first', async () => {
  await using scene = await openScene();
  const first = await scene.harness.streamWorker();
  await first.join(['echo', 'other']);
  await scene.deliver(['m0']);
  await first.got(1);
  const second = await scene.harness.streamWorker();
  answersAll(second);
  await second.join(['echo']);
  const { code, details } = await first.end;
  assert.equal(code, status.ABORTED, details);
  assert.match(details, /another connection of the worker/);
  await scene.deliver(['m1']);
  await settledAre(second, 2);
  assert.deepEqual(ids(second), ['m0', 'm1']);
  assert.deepEqual(scene.harness.news, [
    '+echo-worker/echo',
    '+echo-worker/other',
    '-echo-worker/other',
    '+echo-worker/echo',
  ]);
});

test('a worker that registers and then connects gets its messages by the stream, and the reverse', async () => {
  await using scene = await openScene();
  const { harness } = scene;
  const unary = await harness.worker();
  await unary.join('echo');
  const stream = await harness.streamWorker();
  answersAll(stream);
  await stream.join(['echo']);
  await scene.deliver(['m0']);
  await settledAre(stream, 1);
  await unary.register('echo');
  assert.equal((await stream.end).code, status.ABORTED);
  const [key] = await scene.deliver(['m1']);
  await unary.got(1);
  assert.equal(unary.received[0]?.messageId, 'm1');
  await harness.dispatcher.dataDispatch.next(harness.scope.signal, (each) => each.key === key);
});

test('workers of both generations live beside each other in one agent', async () => {
  await using scene = await openScene();
  const unary = await scene.harness.worker('old-worker');
  await unary.join('old');
  const stream = await scene.harness.streamWorker('new-worker');
  answersAll(stream);
  await stream.join(['new']);
  await scene.deliver(names(10), { directive: 'old' });
  await scene.deliver(names(10), { directive: 'new' });
  await unary.got(10);
  await settledAre(stream, 10);
  assert.deepEqual(
    unary.received.map(({ messageId }) => messageId),
    names(10),
  );
  assert.deepEqual(ids(stream), names(10));
});

test('a handler of another worker is refused with the reason; when none is granted the call ends well', async () => {
  await using scene = await openScene();
  const first = await scene.harness.streamWorker('first-worker');
  await first.join(['echo']);
  const second = await scene.harness.streamWorker('second-worker');
  const { registrations } = await second.join(['echo', '../x']);
  assert.deepEqual(
    registrations.map(({ registered }) => registered),
    [false, false],
  );
  assert.match(registrations[0]?.reason ?? '', /registered by first-worker/);
  assert.match(registrations[1]?.reason ?? '', /a handler must be/);
  assert.equal((await second.end).code, status.OK);
});

test('a completion that the full spool has no room for is refused whole, and can be sent again', async () => {
  await using scene = await openScene({ spool: { limit: 3000, reserve: 0 } });
  await scene.deliver(['m0']);
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo']);
  const [delivery] = await worker.got(1);
  const big = { ...resultOf(1, delivery!, Buffer.alloc(4000)), number: 1 };
  worker.send({ results: [big] });
  await worker.until(() => (worker.accepted.includes(1) ? true : undefined));
  const small = resultOf(2, { ...delivery!, data: { ...delivery!.data!, messageId: 'm0' } }, 'small');
  worker.complete({ tag: delivery!.tag, results: [small] });
  const refusal = await worker.until(() => worker.frames.flatMap((each) => each.resultRefusals)[0]);
  assert.deepEqual([refusal.number, refusal.tag, refusal.passing], [2, delivery!.tag, true]);
  assert.match(refusal.reason, /spool is full/);
  assert.deepEqual(worker.settled, []);
  const [key] = scene.harness.returned;
  await scene.store.endOutbound(key!, 'sent');
  worker.complete({ tag: delivery!.tag, results: [{ ...small, number: 3 }] });
  await settledAre(worker, 1);
});

test('a malformed result is refused for good and nothing of its completion is taken', async () => {
  await using scene = await openScene();
  const [key] = await scene.deliver(['m0']);
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo']);
  const [delivery] = await worker.got(1);
  const bad = resultOf(2, delivery!);
  bad.data!.directive = 'a\nb';
  worker.complete({ tag: delivery!.tag, results: [resultOf(1, delivery!), bad] });
  const refusal = await worker.until(() => worker.frames.flatMap((each) => each.resultRefusals)[0]);
  assert.deepEqual([refusal.number, refusal.tag, refusal.passing], [2, delivery!.tag, false]);
  assert.equal(scene.harness.returned.length, 0);
  assert.equal(scene.store.inbound(key!)?.state, 'dispatching');
  worker.complete({ tag: delivery!.tag, results: [] });
  await settledAre(worker, 1);
});

test('the same result twice, within a completion and outside, makes one record and each is answered', async () => {
  await using scene = await openScene();
  await scene.deliver(['m0']);
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo']);
  const [delivery] = await worker.got(1);
  worker.send({ results: [resultOf(1, delivery!), resultOf(2, delivery!)] });
  worker.complete({ tag: delivery!.tag, results: [resultOf(3, delivery!), resultOf(4, delivery!)] });
  await settledAre(worker, 1);
  await worker.until(() => (worker.accepted.length === 2 ? true : undefined));
  assert.equal(scene.harness.returned.length, 1);
  assert.equal(scene.store.liveMessages, 1);
});

test('a completion whose commit fails is settled once the journal has it, and only then', async () => {
  const clock = new FakeClock();
  const journal = new FaultyJournal();
  await using scene = await openScene({ clock, journal });
  await scene.deliver(['m0']);
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo']);
  const [delivery] = await worker.got(1);
  journal.fails = () => true;
  worker.complete({ tag: delivery!.tag, results: [resultOf(1, delivery!)] });
  await scene.harness.log.line('dispatcher.journal_failed');
  await settle();
  assert.deepEqual([worker.settled, scene.store.liveMessages], [[], 0]);
  journal.fails = () => false;
  await clock.advance(1000);
  await settledAre(worker, 1);
  assert.equal(scene.store.nextOutbound('mqtt')?.responseTo, 'm0');
});

test('a cancel reaches the worker, and a message it gives up ends as cancelled', async () => {
  await using scene = await openScene();
  const { harness, store } = scene;
  const [key] = await scene.deliver(['m0']);
  const worker = await harness.streamWorker();
  await worker.join(['echo']);
  const [delivery] = await worker.got(1);
  const echo = directiveKey(directive('echo'));
  const cancelled = await store.cancel(echo, 'm0');
  assert.equal(cancelled.kind, 'in-flight');
  harness.dispatcher.notifyCancel({ key: key as MessageKey, directive: echo, messageId: 'm0' });
  const cancel = await worker.until(() => worker.frames.flatMap(({ cancels }) => cancels)[0]);
  assert.equal(cancel, delivery!.tag);
  const ended = harness.dispatcher.dataDispatch.next(harness.scope.signal);
  worker.refuse({ tag: cancel, kind: Kind.CANCELLED, reason: '' });
  const { outcome } = await ended;
  assert.ok(outcome.kind === 'cancelled' && outcome.answer !== undefined);
  assert.equal(store.outbound(outcome.answer)?.metadata['error-code'], 'cancelled');
});

test('events reach the worker, pings are its health, and one that is not serving must be stopped', async () => {
  const clock = new FakeClock();
  await using scene = await openScene({ clock });
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo']);
  scene.harness.dispatcher.notifyConnectionLost();
  const event = await worker.until(() => worker.frames.flatMap(({ events }) => events)[0]);
  assert.equal(event.name, Event.UNEXPECTED_DISCONNECT);
  for (let asked = 1; asked <= 3; asked++) {
    await clock.advance(15_000);
    const pings = await worker.until(() => {
      const all = worker.frames.flatMap((each) => each.pings);
      return all.length === asked ? all : undefined;
    });
    const answered = scene.harness.dispatcher.workerUnhealthy.next(scene.harness.scope.signal);
    worker.send({ pongs: [{ number: pings.at(-1)!, serving: false }] });
    if (asked === 3) assert.equal((await answered).name, workerName('echo-worker'));
    await settle();
    answered.catch(() => undefined);
  }
});

test('a worker that dies with one message in flight has failed an attempt of it; with many, none counts', async () => {
  const clock = new FakeClock();
  await using scene = await openScene({ clock });
  const { harness, store } = scene;
  const [lone] = await scene.deliver(['m0']);
  const first = await harness.streamWorker();
  await first.join(['echo']);
  await first.got(1);
  const retried = harness.dispatcher.dataDispatch.next(harness.scope.signal);
  first.die();
  harness.died();
  await clock.advance(1000);
  assert.deepEqual(await retried.then(({ key, outcome }) => [key, outcome.kind]), [lone, 'retry']);
  const others = await scene.deliver(['m1', 'm2']);
  const second = await harness.streamWorker();
  await second.join(['echo']);
  await second.got(2);
  second.die();
  harness.died();
  await clock.advance(1000);
  for (const key of others) assert.equal(store.inbound(key)?.attempts, 0);
  const third = await harness.streamWorker();
  await third.join(['echo']);
  await third.got(1);
  await settle();
  assert.equal(third.deliveries.length, 1, 'they go one at a time until the guilty one is known');
});

test('a worker that half-closes is heard to the end of what it said', async () => {
  await using scene = await openScene();
  const [, second] = await scene.deliver(['m0', 'm1']);
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo']);
  const [delivery] = await worker.got(2);
  worker.complete({ tag: delivery!.tag, results: [resultOf(1, delivery!)] });
  worker.call.end();
  assert.equal((await worker.end).code, status.OK);
  assert.deepEqual(worker.settled, [delivery!.tag]);
  const again = await scene.harness.streamWorker();
  await again.join(['echo']);
  await again.got(1);
  assert.equal(scene.store.inbound(second!)?.state, 'dispatching');
});
