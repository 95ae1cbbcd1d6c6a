/** Who gets a message when the place of a worker is taken away while it registers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { Harness, workerName } from './harness.js';
import { MemoryStore } from './memory-store.js';
import { settle } from '../../support/clock.js';

/** Owners are written down when the test says so. */
class SlowClaims extends MemoryStore {
  written = Promise.resolve();
  claims = 0;

  override async claim(...args: Parameters<MemoryStore['claim']>): Promise<void> {
    this.claims += 1;
    await this.written;
    await super.claim(...args);
  }
}

test(
  'a message goes to the worker that is there, not to a place that was taken away while it registered',
  { timeout: 10_000 },
  async () => {
    await using harness = await Harness.over(new SlowClaims());
    const { dispatcher, store } = harness;
    const first = await harness.streamWorker();
    await first.join(['echo']);
    dispatcher.enqueue(store.add());
    await first.got(1);

    let write = (): void => undefined;
    store.written = new Promise((resolve) => (write = resolve));
    const again = await harness.streamWorker();
    // It is asked for `other`, which has no owner, and for `echo` behind that.
    const joined = again.join(['other', 'echo']).catch(() => undefined);
    while (store.claims < 2) await settle();
    const forgotten = dispatcher.forget(workerName('echo-worker'));
    write();
    await forgotten;
    await joined;
    await settle();

    const second = await harness.streamWorker();
    await second.join(['echo']);
    // The one that was broken off.
    await second.got(1);
    await settle();
    const late = store.add();
    dispatcher.enqueue(late);
    assert.equal((await second.got(2))[1]?.data?.messageId, `m${late}`);
  },
);

test(
  'the place of a worker is given up while another process holds its connection open',
  { timeout: 10_000 },
  async () => {
    await using harness = await Harness.inMemory();
    const worker = await harness.streamWorker();
    await worker.join(['echo']);
    harness.dispatcher.enqueue(harness.store.add());
    await worker.got(1);
    await harness.dispatcher.forget(workerName('echo-worker'));
    assert.equal((await worker.end).code, status.ABORTED);
  },
);
