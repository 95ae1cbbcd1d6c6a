/** What workers call: Register, Send and GetConfig, over the wire, and what the dispatcher tells the rest of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { HealthCheckResponse_ServingStatus as Serving } from '../../../protocol/generated/health.js';
import { Event } from '../../../protocol/generated/yggdrasil.js';
import { metadataFrom } from '../../../src/message/codec.js';
import { directiveKey, parseDirective } from '../../../src/message/ids.js';
import { systemClock } from '../../../src/time.js';
import { FakeClock, settle } from '../../support/clock.js';
import { Harness, workerName } from './harness.js';

const key = (directive: string): ReturnType<typeof directiveKey> => directiveKey(parseDirective(directive)!);

test('a registration gives the bare path to listen on, is recorded and announced', async () => {
  await using harness = await Harness.inMemory();
  const worker = await harness.worker();
  const response = await worker.register('echo', { detachedContent: true, features: { version: '1.2' } });
  assert.deepEqual(response, { registered: true, address: `${harness.directory.path}/w/echo-worker/w.sock` });
  assert.deepEqual(harness.store.workers.get(workerName('echo-worker')), {
    id: 'echo-worker',
    pid: 4711,
    handlers: [{ directive: 'echo', features: metadataFrom([['version', '1.2']]), detachedContent: true }],
    state: 'registered',
  });
  assert.deepEqual(harness.news, ['+echo-worker/echo']);
});

test('a handler that is no name is refused', async () => {
  await using harness = await Harness.inMemory();
  const worker = await harness.worker();
  for (const handler of ['', '../x', 'a/b', 'a'.repeat(65), 'a\nb']) {
    assert.deepEqual(await worker.register(handler), { registered: false, address: '' });
  }
  assert.deepEqual(harness.news, []);
});

test('the first executable that registers a handler owns it, also when it is down, until it is removed', async () => {
  await using harness = await Harness.inMemory();
  const first = await harness.worker('first-worker');
  const second = await harness.worker('second-worker');
  await first.join('shared-name');
  assert.equal((await second.register('shared_name')).registered, false);
  const line = await harness.log.line('dispatcher.registration_refused');
  assert.match(line.text, /second-worker may not register: .*shared_name is registered by first-worker/);
  harness.died('first-worker', { isStopped: true });
  assert.equal((await second.register('shared_name')).registered, false);
  assert.equal(harness.store.ownerOf(key('shared-name')), 'first-worker');
  await harness.dispatcher.forget(workerName('first-worker'));
  assert.equal((await second.register('shared_name')).registered, true);
  assert.equal(harness.store.ownerOf(key('shared-name')), 'second-worker');
});

test('of two workers that ask for one handler at once, one gets it', async () => {
  await using harness = await Harness.inMemory();
  const workers = [await harness.worker('first-worker'), await harness.worker('second-worker')];
  const responses = await Promise.all(workers.map((worker) => worker.register('echo')));
  assert.equal(responses.filter(({ registered }) => registered).length, 1);
});

test('the handlers in a worker’s file bind it to them and them to it', async () => {
  await using harness = await Harness.inMemory();
  const bound = await harness.worker('bound-worker', { handlers: ['mine'] });
  const free = await harness.worker('free-worker');
  assert.equal((await bound.register('other')).registered, false);
  assert.equal((await free.register('mine')).registered, false);
  assert.equal((await bound.register('mine')).registered, true);
});

test('a file that binds a handler takes it from the executable that owned it', async () => {
  await using harness = await Harness.inMemory();
  const old = await harness.worker('old-worker');
  await old.register('echo');
  harness.died('old-worker', { isStopped: true });
  const bound = await harness.worker('new-worker', { handlers: ['echo'] });
  assert.equal((await bound.register('echo')).registered, true);
  assert.equal(harness.store.ownerOf(key('echo')), 'new-worker');
});

test('a file that binds a handler takes it from the worker that holds it; between two such files the first keeps it', async () => {
  await using harness = await Harness.inMemory();
  const free = await harness.worker('free-worker', {}, { handler: () => undefined });
  await free.join('echo');
  const bound = await harness.worker('bound-worker', { handlers: ['echo'] });
  await bound.join('echo');
  assert.match((await harness.log.line('dispatcher.handler_ceded')).text, /from free-worker to bound-worker/);
  assert.equal((await free.register('echo')).registered, false);
  assert.equal(harness.store.ownerOf(key('echo')), 'bound-worker');
  const delivered = harness.store.add();
  harness.dispatcher.enqueue(delivered);
  await bound.got(1);
  assert.equal(free.received.length, 0);
  const other = await harness.worker('other-worker', { handlers: ['echo'] });
  assert.equal((await other.register('echo')).registered, false);
  assert.deepEqual(harness.news, ['+free-worker/echo', '-free-worker/echo', '+bound-worker/echo']);
});

test('an executable that was removed while no agent ran owns nothing', async () => {
  let isThere = true;
  await using harness = await Harness.inMemory({ isInstalled: (name) => isThere || name !== 'gone-worker' });
  harness.store.owners.set(key('echo'), workerName('gone-worker'));
  const heir = await harness.worker('heir-worker');
  assert.equal((await heir.register('echo')).registered, false);
  isThere = false;
  assert.equal((await heir.register('echo')).registered, true);
  assert.equal(harness.store.ownerOf(key('echo')), 'heir-worker');
});

test('a registration whose owner cannot be written is not granted', async () => {
  await using harness = await Harness.inMemory();
  const worker = await harness.worker();
  harness.store.durable = () => Promise.reject(new Error('EIO'));
  await assert.rejects(worker.register('echo'), { code: status.UNAVAILABLE });
  assert.deepEqual(harness.news, []);
  harness.store.durable = () => Promise.resolve();
  assert.equal((await worker.register('echo')).registered, true);
});

test('features larger than the limit are refused', async () => {
  await using harness = await Harness.inMemory({ limits: { metadataSize: 100 } });
  const worker = await harness.worker();
  assert.equal((await worker.register('echo', { features: { x: 'y'.repeat(100) } })).registered, false);
});

test('a crashed worker keeps its handlers for five seconds, and one that comes back in time is never missed', async () => {
  const clock = new FakeClock();
  await using harness = await Harness.inMemory({ clock });
  const worker = await harness.worker();
  await worker.register('a');
  await worker.register('b');
  harness.died();
  await clock.advance(4999);
  await worker.register('a');
  assert.equal(harness.store.workers.get(workerName('echo-worker'))?.handlers.length, 2);
  await clock.advance(10_000);
  assert.deepEqual(harness.news, ['+echo-worker/a', '+echo-worker/b', '+echo-worker/a', '-echo-worker/b']);
});

test('a handler that the next incarnation did not register gets no message', async () => {
  await using harness = await Harness.inMemory();
  const first = await harness.worker();
  await first.join('a');
  await first.register('b');
  first.die();
  harness.died();
  const second = await harness.worker();
  const forB = harness.store.add({ directive: 'b' });
  const forA = harness.store.add({ directive: 'a' });
  await second.join('a');
  assert.equal(await harness.store.endOf(forA), 'delivered');
  assert.equal(harness.store.inbound(forB)?.state, 'ready');
});

test('a worker that was stopped is missed at once, and one that was removed leaves nothing', async () => {
  await using harness = await Harness.inMemory();
  const worker = await harness.worker();
  await worker.register('echo');
  harness.died('echo-worker', { isStopped: true });
  assert.deepEqual(harness.news, ['+echo-worker/echo', '-echo-worker/echo']);
  assert.equal(harness.store.workers.get(workerName('echo-worker'))?.state, 'gone');
  await worker.register('echo');
  harness.died('echo-worker', { isStopped: true, isRemoved: true });
  await harness.dispatcher.forget(workerName('echo-worker'));
  assert.equal(harness.store.workers.get(workerName('echo-worker')), undefined);
  assert.equal(harness.store.ownerOf(key('echo')), undefined);
});

test('a result gets its receipt and is announced once it is durable', async () => {
  await using harness = await Harness.inMemory();
  const worker = await harness.worker();
  await worker.register('echo');
  let commit = (): void => undefined;
  harness.store.durable = () => new Promise((resolve) => (commit = resolve));
  let isReceived = false;
  const sent = worker
    .send({ messageId: 'r1', responseTo: 'm1', content: Buffer.from('{}'), metadata: { a: 'b' } })
    .then((response) => {
      isReceived = true;
      return response;
    });
  while (harness.store.results.length === 0) await settle();
  assert.equal(isReceived, false);
  assert.deepEqual(harness.returned, []);
  commit();
  assert.deepEqual(await sent, { response: Buffer.alloc(0) });
  assert.equal(harness.returned.length, 1);
  const { worker: name, handlers, messageId, responseTo, directive, metadata, content } = harness.store.results[0]!;
  assert.deepEqual([name, handlers, messageId, responseTo, directive], ['echo-worker', ['echo'], 'r1', 'm1', 'echo']);
  assert.deepEqual([{ ...metadata }, content], [{ a: 'b' }, Buffer.from('{}')]);
});

test('a result may come before the worker has registered, and its second copy gets a receipt too', async () => {
  await using harness = await Harness.inMemory();
  const worker = await harness.worker();
  await worker.send({ messageId: 'r1' });
  await worker.send({ messageId: 'r1' });
  assert.equal(harness.store.results.length, 1);
  assert.equal(harness.returned.length, 1);
});

test('a result without an id gets one', async () => {
  await using harness = await Harness.inMemory();
  const worker = await harness.worker();
  await worker.send({ messageId: '' });
  assert.match(harness.store.results[0]!.messageId, /^[0-9a-f-]{36}$/);
});

test('a full spool refuses a result loudly', async () => {
  await using harness = await Harness.inMemory();
  const worker = await harness.worker();
  harness.store.isFull = true;
  await assert.rejects(worker.send({ messageId: 'r1' }), { code: status.RESOURCE_EXHAUSTED });
});

test('a result with ids, metadata or content out of bounds is refused', async () => {
  await using harness = await Harness.inMemory({ limits: { resultSize: 1000, metadataSize: 100 } });
  const worker = await harness.worker();
  for (const data of [
    { messageId: 'x'.repeat(257) },
    { messageId: 'a\r\nb' },
    { responseTo: 'x'.repeat(257) },
    { directive: 'x'.repeat(8193) },
    { metadata: { x: 'y'.repeat(100) } },
    { content: Buffer.alloc(1001) },
  ]) {
    await assert.rejects(worker.send(data), { code: status.INVALID_ARGUMENT });
  }
  assert.equal(harness.store.results.length, 0);
});

test('a journal that hangs is answered with UNAVAILABLE before the worker’s second is over', async () => {
  const clock = new FakeClock();
  await using harness = await Harness.inMemory({ clock });
  const worker = await harness.worker();
  harness.store.durable = () => new Promise(() => undefined);
  const sent = worker.send({ messageId: 'r1' });
  const refused = assert.rejects(sent, { code: status.UNAVAILABLE });
  while (harness.store.results.length === 0) await settle();
  await clock.advance(900);
  await refused;
});

test('GetConfig tells a worker of the newer generation where it is', async () => {
  await using harness = await Harness.inMemory();
  const worker = await harness.worker();
  assert.deepEqual(await worker.config(), {
    logLevel: 'INFO',
    clientId: 'edge-7',
    socketAddr: `${harness.directory.path}/w/echo-worker/d.sock`,
    server: 'mqtts://broker',
    certFile: '',
    keyFile: '',
    caRoot: '',
  });
});

test('events of the connection reach the workers that take them, and the others are asked once', async () => {
  await using harness = await Harness.inMemory();
  const modern = await harness.worker('modern-worker', {}, { takesEvents: true });
  const old = await harness.worker('old-worker');
  for (const [worker, directive] of [
    [modern, 'modern'],
    [old, 'old'],
  ] as const) {
    await worker.join(directive);
    const ready = harness.store.add({ directive });
    harness.dispatcher.enqueue(ready);
    await harness.store.endOf(ready);
  }
  const { signal } = harness.scope;
  for (const [tell, event] of [
    [() => harness.dispatcher.notifyDisconnectCommand(), Event.RECEIVED_DISCONNECT],
    [() => harness.dispatcher.notifyConnectionLost(), Event.UNEXPECTED_DISCONNECT],
    [() => harness.dispatcher.notifyConnectionRestored(), Event.CONNECTION_RESTORED],
  ] as const) {
    const notified = modern.notified.next(signal);
    tell();
    assert.equal(await notified, event);
  }
});

test('a cancel that comes too late is told in the log', async () => {
  await using harness = await Harness.inMemory();
  const worker = await harness.worker('echo-worker', {}, { handler: () => new Promise(() => undefined) });
  const inFlight = harness.store.add();
  await worker.join('echo');
  await worker.got(1);
  harness.dispatcher.notifyCancel({ key: inFlight, directive: key('echo'), messageId: 'm1' });
  assert.match((await harness.log.line('dispatcher.cancel_too_late')).text, /is being handled/);
});

test('a worker that says three times that it does not serve is unhealthy', async () => {
  const clock = new FakeClock();
  await using harness = await Harness.inMemory({ clock });
  let answer = Serving.NOT_SERVING;
  const worker = await harness.worker('echo-worker', {}, { health: () => answer });
  const delivered = harness.store.add();
  await worker.join('echo');
  await harness.store.endOf(delivered);
  for (const next of [Serving.NOT_SERVING, Serving.SERVING, Serving.NOT_SERVING, Serving.NOT_SERVING]) {
    answer = next;
    await check(clock, worker.checked.next(harness.scope.signal));
  }
  assert.deepEqual(harness.news, ['+echo-worker/echo']);
  const unhealthy = harness.dispatcher.workerUnhealthy.next(harness.scope.signal);
  await check(clock, worker.checked.next(harness.scope.signal));
  assert.match((await unhealthy).reason, /not serving/);
});

test('an idle worker that does not answer its health checks is unhealthy', async () => {
  const clock = new FakeClock();
  await using harness = await Harness.inMemory({ clock });
  const worker = await harness.worker('echo-worker', {}, { health: () => 'silent' });
  const delivered = harness.store.add();
  await worker.join('echo');
  await harness.store.endOf(delivered);
  const unhealthy = harness.dispatcher.workerUnhealthy.next(harness.scope.signal);
  for (let i = 0; i < 3; i++) {
    await check(clock, worker.checked.next(harness.scope.signal));
    await clock.advance(10_000);
  }
  assert.match((await unhealthy).reason, /no answer to a health check/);
});

test('a worker that is busy with a message may leave its health checks unanswered', async () => {
  const clock = new FakeClock();
  await using harness = await Harness.inMemory({ clock });
  const options = { health: () => 'silent' as const, handler: () => new Promise<void>(() => undefined) };
  const worker = await harness.worker('echo-worker', {}, options);
  harness.store.add();
  await worker.join('echo');
  await worker.got(1);
  for (let i = 0; i < 5; i++) {
    await check(clock, worker.checked.next(harness.scope.signal));
    await clock.advance(10_000);
  }
  assert.deepEqual(harness.news, ['+echo-worker/echo']);
});

test('a worker without a health service is asked once and left alone', async () => {
  const clock = new FakeClock();
  await using harness = await Harness.inMemory({ clock });
  const worker = await harness.worker();
  const delivered = harness.store.add();
  await worker.join('echo');
  await harness.store.endOf(delivered);
  await clock.advance(15_000);
  while (clock.pending > 0) await settle();
  assert.deepEqual(harness.news, ['+echo-worker/echo']);
});

test('the system clock is what runs a dispatcher outside of tests', async () => {
  await using harness = await Harness.inMemory({ clock: systemClock });
  assert.ok(await harness.worker());
});

/** Lets the interval of the health check pass and waits for the check. */
async function check(clock: FakeClock, checked: Promise<void>): Promise<void> {
  await clock.advance(15_000);
  await checked;
  await settle();
}
