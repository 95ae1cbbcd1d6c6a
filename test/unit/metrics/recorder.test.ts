/** The recorder as the witness of a real datastore, on a clock that a test moves. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LmdbJournal, type Witness } from '../../../src/datastore/index.js';
import { silentLog } from '../../../src/log/log.js';
import { directiveKey, type DirectiveKey, type MessageKey } from '../../../src/message/index.js';
import { Registry } from '../../../src/metrics/instruments.js';
import { TEXT, render } from '../../../src/metrics/format.js';
import { Marks } from '../../../src/metrics/marks.js';
import { Names } from '../../../src/metrics/names.js';
import { Recorder } from '../../../src/metrics/recorder.js';
import { FakeClock } from '../../support/clock.js';
import { directive, inbound, result, workerName } from '../../support/messages.js';
import { samplesIn } from '../../support/metrics.js';
import { openTestStore, take, type TestStore } from '../../support/store.js';
import { tempDir } from '../../support/temp.js';

const ECHO = directiveKey(directive('echo'));

interface Scene extends TestStore {
  readonly clock: FakeClock;
  readonly recorder: Recorder;
  readonly value: (sample: string) => number | undefined;
}

async function scene(known: readonly DirectiveKey[] = [ECHO]): Promise<Scene> {
  const clock = new FakeClock();
  const registry = new Registry();
  const recorder = new Recorder({ registry, clock, labelOf: (key) => (known.includes(key) ? key : undefined) });
  const witness: Witness = recorder;
  const opened = await openTestStore({ clock, watch: { witness } });
  return { ...opened, clock, recorder, value: (sample) => samplesIn(render(registry.families, TEXT)).get(sample) };
}

function handedOver(store: TestStore['store'], key: MessageKey): void {
  store.markReady(key);
  store.markDispatching(key);
}

test('a message that is answered: each stage has the time that it took', async () => {
  await using at = await scene();
  const { store, clock, value } = at;
  const key = await take(store, store.accept(inbound('one', { arrivedAt: clock.now() })));
  await clock.advance(2_000);
  handedOver(store, key);
  await clock.advance(300);
  const completed = store.complete(key, [result('answer', { responseTo: 'one', handlers: [ECHO] })]);
  assert.equal(completed.kind, 'taken');
  const [answer] = await completed.durable;
  assert.ok(answer);
  await clock.advance(40);
  store.markSending(answer);
  await clock.advance(5);
  await store.endOutbound(answer, 'sent');

  const sums = {
    'yggdrasil_stage_duration_seconds_sum{stage="queue"}': 2,
    'yggdrasil_worker_duration_seconds_sum{directive="echo"}': 0.3,
    yggdrasil_message_duration_seconds_sum: 2.3,
    'yggdrasil_stage_duration_seconds_sum{stage="outbox"}': 0.04,
    'yggdrasil_stage_duration_seconds_sum{stage="acknowledge"}': 0.005,
    yggdrasil_answer_duration_seconds_sum: 2.345,
    'yggdrasil_messages_accepted_total{directive="echo"}': 1,
    'yggdrasil_messages_ended_total{directive="echo",state="delivered",reason=""}': 1,
    'yggdrasil_results_accepted_total{worker="echo-worker"}': 1,
    'yggdrasil_results_ended_total{state="sent",reason=""}': 1,
  };
  for (const [name, sum] of Object.entries(sums))
    assert.equal(Math.abs((value(name) ?? NaN) - sum) < 1e-9, true, `${name} is ${value(name)}`);
});

test('a message that is tried again, and one that dies: attempts, retries and the end are counted', async () => {
  await using at = await scene();
  const { store, clock, value } = at;
  const key = await take(store, store.accept(inbound('one', { arrivedAt: clock.now() })));
  handedOver(store, key);
  await clock.advance(10);
  await store.failedAttempt(key, clock.now() + 1000);
  await clock.advance(1000);
  handedOver(store, key);
  await store.end(key, 'dead', { code: 'worker-failed', text: 'it failed' });
  assert.equal(value('yggdrasil_messages_dispatched_total{directive="echo"}'), 2);
  assert.equal(value('yggdrasil_messages_retried_total{directive="echo"}'), 1);
  assert.equal(value('yggdrasil_worker_duration_seconds_count{directive="echo"}'), 2);
  assert.equal(value('yggdrasil_messages_ended_total{directive="echo",state="dead",reason="worker-failed"}'), 1);
  assert.equal(value('yggdrasil_results_accepted_total{worker="agent"}'), 1);
  assert.equal(value('yggdrasil_message_duration_seconds_count'), 0);
});

test('cancelled before it came, expired, turned away: every end has its reason', async () => {
  await using at = await scene();
  const { store, clock, value } = at;
  await store.cancel(ECHO, 'early');
  const acceptance = store.accept(inbound('early'));
  assert.equal(acceptance.kind, 'cancelled');
  const key = await take(store, store.accept(inbound('late', { arrivedAt: clock.now() })));
  await store.end(key, 'expired', { code: 'expired', text: 'too late' });
  assert.equal(value('yggdrasil_messages_ended_total{directive="echo",state="cancelled",reason="cancelled"}'), 1);
  assert.equal(value('yggdrasil_messages_ended_total{directive="echo",state="expired",reason="expired"}'), 1);
});

test('results that are posted, fail and die', async () => {
  await using at = await scene();
  const { store, clock, value } = at;
  const to = async (id: string): Promise<MessageKey> => {
    const accepted = store.acceptResult(result(id, { directive: 'https://example.com/upload' }));
    assert.equal(accepted.kind, 'accepted');
    await accepted.durable;
    store.markSending(accepted.key);
    return accepted.key;
  };
  const posted = await to('one');
  await clock.advance(70);
  await store.endOutbound(posted, 'posted');
  const failed = await to('two');
  await store.retryOutbound(failed, clock.now() + 10);
  await store.endOutbound(failed, 'dead', { code: 'unroutable', text: 'gone' });
  assert.equal(value('yggdrasil_stage_duration_seconds_count{stage="post"}'), 1);
  assert.equal(value('yggdrasil_results_ended_total{state="posted",reason=""}'), 1);
  assert.equal(value('yggdrasil_results_retried_total'), 1);
  assert.equal(value('yggdrasil_results_ended_total{state="dead",reason="unroutable"}'), 1);
});

test('what only a sender has named is counted as other, and so is what is beyond the bound', async () => {
  const many = Array.from({ length: 200 }, (_, n) => directiveKey(directive(`known-${n}`)));
  await using at = await scene(many);
  const { store, recorder, value } = at;
  for (let n = 0; n < 200; n++) {
    await take(store, store.accept(inbound(`a${n}`, { directive: directive(`known-${n}`) })));
    await take(store, store.accept(inbound(`b${n}`, { directive: directive(`invented-${n}`) })));
  }
  assert.equal(recorder.labels.length, 129);
  assert.equal(value('yggdrasil_messages_accepted_total{directive="known_0"}'), 1);
  assert.equal(value('yggdrasil_messages_accepted_total{directive="other"}'), 200 + 72);
  for (let n = 0; n < 200; n++) {
    const accepted = store.acceptResult(result(`r${n}`, { worker: workerName(`w${n}-worker`) }));
    if (accepted.kind === 'accepted') await accepted.durable;
  }
  assert.equal(value('yggdrasil_results_accepted_total{worker="other"}'), 72);
});

test('after a restart the whole time counts from the arrival, by the wall clock', async () => {
  const clock = new FakeClock();
  await using first = await openTestStore({ clock, isOnDisk: true });
  const key = await take(first.store, first.store.accept(inbound('one', { arrivedAt: clock.now() })));
  await first.store.close();
  await clock.advance(7_000);
  const registry = new Registry();
  const witness = new Recorder({ registry, clock, labelOf: (directive) => directive });
  await using second = await openTestStore({ clock, isOnDisk: true, stateDir: first.stateDir, watch: { witness } });
  handedOver(second.store, key);
  await second.store.delivered(key);
  const samples = samplesIn(render(registry.families, TEXT));
  assert.equal(samples.get('yggdrasil_message_duration_seconds_sum'), 7);
  assert.equal(samples.get('yggdrasil_stage_duration_seconds_count{stage="queue"}'), 0);
});

test('transactions of a journal on disk are told, those that fail too', async () => {
  const told: (readonly [number, boolean])[] = [];
  const nothing = (): void => undefined;
  const watch = {
    witness: {
      inbound: nothing,
      outbound: nothing,
      committed: (changes: number, took: number, isDone: boolean) => {
        assert.equal(took >= 0, true);
        told.push([changes, isDone]);
      },
    },
  };
  await using dir = await tempDir();
  const journal = new LmdbJournal(dir.path, silentLog, watch);
  await journal.open();
  const change = (key: string): Parameters<typeof journal.commit>[0][number] => ({
    table: 'facts',
    key,
    value: Buffer.from('x'),
  });
  await Promise.all([journal.commit([change('a'), change('b')]), journal.commit([change('c')])]);
  assert.deepEqual(told, [[3, true]]);
  // Longer than any key may be.
  await assert.rejects(journal.commit([change('k'.repeat(5000))]), { code: 'journal.write_failed' });
  assert.deepEqual(told.at(-1), [1, false]);
  await journal.close();
});

test('a ring of marks knows the last ones, and says so of those it forgot', () => {
  const marks = new Marks(4);
  for (let key = 1; key <= 6; key++) marks.set(key, key * 10);
  assert.deepEqual(
    [1, 2, 3, 4, 5, 6].map((key) => marks.get(key)),
    [undefined, undefined, 30, 40, 50, 60],
  );
  assert.equal(marks.get(7), undefined);
});

test('names beyond the bound are one', () => {
  const names = new Names(2);
  assert.deepEqual(
    ['a', 'b', 'c', 'a'].map((name) => names.of(name)),
    ['a', 'b', 'other', 'a'],
  );
});
