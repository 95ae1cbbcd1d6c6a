/**
 * The datastore against a naive model: random sequences of everything that is asked of it, over a journal whose commits
 * fail now and then, with windows so small that each lane is refilled all the time. Every accepted message ends exactly
 * once, order holds, nothing vanishes, nothing comes twice, and no byte stays behind.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AgentError } from '../../src/errors.js';
import { Datastore, MQTT_LANE, type NewOutbound } from '../../src/datastore/index.js';
import { decodeRecord } from '../../src/datastore/record-codec.js';
import { directiveKey, type MessageKey } from '../../src/message/index.js';
import { silentLog } from '../../src/log/log.js';
import { FakeClock, settle } from '../support/clock.js';
import { FaultyJournal } from '../support/faulty-journal.js';
import { outcome, step, type Step } from '../support/datastore-steps.js';
import { directive, inbound, result, workerName } from '../support/messages.js';
import { seeded, testSeed } from '../support/seeded.js';
import { tempDir } from '../support/temp.js';

const DIRECTIVES = [directive('one'), directive('two')] as const;
const PRIORITIES = [5, 9] as const;
const WORKER = workerName('the-worker');
const URL_DIRECTIVE = 'https://host.example/results';
const WINDOW = { records: 4, bytes: 8, refill: 1, part: 3 }; // two contents fill it
const LANES = DIRECTIVES.length * PRIORITIES.length + 2;
const MINUTE = 60_000;

interface Pending {
  readonly id: string;
  readonly key: MessageKey;
  readonly at: number;
  readonly priority: number;
  readonly expiresAt: number | undefined;
  state: 'waiting' | 'dispatching' | 'aside' | 'owed';
  dueAt: number;
}

/** Which message has which directive and priority is fixed by its number. */
const nameOf = (id: number): { id: string; at: number; priority: number } => ({
  id: `m${id}`,
  at: id % 2,
  priority: PRIORITIES[(id >> 1) % 2] ?? 5,
});

class Run {
  readonly clock = new FakeClock();
  readonly journal = new FaultyJournal();
  readonly pending = new Map<string, Pending>();
  readonly ends = new Map<string, string>();
  readonly cancels = new Set<string>();
  /** Results that the store took and that have not ended, by lane and in order. */
  readonly results: { readonly isUrl: boolean; readonly id: string; readonly key: MessageKey }[] = [];
  readonly sent = new Set<string>();
  /** Results of completions that the journal owes: they are there together with the end, or not at all. */
  readonly owedResults: { readonly isUrl: boolean; readonly id: string }[] = [];
  /** Results whose end could not be recorded at once. */
  readonly unsure: Run['results'] = [];
  /** Requests that were given up, and so have an answer; how many times. */
  readonly owedAnswers = new Map<string, number>();
  readonly answers = new Map<string, number>();
  store: Datastore;
  #scope = new AbortController();

  constructor(readonly stateDir: string) {
    this.store = this.#make();
  }

  #make(): Datastore {
    return new Datastore({
      stateDir: this.stateDir,
      journal: this.journal,
      clock: this.clock,
      log: silentLog,
      spool: { limit: 2 ** 30, reserve: 0 },
      dead: { bytes: 2 ** 28, age: 30 * 24 * 60 * MINUTE },
      dedupe: { age: 7 * 24 * 60 * MINUTE, count: 250_000 },
      lifetimes: { message: 24 * 60 * MINUTE, unknownDirective: 24 * 60 * MINUTE, result: 24 * 60 * MINUTE },
      window: WINDOW,
    });
  }

  async open(): Promise<void> {
    const { store } = this;
    this.#scope = new AbortController();
    await store.open();
    store.fed.connect((key) => this.#fed(key), this.#scope.signal);
    store.lapsed.connect((key) => this.#lapse(key), this.#scope.signal);
    store.resume();
    await this.quiet();
  }

  async restart(): Promise<void> {
    this.#scope.abort();
    await this.store.close();
    const bytes = this.store.spoolBytes;
    const kept = await this.#inJournal();
    await this.journal.inner.open();
    this.foundResults();
    await this.journal.inner.close();
    this.owedResults.splice(0);
    const written = await this.#takeInventoryAway();
    for (const message of [...this.pending.values()]) {
      const dueAt = kept.get(message.key);
      // What was owed may have been recorded in time, or is as if it had never been asked.
      if (dueAt === undefined) this.#whenRecorded.get(message.id)?.();
      else if (message.state !== 'aside') {
        Object.assign(message, dueAt > this.clock.now() ? { state: 'aside', dueAt } : { state: 'waiting' });
      }
    }
    this.#whenRecorded.clear();
    for (const each of this.unsure.splice(0)) {
      if (!kept.has(each.key)) continue;
      this.sent.delete(each.id);
      this.results.push(each);
    }
    this.results.sort((a, b) => a.key - b.key);
    this.store = this.#make();
    this.journal.fails = () => false;
    await this.store.open();
    assert.equal(this.store.spoolBytes, bytes, 'the spool takes what a start counts');
    assert.ok(written === undefined || written === bytes, 'what is written down of it is what a start counts');
    await this.open();
  }

  /** The next start counts by itself; what was written down of the spool, if anything. */
  async #takeInventoryAway(): Promise<number | undefined> {
    await this.journal.open();
    const bytes = this.journal.get('facts', 'spool');
    await this.journal.inner.commit([{ table: 'facts', key: 'spool', value: undefined }]);
    await this.journal.close();
    return bytes && Number(bytes.toString());
  }

  /** The records that are on stable storage, with the time they are due. */
  async #inJournal(): Promise<Map<MessageKey, number>> {
    const { inner } = this.journal;
    await inner.open();
    const kept = new Map<MessageKey, number>();
    for (const [, bytes] of inner.range('records', { after: '', before: '~' })) {
      const record = decodeRecord(bytes, '');
      if (record?.kind === 'inbound' || record?.kind === 'outbound') kept.set(record.key, record.dueAt);
    }
    await inner.close();
    return kept;
  }

  /** Lets everything that is under way come to its end; what waits for a commit rides with the probe. */
  async quiet(): Promise<void> {
    for (let i = 0; i < 3; i++) {
      await settle();
      await this.store.probe().catch(() => undefined);
    }
  }

  /** The disk is well again, and everything that was owed is recorded. */
  async mend(): Promise<void> {
    this.journal.fails = () => false;
    for (let i = 0; i < 3; i++) {
      await this.clock.advance(31_000);
      await this.quiet();
    }
    this.caughtUp();
  }

  ended(message: Pending, end: string): void {
    assert.equal(this.ends.has(message.id), false, `${message.id} ended twice`);
    this.pending.delete(message.id);
    this.ends.set(message.id, end);
    if (end !== 'delivered') this.owedAnswers.set(message.id, (this.owedAnswers.get(message.id) ?? 0) + 1);
  }

  /** Ends or sets aside; a commit that failed leaves the journal owing it. */
  async settleAs(message: Pending, work: Promise<unknown>, then: () => void): Promise<void> {
    try {
      await work;
      then();
    } catch {
      message.state = 'owed';
      this.#whenRecorded.set(message.id, then);
    }
  }

  readonly #whenRecorded = new Map<string, () => void>();

  /** What the journal owed and has recorded since; nothing is handed out before all of it is. */
  caughtUp(): void {
    for (const [id, then] of this.#whenRecorded) {
      if (this.pending.get(id)?.state === 'owed') then();
    }
    this.#whenRecorded.clear();
  }

  get isOwed(): boolean {
    return this.#whenRecorded.size > 0;
  }

  /** As the processor does: one whose time was over while it was on disk alone ends now. */
  #fed(key: MessageKey): void {
    const { expiresAt = Infinity } = [...this.pending.values()].find((each) => each.key === key) ?? {};
    if (expiresAt > this.clock.now()) this.store.markReady(key);
    else void this.#lapse(key);
  }

  #lapse(key: MessageKey): Promise<void> | undefined {
    const message = [...this.pending.values()].find((each) => each.key === key);
    if (message === undefined || message.state === 'dispatching') return undefined;
    // The store speaks of it, so what it owed is recorded; unless this is an end of our own that is under way.
    this.#whenRecorded.get(message.id)?.();
    this.#whenRecorded.delete(message.id);
    if (message.state === 'owed' || !this.pending.has(message.id)) return undefined;
    assert.ok(message.expiresAt !== undefined && message.expiresAt <= this.clock.now(), `${message.id} lapsed early`);
    // One that came back to a window which is full is on disk alone: it is fed later, as often as it takes.
    if (this.store.inbound(key) === undefined) return undefined;
    const ending = this.store.end(key, 'expired', { code: 'expired', text: 'too late' });
    message.state = 'owed';
    return this.settleAs(message, ending, () => this.ended(message, 'expired'));
  }

  /** What the journal owed of completions and has written since, in its places. */
  foundResults(): void {
    if (this.owedResults.length === 0) return;
    for (const [, bytes] of this.journal.range('records', { after: 'o/', before: 'o0' })) {
      const record = decodeRecord(bytes, '');
      const index = this.owedResults.findIndex(({ id }) => record?.messageId === id);
      const [owed] = index < 0 || record === undefined ? [] : this.owedResults.splice(index, 1);
      if (owed === undefined || record === undefined || this.results.some(({ id }) => id === owed.id)) continue;
      this.results.push({ ...owed, key: record.key });
    }
    this.results.sort((a, b) => a.key - b.key);
  }

  /** What the model hands out next. */
  head(at: number): Pending | undefined {
    return [...this.pending.values()]
      .filter((each) => each.at === at && (each.state === 'waiting' || this.#isBack(each)))
      .sort((a, b) => b.priority - a.priority || a.key - b.key)[0];
  }

  #isBack(message: Pending): boolean {
    return message.state === 'aside' && message.dueAt <= this.clock.now();
  }

  /** The store's next of a directive, held against the model's. */
  next(at: number): Pending | undefined {
    const record = this.store.nextReady(directiveKey(DIRECTIVES[at] ?? DIRECTIVES[0]));
    if (this.isOwed) {
      if (record === undefined) return undefined;
      // The store has caught up by itself.
      this.caughtUp();
    }
    const head = this.head(at);
    assert.equal(record?.messageId, head?.id, 'the next message');
    if (head !== undefined) head.state = 'waiting';
    return head;
  }

  check(): void {
    const inFlight = [...this.pending.values()].filter(({ state }) => state === 'dispatching').length;
    const bound = LANES * WINDOW.records + inFlight;
    assert.ok(this.store.liveMessages <= bound, `${this.store.liveMessages} are live, at most ${bound} may be`);
  }
}

async function accept(run: Run, step: Step & { do: 'accept' }): Promise<void> {
  const { store, clock } = run;
  const known = new Set<string>();
  const offered = step.ids.map((number) => {
    const { id, at, priority } = nameOf(number);
    const expiresAt = step.ttl === undefined ? undefined : clock.now() + step.ttl;
    const content = step.isLarge ? Buffer.alloc(70_000, number) : Buffer.from(`"${id}"`);
    const isKnown = known.has(id) || run.pending.has(id) || (run.ends.has(id) && run.ends.get(id) !== 'dead');
    known.add(id);
    const acceptance = store.accept(
      inbound(id, { directive: DIRECTIVES[at] ?? DIRECTIVES[0], priority, arrivedAt: clock.now(), expiresAt, content }),
    );
    if (isKnown) assert.equal(acceptance.kind, 'duplicate', id);
    else assert.notEqual(acceptance.kind, 'duplicate', id);
    return { id, at, priority, expiresAt, acceptance, durable: outcome(acceptance), isSecond: isKnown };
  });
  for (const { id, at, priority, expiresAt, acceptance, durable, isSecond } of offered) {
    if (acceptance.kind === 'full') assert.fail('the spool is not full');
    const isDurable = await durable;
    if (acceptance.kind === 'accepted' && isDurable) {
      assert.equal(isSecond, false);
      run.ends.delete(id);
      run.pending.set(id, { id, key: acceptance.key, at, priority, expiresAt, state: 'waiting', dueAt: 0 });
      store.markReady(acceptance.key);
    } else if (acceptance.kind === 'cancelled' && isDurable) {
      assert.ok(run.cancels.delete(id), `${id} was not cancelled`);
      run.ends.set(id, 'cancelled');
      run.owedAnswers.set(id, (run.owedAnswers.get(id) ?? 0) + 1);
    } else if (acceptance.kind === 'duplicate' && isDurable) {
      // A back-off it waits in ends now.
      const waiting = run.pending.get(id);
      if (waiting?.state === 'aside') waiting.state = 'waiting';
    }
  }
}

async function land(run: Run, message: Pending, then: 'delivered' | 'failed' | 'requeue' | 'dead'): Promise<void> {
  const { store, clock } = run;
  const { key } = message;
  const dueAt = clock.now() + 20_000;
  switch (then) {
    case 'delivered':
      return run.settleAs(message, store.delivered(key), () => run.ended(message, 'delivered'));
    case 'dead':
      return run.settleAs(message, store.end(key, 'dead', { code: 'worker-failed', text: 'it fell' }), () =>
        run.ended(message, 'dead'),
      );
    case 'failed':
      return run.settleAs(message, store.failedAttempt(key, dueAt), () => {
        Object.assign(message, { state: 'aside', dueAt });
      });
    case 'requeue':
      message.state = 'waiting';
      store.requeue(key);
  }
}

async function fetch(run: Run, message: Pending, then: (Step & { do: 'fetch' })['then']): Promise<void> {
  const { store, clock } = run;
  const { key } = message;
  assert.ok(store.markFetching(key));
  if (then === 'failed') {
    const dueAt = clock.now() + 5_000;
    await store.fetchFailed(key, dueAt).then(
      () => Object.assign(message, { state: 'aside', dueAt }),
      () => undefined,
    );
    if (message.state !== 'aside') {
      await run.settleAs(message, Promise.reject(new Error('owed')), () => {
        Object.assign(message, { state: 'aside', dueAt });
      });
    }
    return;
  }
  const body = Buffer.alloc(100_000, 1);
  const content =
    then === 'file' || then === 'ended-meanwhile'
      ? await store.newContentFile().finish([body])
      : { kind: 'inline' as const, bytes: Buffer.from('the body') };
  const fetched = store.fetched(key, content).catch(() => {
    store.unfetch(key);
    store.markReady(key);
  });
  if (then === 'ended-meanwhile') await land(run, message, 'dead');
  await fetched;
}

/** The next message of a directive is done, and these are its results. */
async function complete(run: Run, step: Step & { do: 'complete' }): Promise<void> {
  const message = run.next(step.at);
  if (message === undefined) return;
  const { store } = run;
  store.markDispatching(message.key);
  const offered = step.ids.map((number) => resultFor(number, step.isUrl, false));
  const fresh = [...new Set(offered.map(({ messageId }) => messageId))].filter(
    (id) => !run.sent.has(id) && !run.results.some((each) => each.id === id),
  );
  const completed = store.complete(
    message.key,
    offered.map((each) => ({ ...each, arrivedAt: run.clock.now() })),
  );
  if (completed.kind === 'full') assert.fail('the spool is not full');
  run.owedResults.push(...fresh.map((id) => ({ isUrl: step.isUrl, id })));
  await run.settleAs(message, completed.durable, () => run.ended(message, 'delivered'));
  const keys = await completed.durable.catch(() => undefined);
  if (keys !== undefined) assert.equal(keys.length, fresh.length, 'a key for each result that is new');
  run.foundResults();
}

/** A result that is told apart by its number and where it goes. */
function resultFor(number: number, isUrl: boolean, isLarge: boolean): NewOutbound {
  const id = `r${isUrl ? 'u' : 'm'}${number}`;
  const content = isLarge ? Buffer.alloc(70_000, 7) : Buffer.from('"r"');
  const to = isUrl ? { directive: URL_DIRECTIVE } : {};
  return result(`${id}${isLarge ? 'L' : ''}`, {
    ...to,
    worker: WORKER,
    content: Buffer.concat([content, Buffer.from(id)]),
  });
}

async function send(run: Run, isUrl: boolean, then: 'sent' | 'dead' | 'retry' | 'unsend'): Promise<boolean> {
  const { store, clock } = run;
  run.foundResults();
  const lane = isUrl ? run.store.backlogLanes().find((each) => each !== MQTT_LANE) : MQTT_LANE;
  const head = lane === undefined ? undefined : store.nextOutbound(lane);
  if (head === undefined) return false;
  if (head.worker === undefined) {
    run.answers.set(head.responseTo, (run.answers.get(head.responseTo) ?? 0) + (then === 'sent' ? 1 : 0));
    store.markSending(head.key);
    if (then === 'sent') await store.endOutbound(head.key, 'sent').catch(() => undefined);
    else store.unsend(head.key);
    return true;
  }
  const expected = run.results.find((each) => each.isUrl === isUrl);
  assert.equal(head.messageId, expected?.id, 'the next result');
  if (expected === undefined) return false;
  store.markSending(head.key);
  if (then === 'unsend') store.unsend(head.key);
  else if (then === 'retry') await store.retryOutbound(head.key, clock.now() + 10_000).catch(() => undefined);
  else {
    // One that could not be recorded is recorded later, and is not handed out before.
    await store.endOutbound(head.key, then).catch(() => run.unsure.push(expected));
    assert.equal(run.sent.has(head.messageId), false, `${head.messageId} came twice`);
    run.sent.add(head.messageId);
    run.results.splice(run.results.indexOf(expected), 1);
  }
  return true;
}

async function results(run: Run, step: Step & { do: 'result' }): Promise<void> {
  const { store, clock } = run;
  const offered = step.ids.map((number) => {
    const offer = { ...resultFor(number, step.isUrl, step.isLarge), arrivedAt: clock.now() };
    const acceptance = store.acceptResult(offer);
    return { id: offer.messageId, acceptance, durable: outcome(acceptance) };
  });
  for (const { id, acceptance, durable } of offered) {
    if (acceptance.kind === 'full') assert.fail('the spool is not full');
    const isDurable = await durable;
    if (acceptance.kind !== 'accepted' || !isDurable) continue;
    assert.equal(run.sent.has(id) || run.results.some((each) => each.id === id), false, `${id} was taken twice`);
    run.results.push({ isUrl: step.isUrl, id, key: acceptance.key });
  }
  run.foundResults();
}

async function cancel(run: Run, number: number): Promise<void> {
  const { id, at } = nameOf(number);
  const message = run.pending.get(id);
  const before = message?.state;
  if (message !== undefined && before !== 'dispatching' && before !== 'owed') message.state = 'owed';
  try {
    const cancelling = run.store.cancel(directiveKey(DIRECTIVES[at] ?? DIRECTIVES[0]), id);
    const cancelled = await Promise.race([cancelling, run.quiet()]);
    // It waits until an end that is owed is recorded.
    if (cancelled === undefined) return;
    if (message === undefined) {
      assert.equal(cancelled.kind, run.ends.has(id) ? 'already-ended' : 'kept');
      if (cancelled.kind === 'kept') run.cancels.add(id);
    } else if (before === 'dispatching') assert.equal(cancelled.kind, 'in-flight');
    else if (cancelled.kind === 'cancelled') run.ended(message, 'cancelled');
    else if (before !== 'owed') assert.fail(`${id} is ${before} and its cancel says ${cancelled.kind}`);
  } catch {
    if (message !== undefined && before !== 'dispatching') {
      await run.settleAs(message, Promise.reject(new Error('owed')), () => run.ended(message, 'cancelled'));
    }
  }
}

/** The oldest dead letter is given another chance. */
async function replay(run: Run): Promise<void> {
  const [letter] = run.store.deadLetters();
  if (letter === undefined) return;
  const { messageId: id } = letter;
  try {
    const outcome = await run.store.replay(letter.key);
    if (letter.origin.kind === 'outbound') {
      if (outcome.kind !== 'replayed') assert.fail(`${id} is ${outcome.kind}`);
      run.sent.delete(id);
      run.results.push({ isUrl: id.startsWith('ru'), id, key: outcome.key });
      return;
    }
    // It may have been accepted anew since, and have come to another end or to none.
    if (run.pending.has(id)) assert.equal(outcome.kind, 'pending', id);
    else if (run.ends.get(id) !== 'dead') assert.equal(outcome.kind, 'superseded', id);
    else if (outcome.kind !== 'replayed') assert.fail(`${id} is ${outcome.kind}`);
    if (outcome.kind !== 'replayed') return;
    const { at, priority } = nameOf(Number(id.slice(1)));
    run.ends.delete(id);
    run.pending.set(id, { id, key: outcome.key, at, priority, expiresAt: undefined, state: 'waiting', dueAt: 0 });
    run.store.markReady(outcome.key);
  } catch (error) {
    assert.ok(error instanceof AgentError, String(error));
    assert.ok(
      [...run.store.deadLetters()].some(({ key }) => key === letter.key),
      `${id} is in no place any more`,
    );
  }
}

async function take(run: Run, step: Step): Promise<void> {
  switch (step.do) {
    case 'accept':
      return accept(run, step);
    case 'result':
      return results(run, step);
    case 'complete':
      return complete(run, step);
    case 'cancel':
      return cancel(run, step.id);
    case 'replay':
      return replay(run);
    case 'dispatch': {
      const message = run.next(step.at);
      if (message === undefined) return;
      run.store.markDispatching(message.key);
      message.state = 'dispatching';
      if (step.then !== 'hold') await land(run, message, step.then);
      return;
    }
    case 'land': {
      const message = [...run.pending.values()].find(({ state }) => state === 'dispatching');
      if (message !== undefined) await land(run, message, step.then);
      return;
    }
    case 'fetch': {
      const message = run.next(step.at);
      if (message !== undefined) await fetch(run, message, step.then);
      return;
    }
    case 'send':
      await send(run, step.isUrl, step.then);
      return;
    case 'advance':
      return run.clock.advance(step.by);
    case 'disk': {
      let commits = 0;
      run.journal.fails = () => step.is === 'full' || (step.is === 'flaky' && commits++ % 3 === 1);
      return;
    }
    case 'restart':
      await run.restart();
  }
}

/** Takes whatever is left to its end. */
async function drain(run: Run): Promise<void> {
  await run.mend();
  for (const message of [...run.pending.values()])
    if (message.state === 'dispatching') await land(run, message, 'requeue');
  for (let round = 0; run.pending.size > 0; round++) {
    assert.ok(round < 10, `left behind: ${[...run.pending.values()].map(({ id, state }) => `${id} ${state}`).join()}`);
    await run.clock.advance(MINUTE);
    await run.quiet();
    for (const directiveAt of [0, 1]) {
      for (let message = run.next(directiveAt); message !== undefined; message = run.next(directiveAt)) {
        run.store.markDispatching(message.key);
        message.state = 'dispatching';
        await land(run, message, 'delivered');
        await settle();
      }
    }
  }
  for (const isUrl of [true, false]) while (await send(run, isUrl, 'sent')) await settle();
  await run.quiet();
}

test('whatever happens, every message ends exactly once and in order, and nothing stays behind', async (t) => {
  const seed = testSeed();
  t.diagnostic(`YGG_TEST_SEED=${seed}`);
  const random = seeded(seed);
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (steps) => {
      await using dir = await tempDir();
      const run = new Run(dir.path);
      try {
        await run.open();
        for (const each of steps) {
          await take(run, each);
          await run.quiet();
          run.check();
        }
        await drain(run);
        const { store } = run;
        assert.equal(run.results.length, 0, `results left: ${run.results.map(({ id }) => id).join()}`);
        for (const [id, times] of run.owedAnswers) {
          assert.ok((run.answers.get(id) ?? 0) >= times, `${id} was given up ${times} times and answered less often`);
        }
        assert.equal(store.liveMessages, 0, 'live messages');
        assert.equal(store.spoolBytes, 0, 'bytes in the spool');
        assert.deepEqual(
          [...run.journal.range('records', { after: '', before: '~' })].map(([key]) => key),
          [],
        );
      } finally {
        await run.store.close();
      }
    }),
    { seed: Math.floor(random() * 2 ** 31), numRuns: 60, includeErrorInReport: true },
  );
});
