/** The small parts of the router that decide: window, rate, suspects, dispatchers map, a command's meaning. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { directiveKey, messageKey, parseDirective } from '../../../src/message/index.js';
import { instructionOf } from '../../../src/router/commands.js';
import { dispatchersOf } from '../../../src/router/dispatchers.js';
import { PublishWindow } from '../../../src/router/publish-window.js';
import { RateLimit } from '../../../src/router/rate-limit.js';
import { Suspects } from '../../../src/router/suspects.js';

describe('PublishWindow', () => {
  test('data leaves the reserved places free, and control takes them', () => {
    const window = new PublishWindow(4, 2);
    assert.deepEqual([window.tryTake(), window.tryTake(), window.tryTake()], [true, true, false]);
    let sent = 0;
    for (let i = 0; i < 3; i++) window.takeForControl(() => (sent += 1));
    assert.equal(sent, 2);
    assert.equal(window.inFlight, 4);
    assert.equal(window.waiting, 1);
    window.release();
    assert.equal(sent, 3);
  });

  test('control that waits is served before data', () => {
    const window = new PublishWindow(1, 4);
    assert.equal(window.tryTake(), true);
    let isSent = false;
    window.takeForControl(() => (isSent = true));
    assert.equal(window.tryTake(), false);
    window.release();
    assert.equal(isSent, true);
    assert.equal(window.tryTake(), false);
    window.release();
    assert.equal(window.tryTake(), true);
  });

  test('closing calls those that wait, once', () => {
    const window = new PublishWindow(1, 0);
    window.tryTake();
    let calls = 0;
    window.takeForControl(() => (calls += 1));
    window.close();
    window.release();
    assert.equal(calls, 1);
  });
});

describe('RateLimit', () => {
  const key = (name: string): ReturnType<typeof directiveKey> => directiveKey(parseDirective(name)!);

  test('each directive has its own second’s worth, and it comes back with time', () => {
    const rate = new RateLimit(2);
    assert.deepEqual(
      [0, 0, 0].map((now) => rate.admits(key('a'), now)),
      [true, true, false],
    );
    assert.equal(rate.admits(key('b'), 0), true);
    assert.equal(rate.admits(key('a'), 499), false);
    assert.equal(rate.admits(key('a'), 500), true);
    assert.deepEqual(
      [0, 0, 0].map(() => rate.admits(key('a'), 60_000)),
      [true, true, false],
    );
  });

  test('a rate below one a second lets one through now and then', () => {
    const rate = new RateLimit(0.5);
    assert.deepEqual(
      [0, 1000, 2000].map((now) => rate.admits(key('a'), now)),
      [true, false, true],
    );
  });

  test('names that nobody uses any more are forgotten', () => {
    const rate = new RateLimit(1);
    for (let i = 0; i < 1025; i++) rate.admits(key(`d${i}`), 0);
    assert.equal(rate.size, 1025);
    rate.admits(key('x'), 500);
    assert.equal(rate.size, 1026);
    rate.admits(key('y'), 2000);
    assert.equal(rate.size, 1);
  });
});

describe('Suspects', () => {
  const [a, b] = [messageKey(1), messageKey(2)];

  test('after three cuts a result goes alone; after three more, alone, it is guilty', () => {
    const suspects = new Suspects();
    for (let i = 0; i < 3; i++) {
      assert.equal(suspects.mustGoAlone(a), false);
      assert.equal(suspects.cut([a, b]), undefined);
    }
    assert.equal(suspects.mustGoAlone(a), true);
    assert.equal(suspects.mustGoAlone(b), true);
    suspects.forget(b);
    assert.deepEqual([suspects.cut([a]), suspects.cut([a]), suspects.cut([a])], [undefined, undefined, a]);
    suspects.forget(a);
    assert.equal(suspects.size, 0);
  });

  test('a result that happens to be the only one three times is not guilty yet', () => {
    const suspects = new Suspects();
    for (let i = 0; i < 5; i++) assert.equal(suspects.cut([a]), undefined);
    assert.equal(suspects.cut([a]), a);
  });

  test('a cut with nothing in flight accuses nobody', () => {
    const suspects = new Suspects();
    assert.equal(suspects.cut([]), undefined);
    assert.equal(suspects.size, 0);
  });
});

describe('dispatchersOf', () => {
  const worker = (
    ...directives: string[]
  ): {
    handlers: { directive: NonNullable<ReturnType<typeof parseDirective>>; features: Record<string, string> }[];
  } => ({
    handlers: directives.map((name) => ({ directive: parseDirective(name)!, features: { b: '2', a: '1' } })),
  });

  test('is {} without workers, and knows no order', () => {
    assert.equal(dispatchersOf([]).text, '{}');
    assert.equal(
      dispatchersOf([worker('b'), worker('a', 'c')]).text,
      dispatchersOf([worker('c', 'a'), worker('b')]).text,
    );
    assert.equal(dispatchersOf([worker('x')]).text, '{"x":{"a":"1","b":"2"}}');
  });
});

describe('instructionOf', () => {
  const read = (command: string, given: Record<string, unknown> = {}): unknown =>
    instructionOf({ messageId: 'm', command, arguments: given });
  const kind = (command: string, given?: Record<string, unknown>): unknown =>
    (read(command, given) as { kind: unknown }).kind;

  test('commands are known by their exact name', () => {
    assert.equal(kind('ping'), 'ping');
    assert.equal(kind('disconnect'), 'disconnect');
    for (const name of ['Ping', 'PING', ' ping', 'toString', '__proto__']) assert.equal(kind(name), 'refused');
  });

  test('the delay of a reconnect is a number of seconds, as number or text', () => {
    const delay = (given: unknown): unknown => (read('reconnect', { delay: given }) as { delay?: unknown }).delay;
    assert.equal(delay(60), 60_000);
    assert.equal(delay('60'), 60_000);
    assert.equal(delay(' 1.5 '), 1_500);
    assert.equal(delay(undefined), 0);
    assert.equal(delay(null), 0);
    assert.equal(delay(86_400), 86_400_000);
    for (const bad of [-1, 86_401, Number.NaN, Number.POSITIVE_INFINITY, '', 'soon', '-1', '1e3', true, {}, []]) {
      assert.equal(kind('reconnect', { delay: bad }), 'refused', JSON.stringify(bad));
    }
  });

  test('a cancel names a directive and a message', () => {
    assert.deepEqual(read('cancel', { directive: 'a-b', messageID: 'x' }), {
      kind: 'cancel',
      directive: 'a_b',
      messageId: 'x',
    });
    for (const bad of [
      {},
      { directive: 'a' },
      { messageID: 'x' },
      { directive: 'a/b', messageID: 'x' },
      { directive: 1, messageID: 'x' },
      { directive: 'a', messageID: '' },
      { directive: 'a', messageID: 7 },
      { directive: 'a', messageID: 'x'.repeat(257) },
    ]) {
      assert.equal(kind('cancel', bad), 'refused', JSON.stringify(bad));
    }
  });
});
