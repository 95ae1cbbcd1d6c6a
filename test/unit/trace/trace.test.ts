/** What is remembered of messages' steps, within bounds, and what watchers are told. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { messageKey, metadataFrom, type LiveRecord, type MessageKey } from '../../../src/message/index.js';
import { STEP, StepRing } from '../../../src/trace/step-ring.js';
import { Trace, type AgentEvent } from '../../../src/trace/index.js';
import { FakeClock } from '../../support/clock.js';

const key = (n: number): MessageKey => messageKey(n);

function result(n: number, responseTo: string, arrivedAt: number): LiveRecord {
  return {
    ...{ kind: 'outbound', key: key(n), state: 'queued', worker: undefined, messageId: `r${n}`, responseTo },
    ...{ directive: 'echo', metadata: metadataFrom([]), content: { kind: 'inline', bytes: Buffer.alloc(0) } },
    ...{ destination: { kind: 'data-out' }, idKey: undefined, arrivedAt, attempts: 0, dueAt: 0, replayOf: undefined },
  };
}

describe('the ring of steps', () => {
  const seen = { kind: 'inbound' as const, responseTo: '', directive: 'echo', arrivedAt: 1 };

  test('whoever was active last has the slot, and nothing of the one before is left', () => {
    const ring = new StepRing((of) => ({ ...seen, messageId: `m${of}` }), 4);
    ring.mark(key(1), STEP.journaled, 10);
    ring.mark(key(1), STEP.underWay, 11);
    ring.mark(key(1), STEP.underWay, 12);
    ring.end(key(1), 'dead', 13);
    assert.deepEqual(ring.at(key(1)), {
      ...{ kind: 'inbound', key: 1, messageId: 'm1', responseTo: '', directive: 'echo' },
      ...{ arrivedAt: 1, times: [10, 0, 0, 0, 12, 0, 13], tries: 2, end: 'dead' },
    });
    ring.mark(key(5), STEP.ready, 20);
    assert.equal(ring.at(key(1)), undefined);
    const { times, tries, end } = ring.at(key(5)) ?? {};
    assert.deepEqual([times, tries, end], [[0, 0, 0, 20, 0, 0, 0], 0, undefined]);
    assert.deepEqual(ring.of('m1'), []);
  });

  test('a message that nobody knows any more is remembered by its key', () => {
    const ring = new StepRing(() => undefined, 4);
    ring.end(key(2), 'delivered', 5);
    assert.equal(ring.at(key(2))?.messageId, '');
    assert.deepEqual(ring.of('m2'), []);
  });
});

describe('the trace', () => {
  test('tells a message with its answers; arrivals never stand behind the step that followed them', async () => {
    const clock = new FakeClock();
    await clock.advance(5);
    const records = new Map<number, LiveRecord>();
    const trace = new Trace({ clock, find: (of) => records.get(of) });
    // It came, as the wall clock has it, a millisecond after it was on its way: that clock knows no fractions.
    const { responseTo: _, ...request } = result(7, '', clock.now() + 1);
    records.set(7, { ...request, kind: 'inbound', responseTo: '', messageId: 'm' } as unknown as LiveRecord);
    trace.mark(key(7), STEP.journaled);
    trace.mark(key(7), STEP.underWay);
    records.set(8, result(8, 'm', clock.now() - 3));
    trace.mark(key(8), STEP.journaled);
    await clock.advance(2);
    trace.ended(key(7), 'delivered');
    trace.ended(key(8), 'sent');
    const [message, answer] = trace.of('m');
    const at = clock.now();
    assert.deepEqual(message?.steps, [
      { name: 'received', at: at - 2, detail: '' },
      { name: 'journaled', at: at - 2, detail: '' },
      { name: 'dispatching', at: at - 2, detail: '' },
      { name: 'delivered', at, detail: '' },
    ]);
    assert.deepEqual(
      answer?.steps.map((step) => [step.name, step.at - at]),
      [
        ['returned', -2],
        ['journaled', -2],
        ['sent', 0],
      ],
    );
    assert.equal(trace.at(key(9)), undefined);
  });

  test('makes events only while somebody watches, all of them or the notable ones', () => {
    const clock = new FakeClock();
    const trace = new Trace({ clock, find: () => undefined });
    let asked = 0;
    const note = (): void =>
      trace.note(() => {
        asked += 1;
        return { kind: 'worker', name: 'running', worker: 'w' };
      });
    note();
    assert.equal(asked, 0);
    const all = new AbortController();
    const notable = new AbortController();
    const [every, some] = [trace.watch(false, all.signal), trace.watch(true, notable.signal)];
    note();
    trace.mark(key(1), STEP.ready);
    trace.mark(key(1), STEP.back);
    trace.ended(key(1), 'delivered');
    trace.ended(key(2), 'dead');
    const names = ({ entries }: { readonly entries: readonly AgentEvent[] }): readonly string[] =>
      entries.map(({ name }) => name);
    assert.deepEqual(names(every.read(0, 9)), ['running', 'ready', 'put-back', 'delivered', 'dead']);
    assert.deepEqual(names(some.read(0, 9)), ['running', 'put-back', 'dead']);
    all.abort();
    note();
    assert.deepEqual(names(every.read(0, 9)).length, 5);
    notable.abort();
    note();
    assert.equal(asked, 2);
    trace.watch(true, notable.signal);
    note();
    assert.equal(asked, 2, 'a scope that has ended watches nothing');
  });

  test('a watcher that is behind is told how many events it missed', async () => {
    const trace = new Trace({ clock: new FakeClock(), find: () => undefined });
    const scope = new AbortController();
    const events = trace.watch(false, scope.signal);
    const from = events.end;
    for (let n = 1; n <= 5000; n++) trace.mark(key(n), STEP.ready);
    for await (const { entries, missed } of events.excerpts(from, true, scope.signal)) {
      assert.deepEqual([missed, entries[0]?.key], [5000 - 4096, 5000 - 4096 + 1]);
      scope.abort();
    }
  });
});
