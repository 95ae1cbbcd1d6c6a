/** A handler that an operator takes from a worker: it is free for others, and what the worker has in hand is not lost. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { directiveKey, parseDirective } from '../../../src/message/ids.js';
import { Harness, workerName } from './harness.js';

const key = (directive: string): ReturnType<typeof directiveKey> => directiveKey(parseDirective(directive)!);

test('a handler is released: its worker gets no more of it, another one registers it, and what was in hand is delivered', async () => {
  await using harness = await Harness.inMemory();
  let finish = (): void => undefined;
  const finished = new Promise<void>((resolve) => (finish = resolve));
  const first = await harness.worker('first-worker', {}, { handler: () => finished });
  await first.join('echo');
  await first.join('other');
  const inHand = harness.store.add();
  harness.dispatcher.enqueue(inHand);
  await first.got(1);
  const waits = harness.store.add();
  harness.dispatcher.enqueue(waits);

  assert.deepEqual(await harness.dispatcher.release('echo'), {
    ...{ kind: 'released', directive: 'echo', worker: 'first-worker', wasRegistered: true },
  });
  assert.deepEqual(
    [harness.store.ownerOf(key('echo')), harness.store.ownerOf(key('other'))],
    [undefined, 'first-worker'],
  );
  assert.deepEqual(
    harness.store.workers.get(workerName('first-worker'))?.handlers.map(({ directive }) => directive),
    ['other'],
  );
  // Its results are still those of a worker that may answer for it.
  await first.send({ messageId: 'result', responseTo: 'x' });
  assert.ok(harness.store.results.at(-1)?.handlers.includes(key('echo')));

  const second = await harness.worker('second-worker');
  assert.equal((await second.join('echo')).registered, true);
  await second.got(1);
  finish();
  assert.equal(await harness.store.endOf(inHand), 'delivered');
  assert.equal(await harness.store.endOf(waits), 'delivered');
  assert.deepEqual([first.received.length, second.received.length], [1, 1]);
  assert.deepEqual(harness.dispatcher.traffic(workerName('first-worker')), { delivered: 1, perMinute: 1 });
  assert.deepEqual(harness.dispatcher.traffic(workerName('no-worker')), { delivered: 0, perMinute: 0 });
  assert.deepEqual(harness.news.slice(2), ['-first-worker/echo', '+second-worker/echo']);
});

test('one that is only owned is released too; one that a file binds is not; one that nobody has is told', async () => {
  await using harness = await Harness.inMemory();
  const first = await harness.worker('first-worker');
  await first.register('echo');
  harness.died('first-worker', { isStopped: true });
  assert.deepEqual(await harness.dispatcher.release('echo'), {
    ...{ kind: 'released', directive: 'echo', worker: 'first-worker', wasRegistered: false },
  });
  const second = await harness.worker('second-worker');
  assert.equal((await second.register('echo')).registered, true);

  const bound = await harness.worker('bound-worker', { handlers: ['mine'] });
  await bound.register('mine');
  const refused = await harness.dispatcher.release('mine');
  assert.match(
    refused.kind === 'refused' ? refused.reason : '',
    /the file of bound-worker binds the handler mine: take it out/,
  );
  for (const handler of ['nobody-has-it', '', '../x', 'a\u001b[2J']) {
    const unknown = await harness.dispatcher.release(handler);
    assert.match(unknown.kind === 'unknown' ? unknown.reason : '', /no worker has registered the handler/);
  }
});

test('a release that cannot be written changes nothing', async () => {
  await using harness = await Harness.inMemory();
  const worker = await harness.worker();
  await worker.join('echo');
  harness.store.durable = () => Promise.reject(new Error('the disk is full'));
  await assert.rejects(harness.dispatcher.release('echo'), /the disk is full/);
  assert.equal(harness.store.ownerOf(key('echo')), 'echo-worker');
  harness.store.durable = () => Promise.resolve();
  const message = harness.store.add();
  harness.dispatcher.enqueue(message);
  await worker.got(1);
});
