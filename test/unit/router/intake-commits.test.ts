/** Messages on data/in that become safe with one commit of the store, or do not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Datastore } from '../../../src/datastore/index.js';
import { deferred } from '../../../src/datastore/promises.js';
import type { StorePort } from '../../../src/router/index.js';
import { settle } from '../../support/clock.js';
import { DATA_IN, dataMessage, openTestRouter, up } from '../../support/router.js';

/** The store, whose messages are all safe with the commit that `durable` gives when they are offered. */
function oneCommit(store: Datastore, durable: () => Promise<void>): StorePort {
  return new Proxy<StorePort>(store, {
    get: (target, name) => {
      if (name === 'accept') {
        return (...args: Parameters<StorePort['accept']>) => ({ ...store.accept(...args), durable: durable() });
      }
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

test('messages of one commit that fails are taken in the order of arrival, those of the next with them', async () => {
  let commit = deferred();
  await using t = await openTestRouter({
    wrapStore: (store) => oneCommit(store, () => commit.done),
  });
  await up(t);
  const delivered = ['m1', 'm2'].map((id) => t.connection.deliver(DATA_IN, dataMessage(id)));
  const first = commit;
  commit = deferred();
  delivered.push(t.connection.deliver(DATA_IN, dataMessage('m3')));
  first.reject(new Error('EIO'));
  await settle();
  assert.equal(t.router.counts.held, 2);
  assert.deepEqual(t.received, []);
  // Behind those that wait, and with the commit that they are tried again with.
  delivered.push(t.connection.deliver(DATA_IN, dataMessage('m4')));
  commit.resolve();
  await settle();
  await t.clock.advance(1000);
  assert.equal(t.router.counts.held, 0);
  assert.deepEqual(
    delivered.map(({ isAcknowledged }) => isAcknowledged),
    [true, true, true, true],
  );
  assert.equal((await t.log.line('data.not_recorded')).level, 'error');
});

test('messages of one commit are acknowledged and announced together, in the order of arrival', async () => {
  const commit = deferred();
  await using t = await openTestRouter({
    wrapStore: (store) => oneCommit(store, () => commit.done),
  });
  await up(t);
  const ids = ['m1', 'm2', 'm1', 'm3'];
  const delivered = ids.map((id) => t.connection.deliver(DATA_IN, dataMessage(id)));
  await settle();
  assert.ok(delivered.every(({ isAcknowledged }) => !isAcknowledged));
  assert.deepEqual(t.received, []);
  commit.resolve();
  await settle();
  assert.ok(delivered.every(({ isAcknowledged }) => isAcknowledged));
  assert.deepEqual(
    t.received.map((key) => t.store.inbound(key)?.messageId),
    ['m1', 'm2', 'm3'],
  );
  const { accepted, duplicates } = t.router.counts;
  assert.deepEqual([accepted, duplicates], [3, 1]);
  // One that comes with a commit that is through already is a commit by itself.
  t.connection.deliver(DATA_IN, dataMessage('m4'));
  await settle();
  assert.equal(t.received.length, 4);
});

test('a message of a commit that is through already is acknowledged as well', async () => {
  const commit = deferred();
  await using t = await openTestRouter({
    wrapStore: (store) => oneCommit(store, () => commit.done),
  });
  await up(t);
  const delivered = [t.connection.deliver(DATA_IN, dataMessage('m1'))];
  commit.resolve();
  await settle();
  delivered.push(t.connection.deliver(DATA_IN, dataMessage('m2')));
  await settle();
  assert.deepEqual(
    delivered.map(({ isAcknowledged }) => isAcknowledged),
    [true, true],
  );
});
