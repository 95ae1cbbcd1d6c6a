// The datastore's small parts by themselves: the window of a lane, alarms, the lock, the bytes of a record.
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Alarms } from '../../../src/datastore/alarms.js';
import { ContentFiles } from '../../../src/datastore/content-files.js';
import { padded } from '../../../src/datastore/keys.js';
import { Ledger } from '../../../src/datastore/ledger.js';
import { decodeRecord, encodeRecord } from '../../../src/datastore/record-codec.js';
import { StateLock } from '../../../src/datastore/state-lock.js';
import { Unrecorded } from '../../../src/datastore/unrecorded.js';
import { LaneWindow, type Sized } from '../../../src/datastore/window.js';
import { silentLog } from '../../../src/log/log.js';
import {
  directiveKey,
  messageKey,
  metadataFrom,
  type DeadOrigin,
  type DeadRecord,
  type InboundRecord,
  type MessageKey,
  type OutboundRecord,
} from '../../../src/message/index.js';
import { FakeClock, settle } from '../../support/clock.js';
import { FaultyJournal } from '../../support/faulty-journal.js';
import { directive, workerName } from '../../support/messages.js';
import { tempDir } from '../../support/temp.js';

const key = messageKey;
const keys = (...numbers: number[]): MessageKey[] => numbers.map(key);

describe('the text of a key', () => {
  it('is the number in base 36, in eleven digits', () => {
    const edges = [35, 36, 36 ** 5, 36 ** 6, 36 ** 10, 2 ** 31, 2 ** 32, Number.MAX_SAFE_INTEGER];
    for (const edge of edges) {
      for (const number of [edge - 1, edge, Math.min(edge + 1, Number.MAX_SAFE_INTEGER)])
        assert.equal(padded(number), number.toString(36).padStart(11, '0'));
    }
    assert.deepEqual([padded(0), padded(-3), padded(7.9)], ['0'.repeat(11), '0'.repeat(11), '00000000007']);
  });
});

describe('the window of a lane', () => {
  const window = (hasBacklog = false): LaneWindow =>
    new LaneWindow(hasBacklog, { records: 3, bytes: 100, refill: 1, part: 2 });
  const sized = (size: number, ...numbers: number[]): Sized[] => numbers.map((number) => ({ key: key(number), size }));
  const added = (lane: LaneWindow, ...numbers: number[]): boolean[] =>
    numbers.map((number) => {
      const isLive = lane.add(key(number), 1);
      lane.committed(key(number), undefined);
      return isLive;
    });

  it('holds as many as its limit; what comes after that waits on disk until it is read', () => {
    const lane = window();
    assert.deepEqual(added(lane, 1, 2, 3, 4, 5), [true, true, true, false, false]);
    assert.equal(lane.refill(), undefined, 'there is enough');
    lane.take(key(1));
    lane.take(key(2));
    assert.deepEqual(lane.refill(), { after: 3, before: undefined, limit: 2, bytes: 99 });
    lane.refilled(sized(1, 4, 5), 5, false);
    assert.deepEqual(lane.keys, keys(3, 4, 5));
  });

  it('holds as many bytes as its limit, and a content more; what is read is bounded by them too', () => {
    const lane = window();
    assert.equal(lane.add(key(1), 99), true);
    assert.equal(lane.add(key(2), 60), true, 'there was room for some of it');
    assert.equal(lane.add(key(3), 0), false);
    for (const number of [1, 2, 3]) lane.committed(key(number), undefined);
    lane.take(key(1));
    assert.equal(lane.refill(), undefined, 'what is there will do for a while');
    lane.take(key(2));
    assert.deepEqual(lane.refill(), { after: 2, before: undefined, limit: 2, bytes: 100 });
    lane.refilled(sized(70, 3, 4), 4, false);
    lane.insert(key(1), 30);
    assert.deepEqual([lane.evict(() => true), lane.evict(() => true)], [key(4), undefined]);
    assert.deepEqual(lane.keys, keys(1, 3));
  });

  it('counts the bytes of what comes back, in its place, until it leaves again', () => {
    const lane = window(true);
    lane.refilled([...sized(10, 1), ...sized(20, 2)], 2, false);
    lane.take(key(1));
    lane.insert(key(1), 60);
    lane.take(key(1));
    assert.equal(lane.refill()?.bytes, 80);
    lane.take(key(2));
    assert.equal(lane.refill()?.bytes, 100);
  });

  it('keeps a content in memory that is larger than its limit by itself', () => {
    const lane = window(true);
    lane.refilled(sized(1_000, 1), 1, true);
    assert.equal(
      lane.evict(() => true),
      undefined,
    );
    lane.take(key(1));
    assert.equal(lane.isEmpty, true);
    assert.equal(lane.add(key(2), 1), true, 'it has left');
  });

  it('lets nothing overtake a record that is still being written', () => {
    const lane = window();
    added(lane, 1, 2, 3);
    assert.equal(lane.add(key(4), 1), false);
    for (const number of [1, 2, 3]) lane.take(key(number));
    assert.equal(lane.add(key(5), 1), false, 'not before 4');
    lane.committed(key(5), undefined);
    assert.equal(lane.refill()?.before, 4);
    lane.refilled([], 3, true);
    lane.committed(key(4), undefined);
    assert.deepEqual(lane.refill(), { after: 3, before: undefined, limit: 2, bytes: 100 });
  });

  it('knows which records are being written, whatever order they are through in', () => {
    const lane = window();
    for (const number of [4, 6, 9]) lane.add(key(number), 1);
    const committing = (): number[] => [3, 4, 5, 6, 9, 10].filter((number) => lane.isCommitting(key(number)));
    assert.deepEqual(committing(), [4, 6, 9]);
    lane.committed(key(6), undefined);
    assert.deepEqual(committing(), [4, 9]);
    lane.forget(key(9));
    lane.add(key(10), 1);
    assert.deepEqual(committing(), [4, 10]);
    lane.committed(key(4), undefined);
    lane.committed(key(10), undefined);
    assert.deepEqual(committing(), []);
  });

  it('takes no record whose key does not count up: the order of those that are being written hangs on it', () => {
    const lane = window();
    lane.add(key(4), 1);
    assert.throws(() => lane.add(key(4), 1), RangeError);
    assert.throws(() => lane.add(key(3), 1), RangeError);
    assert.deepEqual(lane.keys, keys(4));
    assert.equal(lane.add(key(5), 1), true);
  });

  it('takes in at its commit what was not live from the start, when it is the next of all and there is room', () => {
    const lane = window(true);
    for (const number of [1, 2, 3, 4, 5]) lane.add(key(number), 1);
    assert.equal(lane.committed(key(1), 1), false, 'there may be others on disk before it');
    lane.refilled(sized(1, 1), 1, true);
    assert.equal(lane.committed(key(3), 1), false, '2 comes before it');
    lane.refilled([], 1, true);
    assert.equal(lane.committed(key(2), 1), true);
    assert.equal(lane.committed(key(4), undefined), false, 'it cannot come in as it is');
    assert.deepEqual(lane.keys, keys(1, 2));
    lane.take(key(1));
    lane.refilled(sized(1, 3, 4), 4, true);
    assert.equal(lane.committed(key(5), 1), false, 'the window is full');
    lane.take(key(2));
    lane.take(key(3));
    assert.deepEqual(lane.refill(), { after: 4, before: undefined, limit: 2, bytes: 99 });
  });

  it('reads what lay behind a record that was never written', () => {
    const lane = window();
    added(lane, 1, 2, 3);
    lane.add(key(4), 1);
    lane.add(key(5), 1);
    lane.committed(key(5), undefined);
    for (const number of [1, 2, 3]) lane.take(key(number));
    lane.refilled([], 3, true);
    lane.forget(key(4));
    assert.deepEqual(lane.refill(), { after: 3, before: undefined, limit: 2, bytes: 100 });
    assert.equal(lane.isEmpty, false);
  });

  it('gives a record its old place back', () => {
    const lane = window();
    added(lane, 1, 2, 3);
    lane.take(key(2));
    assert.equal(lane.insert(key(2), 1), true);
    assert.equal(lane.insert(key(2), 1), true, 'once');
    assert.deepEqual(lane.keys, keys(1, 2, 3));
    assert.equal(window(true).insert(key(9), 1), false, 'it lies on disk beyond what was read');
  });

  it('gives the newest back to the disk when too many come back, but none that is needed', () => {
    const lane = window();
    added(lane, 1, 2, 3);
    lane.take(key(1));
    added(lane, 4);
    lane.insert(key(1), 1);
    assert.deepEqual(lane.keys, keys(1, 2, 3, 4));
    assert.equal(
      lane.evict(() => false),
      undefined,
    );
    assert.equal(
      lane.evict(() => true),
      4,
    );
    assert.equal(
      lane.evict(() => true),
      undefined,
    );
    for (const number of [1, 2]) lane.take(key(number));
    assert.equal(lane.refill()?.after, 3, 'it is read again');
  });
});

const HOUR = 3_600_000;

describe('alarms', () => {
  async function open(
    ring: (recordKey: string) => boolean,
    wake: (recordKey: string) => void = () => undefined,
  ): Promise<{ clock: FakeClock; journal: FaultyJournal; ledger: Ledger; alarms: Alarms; scope: AbortController }> {
    const clock = new FakeClock();
    const journal = new FaultyJournal();
    await journal.open();
    const ledger = new Ledger(journal, new ContentFiles(''), clock, silentLog, { limit: 2 ** 30, reserve: 0 });
    const alarms = new Alarms(ledger, { ring, wake });
    const scope = new AbortController();
    alarms.start(scope.signal);
    return { clock, journal, ledger, alarms, scope };
  }

  it('ring once each, however many are due at once and whatever is set meanwhile', async () => {
    const rung = new Map<string, number>();
    const { clock, ledger, alarms, journal } = await open((recordKey) => {
      rung.set(recordKey, (rung.get(recordKey) ?? 0) + 1);
      return true;
    });
    const at = clock.now() + 1000;
    const count = 1000;
    await ledger.commit(Array.from({ length: count }, (_, i) => alarms.set(at, key(i + 1), `r${i}`)));
    alarms.arm(at);
    const late = at + 20_000;
    await ledger.commit([alarms.set(late, key(5000), 'late')]);
    const fails = journal.fails;
    journal.fails = (changes) => {
      alarms.arm(late);
      return fails(changes);
    };
    await clock.advance(1000);
    for (let i = 0; i < 5; i++) await clock.advance(0);
    assert.equal(rung.size, count, 'none waits for an alarm that was set meanwhile');
    await clock.advance(20_000);
    assert.equal(rung.size, count + 1);
    assert.deepEqual(new Set(rung.values()), new Set([1]));
    assert.equal(journal.count('alarms'), 0);
  });

  it('ring again when the record was not there to hear it', async () => {
    let heard = 0;
    const { clock, ledger, alarms } = await open(() => ++heard > 1);
    const at = clock.now() + 10;
    await ledger.commit([alarms.set(at, key(1), 'r')]);
    alarms.arm(at);
    await clock.advance(10);
    assert.equal(heard, 1);
    await clock.advance(1000);
    assert.equal(heard, 2);
    await clock.advance(60_000);
    assert.equal(heard, 2);
  });

  it('outlive a journal that cannot be read or written for a while', async () => {
    let heard = 0;
    const { clock, ledger, alarms, journal } = await open(() => ++heard > 0);
    const at = clock.now() + 10;
    await ledger.commit([alarms.set(at, key(1), 'r')]);
    alarms.arm(at);
    journal.cannotRead = () => true;
    await clock.advance(10);
    journal.cannotRead = () => false;
    journal.fails = () => true;
    await clock.advance(30_000);
    assert.equal(heard, 1);
    journal.fails = () => false;
    await clock.advance(30_000);
    assert.equal(journal.count('alarms'), 0);
  });

  it('end every back-off when the wall clock goes back, and none when it goes forward', async () => {
    const woken: string[] = [];
    let heard = 0;
    const { clock, ledger, alarms, journal } = await open(
      () => ++heard > 0,
      (recordKey) => woken.push(recordKey),
    );
    clock.step(HOUR);
    const count = 600;
    const at = clock.now() + 60_000;
    await ledger.commit(Array.from({ length: count }, (_, i) => alarms.set(at + i, key(i + 1), `r${i}`)));
    alarms.arm(at);
    await clock.advance(30_000);
    clock.step(-1000);
    await clock.advance(30_000);
    assert.deepEqual(woken, [], 'a second is no step');
    clock.step(-HOUR);
    await clock.advance(30_000);
    assert.equal(woken.length, count);
    journal.cannotRead = (): boolean => true;
    await clock.advance(30_000);
    journal.cannotRead = (): boolean => false;
    await clock.advance(60_000);
    assert.deepEqual([woken.length, heard], [count, 0], 'one step, one time');
  });

  it('leave nothing behind in their scope', async () => {
    const { clock, alarms, scope } = await open(() => true);
    for (let i = 1; i < 50; i++) alarms.arm(clock.now() + 20_000 - i);
    assert.equal(clock.pending, 1);
    scope.abort();
    assert.equal(clock.pending, 0);
  });
});

describe('what the journal owes', () => {
  it('is tried again until it is through, one at a time, and then all go on', async () => {
    const clock = new FakeClock();
    let caughtUp = 0;
    const unrecorded = new Unrecorded(clock, () => (caughtUp += 1));
    unrecorded.start(new AbortController().signal);
    let faults = 2;
    const commits: number[] = [];
    const commit = (number: number) => (): Promise<void> => {
      commits.push(number);
      return faults > 0 ? Promise.reject(new Error('ENOSPC')) : Promise.resolve();
    };
    await assert.rejects(unrecorded.record(key(1), 'end', commit(1)), /ENOSPC/);
    await assert.rejects(unrecorded.record(key(2), 'wait', commit(2)), /ENOSPC/);
    assert.equal(unrecorded.isLate && unrecorded.isEnding(key(1)), true);
    assert.equal(unrecorded.isEnding(key(2)), false);
    faults = 0;
    await clock.advance(1000);
    assert.deepEqual(commits, [1, 2, 1, 2]);
    assert.equal(unrecorded.isLate || unrecorded.has(key(1)), false);
    assert.equal(caughtUp, 1);
    await clock.advance(120_000);
    assert.deepEqual(commits, [1, 2, 1, 2]);
  });

  it('an end takes the place of a wait that was not recorded', async () => {
    const clock = new FakeClock();
    const unrecorded = new Unrecorded(clock, () => undefined);
    unrecorded.start(new AbortController().signal);
    const commits: string[] = [];
    let isFull = true;
    const commit = (name: string) => (): Promise<void> => {
      commits.push(name);
      return isFull ? Promise.reject(new Error('ENOSPC')) : Promise.resolve();
    };
    await assert.rejects(unrecorded.record(key(1), 'wait', commit('wait')));
    await assert.rejects(unrecorded.record(key(1), 'end', commit('end')));
    isFull = false;
    await clock.advance(60_000);
    assert.deepEqual(commits, ['wait', 'end', 'end']);
  });
});

describe('the lock of the state directory', () => {
  it('goes to exactly one of many that ask at once, also over a stale one', async () => {
    await using dir = await tempDir();
    for (let round = 0; round < 5; round++) {
      const locks = Array.from({ length: 8 }, () => new StateLock(dir.path));
      const outcomes = await Promise.allSettled(locks.map((lock) => lock.acquire()));
      assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1, `round ${round}`);
      for (const outcome of outcomes) {
        if (outcome.status === 'rejected') assert.equal((outcome.reason as { code?: string }).code, 'state.in_use');
      }
      for (const lock of locks) await lock.release();
      assert.deepEqual(await readdir(dir.path), []);
    }
  });
});

describe('the bytes of a record', () => {
  const text = fc.string({ unit: 'grapheme', maxLength: 20 });
  const metadata = fc
    .array(fc.tuple(fc.oneof(text, fc.constant('__proto__')), text), { maxLength: 4 })
    .map((pairs) => metadataFrom(pairs));
  const bytes = fc.uint8Array({ maxLength: 64 }).map((each) => Buffer.from(each));
  const content = fc.oneof(
    bytes.map((each) => ({ kind: 'inline' as const, bytes: each })),
    fc.integer({ min: 1, max: 2 ** 40 }).map((size) => ({ kind: 'file' as const, path: '/state/content/ab', size })),
  );
  const plain = { noNullPrototype: true };
  const topic = fc.record(
    { kind: fc.constant('topic' as const), topic: text, correlationData: fc.option(bytes, { nil: undefined }) },
    plain,
  );
  const reply = fc.oneof(topic, fc.constant({ kind: 'local' as const }));
  const number = fc.integer({ min: 1, max: 2 ** 40 });
  const inboundRecord: fc.Arbitrary<InboundRecord> = fc.record(
    {
      kind: fc.constant('inbound' as const),
      key: number.map(key),
      state: fc.constant('accepted' as const),
      messageId: text,
      responseTo: text,
      directive: fc.constant(directive('echo')),
      directiveKey: fc.constant(directiveKey(directive('echo'))),
      metadata,
      content,
      isFetched: fc.boolean(),
      priority: fc.integer({ min: 0, max: 9 }),
      arrivedAt: number,
      expiresAt: fc.option(number, { nil: undefined }),
      attempts: fc.nat(),
      fetches: fc.nat(),
      dueAt: number,
      replyTopic: fc.option(reply, { nil: undefined }),
      replayOf: fc.option(number.map(key), { nil: undefined }),
    },
    plain,
  );
  const destination = fc.oneof(
    fc.constant({ kind: 'data-out' as const }),
    text.map((url) => ({ kind: 'url' as const, url })),
    reply,
  );
  const worker = fc.option(fc.constant(workerName('w')), { nil: undefined });
  const idKey = fc.option(text, { nil: undefined });
  const outboundRecord: fc.Arbitrary<OutboundRecord> = fc.record(
    {
      kind: fc.constant('outbound' as const),
      key: number.map(key),
      state: fc.constant('queued' as const),
      worker,
      messageId: text,
      responseTo: text,
      directive: text,
      metadata,
      content,
      destination,
      idKey,
      arrivedAt: number,
      attempts: fc.nat(),
      dueAt: fc.nat(),
      replayOf: fc.option(number.map(key), { nil: undefined }),
    },
    plain,
  );
  const origin: fc.Arbitrary<DeadOrigin> = fc.oneof(
    fc.constant({ kind: 'refused' as const }),
    fc.constant({ kind: 'unknown' as const }),
    fc.record(
      {
        kind: fc.constant('inbound' as const),
        responseTo: text,
        isFetched: fc.boolean(),
        priority: fc.integer({ min: 0, max: 9 }),
        replyTopic: fc.option(reply, { nil: undefined }),
      },
      plain,
    ),
    fc.record({ kind: fc.constant('outbound' as const), worker, responseTo: text, destination, idKey }, plain),
  );
  const deadRecord: fc.Arbitrary<DeadRecord> = fc.record(
    {
      kind: fc.constant('dead' as const),
      key: number.map(key),
      direction: fc.constantFrom('inbound' as const, 'outbound' as const),
      endedAt: number,
      failure: fc.record({ code: fc.constant('expired' as const), text }, plain),
      messageId: text,
      directive: text,
      metadata,
      content,
      origin,
    },
    plain,
  );

  it('give the same record back', () => {
    fc.assert(
      fc.property(fc.oneof(inboundRecord, outboundRecord, deadRecord), (record) => {
        assert.deepEqual(decodeRecord(encodeRecord(record), '/state/content'), record);
      }),
    );
  });

  it('are known when a bit of them is flipped or their end is missing', () => {
    fc.assert(
      fc.property(inboundRecord, fc.nat(), fc.nat({ max: 7 }), (record, at, bit) => {
        const encoded = encodeRecord(record);
        const flipped = Buffer.from(encoded);
        const index = at % encoded.length;
        flipped[index] = (flipped[index] ?? 0) ^ (1 << bit);
        assert.equal(decodeRecord(flipped, '/state/content'), undefined);
        assert.equal(decodeRecord(encoded.subarray(0, index), '/state/content'), undefined);
      }),
    );
  });
});

describe('the keys of records', () => {
  it('are not given out twice after a start, though the commit that reserved them failed', async () => {
    const clock = new FakeClock();
    const journal = new FaultyJournal();
    await journal.open();
    await using dir = await tempDir();
    const scope = new AbortController();
    const open = async (): Promise<Ledger> => {
      const files = new ContentFiles(dir.path);
      const ledger = new Ledger(journal, files, clock, silentLog, { limit: 2 ** 30, reserve: 0 });
      await ledger.open(scope.signal);
      return ledger;
    };
    const first = await open();
    journal.fails = () => true;
    await assert.rejects(first.commit(first.nextKey().changes));
    journal.fails = () => false;
    const used = first.nextKey();
    await first.commit(used.changes);
    const second = await open();
    assert.ok(second.nextKey().key > used.key);
    await settle();
    scope.abort();
  });
});
