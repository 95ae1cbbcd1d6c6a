/** The dispatcher over the real datastore and real sockets: what the two promise together. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { directiveKey, parseDirective, type MessageKey } from '../../src/message/ids.js';
import { metadataFrom } from '../../src/message/codec.js';
import type { Datastore } from '../../src/datastore/index.js';
import { FakeClock } from '../support/clock.js';
import { openTestStore, type StoreSettings } from '../support/store.js';
import { WorkerStatus } from '../support/worker.js';
import { Harness } from '../unit/dispatcher/harness.js';

/** Puts a message in as router and processor do, and wakes its queue. */
async function deliver(harness: Harness<Datastore>, directive: string, messageId: string): Promise<MessageKey> {
  const accepted = harness.store.accept({
    messageId,
    responseTo: '',
    directive: parseDirective(directive)!,
    metadata: metadataFrom([]),
    priority: 5,
    arrivedAt: Date.parse('2026-01-01T00:00:00Z'),
    expiresAt: undefined,
    replyTopic: undefined,
    content: Buffer.from(`"${messageId}"`),
  });
  assert.ok(accepted.kind === 'accepted');
  await accepted.durable;
  harness.store.markReady(accepted.key);
  harness.dispatcher.enqueue(accepted.key);
  return accepted.key;
}

/** What processor does with messages that come back to it. */
function feed(harness: Harness<Datastore>): void {
  harness.store.fed.connect((key) => {
    harness.store.markReady(key);
    harness.dispatcher.enqueue(key);
  }, harness.scope.signal);
}

async function open(settings: StoreSettings = {}): Promise<AsyncDisposable & { harness: Harness<Datastore> }> {
  const opened = await openTestStore(settings);
  const harness = await Harness.over(opened.store, settings.clock === undefined ? {} : { clock: settings.clock });
  feed(harness);
  return {
    harness,
    [Symbol.asyncDispose]: async () => {
      await harness[Symbol.asyncDispose]();
      await opened[Symbol.asyncDispose]();
    },
  };
}

test('twenty messages that came while the worker was down are delivered in order, and each gets its answer', async () => {
  await using opened = await open({ isOnDisk: true });
  const { harness } = opened;
  const wanted = Array.from({ length: 20 }, (_, i) => `m${i}`);
  for (const id of wanted) await deliver(harness, 'echo', id);
  const worker = await harness.worker();
  worker.handler = async ({ messageId, content, directive, metadata }) => {
    await worker.send({ messageId: `r-${messageId}`, responseTo: messageId, content, directive, metadata });
  };
  const answered = new Promise<void>((resolve) =>
    harness.dispatcher.dataReturn.connect(
      () => harness.returned.length === wanted.length && resolve(),
      harness.scope.signal,
    ),
  );
  await worker.join('echo');
  await answered;
  assert.deepEqual(
    worker.received.map(({ messageId }) => messageId),
    wanted,
  );
  assert.deepEqual(
    harness.returned.map((key) => harness.store.outbound(key)?.responseTo),
    wanted,
  );
});

test('a message that failed comes back when it is due and is delivered once', async () => {
  const clock = new FakeClock();
  await using opened = await open({ clock });
  const { harness } = opened;
  const worker = await harness.worker();
  let failures = 1;
  worker.handler = () => {
    if (failures-- > 0) throw new WorkerStatus(status.ABORTED);
  };
  await worker.join('echo');
  const retried = harness.dispatcher.dataDispatch.next(harness.scope.signal, ({ outcome }) => outcome.kind === 'retry');
  const delivered = harness.dispatcher.dataDispatch.next(
    harness.scope.signal,
    ({ outcome }) => outcome.kind === 'delivered',
  );
  const key = await deliver(harness, 'echo', 'm1');
  const { outcome } = await retried;
  assert.ok(outcome.kind === 'retry');
  await clock.advance(Math.max(0, outcome.dueAt - clock.now()));
  assert.equal((await delivered).key, key);
  assert.equal(harness.store.inbound(key), undefined);
});

test('a message given up is answered with the worker’s own words', async () => {
  await using opened = await openTestStore();
  await using harness = await Harness.over(opened.store, { limits: { maxAttempts: 1 } });
  const worker = await harness.worker();
  worker.handler = () => {
    throw new WorkerStatus(status.INTERNAL, 'disk on fire');
  };
  await worker.join('echo');
  const dead = harness.dispatcher.dataDispatch.next(harness.scope.signal);
  await deliver(harness, 'echo', 'm1');
  const { outcome } = await dead;
  assert.ok(outcome.kind === 'dead' && outcome.answer !== undefined);
  const answer = harness.store.outbound(outcome.answer);
  assert.equal(answer?.responseTo, 'm1');
  assert.equal(answer.metadata['error-code'], 'worker-failed');
  assert.match(answer.metadata['error'] ?? '', /INTERNAL: disk on fire/);
});

test('eight workers at once each get their own messages and nobody else’s', async () => {
  await using opened = await open();
  const { harness } = opened;
  const names = Array.from({ length: 8 }, (_, i) => `w${i}`);
  const workers = await Promise.all(
    names.map(async (name) => {
      const worker = await harness.worker(`${name}-worker`);
      await worker.join(name);
      return { name, worker };
    }),
  );
  const total = names.length * 25;
  const all = new Promise<void>((resolve) => {
    let count = 0;
    harness.dispatcher.dataDispatch.connect(() => ++count === total && resolve(), harness.scope.signal);
  });
  for (let i = 0; i < 25; i++) await Promise.all(names.map((name) => deliver(harness, name, `${name}-${i}`)));
  await all;
  for (const { name, worker } of workers) {
    assert.deepEqual(
      worker.received.map(({ messageId }) => messageId),
      Array.from({ length: 25 }, (_, i) => `${name}-${i}`),
    );
  }
});

test('an owner is remembered by the journal across a restart of the dispatcher', async () => {
  await using opened = await openTestStore();
  {
    await using harness = await Harness.over(opened.store);
    const worker = await harness.worker('first-worker');
    assert.equal((await worker.register('echo')).registered, true);
  }
  await using harness = await Harness.over(opened.store);
  const worker = await harness.worker('second-worker');
  assert.equal((await worker.register('echo')).registered, false);
  assert.equal(harness.store.ownerOf(directiveKey(parseDirective('echo')!)), 'first-worker');
});
