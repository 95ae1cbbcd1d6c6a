/** The stream of workers over the real dispatcher, the real datastore and real sockets. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { metadataFrom } from '../../src/message/codec.js';
import { parseDirective, type MessageKey } from '../../src/message/ids.js';
import type { Datastore } from '../../src/datastore/index.js';
import { openTestStore, type StoreSettings } from '../support/store.js';
import { resultOf } from '../support/stream-worker.js';
import { Harness } from '../unit/dispatcher/harness.js';

/** Puts messages in as router and processor do, and wakes their queue. */
async function deliver(harness: Harness<Datastore>, ids: readonly string[], directive = 'echo'): Promise<MessageKey[]> {
  const keys: MessageKey[] = [];
  for (const messageId of ids) {
    const accepted = harness.store.accept({
      messageId,
      responseTo: '',
      directive: parseDirective(directive)!,
      metadata: metadataFrom([]),
      priority: 5,
      arrivedAt: Date.now(),
      expiresAt: undefined,
      replyTopic: undefined,
      content: Buffer.from(`"${messageId}"`),
    });
    assert.ok(accepted.kind === 'accepted');
    await accepted.durable;
    harness.store.markReady(accepted.key);
    keys.push(accepted.key);
  }
  for (const key of keys) harness.dispatcher.enqueue(key);
  return keys;
}

async function open(settings: StoreSettings = {}): Promise<AsyncDisposable & { harness: Harness<Datastore> }> {
  const opened = await openTestStore(settings);
  const harness = await Harness.over(opened.store, settings.clock === undefined ? {} : { clock: settings.clock });
  harness.store.fed.connect((key) => {
    harness.store.markReady(key);
    harness.dispatcher.enqueue(key);
  }, harness.scope.signal);
  return {
    harness,
    [Symbol.asyncDispose]: async () => {
      await harness[Symbol.asyncDispose]();
      await opened[Symbol.asyncDispose]();
    },
  };
}

const names = (count: number): string[] => Array.from({ length: count }, (_, i) => `m${i}`);

for (const isOnDisk of [false, true]) {
  test(`a hundred messages go and their results come ${isOnDisk ? 'over LMDB' : 'over memory'}, in order`, async () => {
    await using opened = await open({ isOnDisk });
    const { harness } = opened;
    const ids = names(100);
    await deliver(harness, ids);
    const worker = await harness.streamWorker();
    let number = 0;
    worker.handler = (delivery) => {
      number += 1;
      worker.complete({ tag: delivery.tag, results: [resultOf(number, delivery)] });
    };
    const welcome = await worker.join(['echo']);
    assert.deepEqual(welcome.registrations, [{ registered: true, reason: '' }]);
    assert.equal(welcome.config?.clientId, 'edge-7');
    await worker.until(() => (worker.settled.length === ids.length ? true : undefined));
    assert.deepEqual(
      worker.deliveries.map(({ data }) => data?.messageId),
      ids,
    );
    assert.deepEqual(
      harness.returned.map((key) => harness.store.outbound(key)?.responseTo),
      ids,
    );
    assert.deepEqual(
      harness.outcomes.map(({ outcome }) => outcome.kind),
      ids.map(() => 'delivered'),
    );
  });
}
