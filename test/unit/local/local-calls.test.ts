/** Answers for this machine: who is told of them, how long they wait, and how many. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { LocalCalls, type AnswerLimits, type Dispatched, type Heard } from '../../../src/local/index.js';
import { directiveKey, metadataFrom, type MessageKey } from '../../../src/message/index.js';
import { FakeClock, settle } from '../../support/clock.js';
import { recordingLog } from '../../support/log.js';
import { directive, result, workerName } from '../../support/messages.js';
import { openTestStore, type TestStore } from '../../support/store.js';

const HOUR = 3_600_000;
const ECHO = directiveKey(directive('echo'));

interface Scene extends TestStore {
  readonly calls: LocalCalls;
  readonly clock: FakeClock;
  /** Dispatches to `echo`. */
  dispatch(messageId: string, content?: string): Promise<Dispatched>;
  /** A worker answers, and the processor tells of it. */
  answer(messageId: string, responseTo: string): Promise<MessageKey>;
}

async function open(limits?: AnswerLimits): Promise<Scene> {
  const clock = new FakeClock();
  const test = await openTestStore({ clock });
  const { store } = test;
  // What a worker registered once is looked for.
  await store.claim(ECHO, workerName('echo-worker'));
  const calls = new LocalCalls({ store, maxMessageSize: 1024, clock, log: recordingLog(), ...(limits && { limits }) });
  const scope = new AbortController();
  calls.start(scope.signal);
  return {
    ...{ ...test, calls, clock },
    dispatch: (messageId, content = '1') =>
      calls.dispatch({ messageId, directive: 'echo', metadata: metadataFrom([]), content: Buffer.from(content) }),
    answer: async (messageId, responseTo) => {
      const accepted = store.acceptResult(result(messageId, { responseTo, handlers: [ECHO], arrivedAt: clock.now() }));
      assert.equal(accepted.kind, 'accepted');
      await accepted.durable;
      calls.answered();
      return accepted.key;
    },
    [Symbol.asyncDispose]: async () => {
      scope.abort();
      await test[Symbol.asyncDispose]();
    },
  };
}

async function all(heard: AsyncIterable<Heard>): Promise<readonly string[]> {
  const told: string[] = [];
  for await (const each of heard) told.push(each.kind === 'end' ? each.end : each.record.messageId);
  return told;
}

describe('a message of this machine', () => {
  test('is announced once it is durable, and known when it comes again', async () => {
    await using t = await open();
    const received: MessageKey[] = [];
    t.calls.dataRecv.connect((key) => void received.push(key), new AbortController().signal);
    const accepted = await t.dispatch('a');
    assert.equal(accepted.kind, 'accepted');
    assert.deepEqual([received, accepted.isHandled], [[accepted.key], false]);
    assert.equal((await t.dispatch('a')).kind, 'known');
    assert.equal(t.store.inbound(accepted.key)?.replyTopic?.kind, 'local');
  });

  test('is refused with a reason when it is none', async () => {
    await using t = await open();
    const reason = async (messageId: string, content: string): Promise<string> => {
      const dispatched = await t.dispatch(messageId, content);
      return dispatched.kind === 'refused' ? dispatched.reason : dispatched.kind;
    };
    assert.match(await reason('', '1'), /the message id is empty/);
    assert.match(await reason('a', '{'), /is not JSON/);
    assert.match(await reason('a', JSON.stringify('x'.repeat(2000))), /more than max-message-size \(1024\)/);
    assert.match(await reason('x'.repeat(257), '1'), /message_id/);
    assert.equal(await reason('a', ''), 'accepted');
  });

  test('has ended at once when a cancel waited for it, and the answer says so', async () => {
    await using t = await open();
    await t.store.cancel(ECHO, 'a');
    assert.equal((await t.dispatch('a')).kind, 'ended');
    const [answer] = t.store.listing.answers;
    assert.deepEqual([answer?.responseTo, answer?.metadata['error-code']], ['a', 'cancelled']);
    assert.deepEqual(await all(t.calls.hear('a', new AbortController().signal)), [answer?.messageId]);
  });

  test('is refused while the spool has no room', async () => {
    const clock = new FakeClock();
    await using test = await openTestStore({ clock, spool: { limit: 0, reserve: 0 } });
    const calls = new LocalCalls({ store: test.store, maxMessageSize: 1024, clock, log: recordingLog() });
    const message = { messageId: 'a', directive: 'echo', metadata: metadataFrom([]), content: Buffer.from('1') };
    const dispatched = await calls.dispatch(message);
    assert.match(dispatched.kind === 'refused' ? dispatched.reason : '', /no room/);
  });
});

describe('an answer', () => {
  test('comes to all who wait, those who come later too, until one has collected it', async () => {
    await using t = await open();
    const accepted = await t.dispatch('a');
    assert.equal(accepted.kind, 'accepted');
    const early = all(t.calls.hear('a', new AbortController().signal));
    const other = new AbortController();
    const stranger = all(t.calls.hear('b', other.signal));
    const first = await t.answer('r1', 'a');
    t.store.markReady(accepted.key);
    t.store.markDispatching(accepted.key);
    await t.store.delivered(accepted.key);
    t.calls.dispatched();
    assert.deepEqual(await early, ['r1', 'delivered']);
    assert.deepEqual(await all(t.calls.hear('a', new AbortController().signal)), ['r1', 'delivered']);
    assert.equal(await t.calls.collected(first), true);
    assert.equal(await t.calls.collected(first), false);
    assert.deepEqual(t.store.listing.answers, []);
    other.abort();
    assert.deepEqual(await stranger, []);
  });

  test('that nobody collects is given up after a while, and the oldest when there are too many', async () => {
    await using t = await open({ count: 2, bytes: 1000, age: 5 * HOUR });
    for (const id of ['a', 'b', 'c']) {
      await t.dispatch(id);
      await t.answer(`r-${id}`, id);
      await t.clock.advance(HOUR);
    }
    await settle();
    const waiting = (): readonly string[] => t.store.listing.answers.map(({ messageId }) => messageId);
    assert.deepEqual(waiting(), ['r-b', 'r-c']);
    await t.clock.advance(3 * HOUR);
    assert.deepEqual(waiting(), ['r-c']);
    // Memory is ahead of the journal.
    while ([...t.store.deadLetters()].length < 2) await settle();
    const dead = [...t.store.deadLetters()];
    assert.deepEqual(
      dead.map(({ messageId }) => messageId),
      ['r-a', 'r-b'],
    );
    assert.match(dead[0]?.failure.text ?? '', /nobody has collected/);
    // Another chance for it, by hand: it waits to be collected again.
    const replayed = await t.store.replay(dead[0]?.key as MessageKey);
    assert.equal(replayed.kind, 'replayed');
    assert.deepEqual(waiting(), ['r-c', 'r-a']);
  });

  test('that is for the broker, or a URL, is none that can be collected', async () => {
    await using t = await open();
    const accepted = t.store.acceptResult(result('r'));
    assert.equal(accepted.kind, 'accepted');
    await accepted.durable;
    assert.equal(await t.calls.collected(accepted.key), false);
    assert.equal(t.store.outbound(accepted.key)?.state, 'queued');
  });
});
