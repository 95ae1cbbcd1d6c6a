import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { createNotifier } from '../../src/cli/notify.js';
import { systemClock } from '../../src/time.js';
import { FakeClock, settle } from '../support/clock.js';
import { receiveDatagrams } from '../support/datagrams.js';
import { recordingLog } from '../support/log.js';
import { tempDir } from '../support/temp.js';

const options = () => ({ clock: new FakeClock(), log: recordingLog(), pid: 4711 });

suite('notify', { timeout: 30_000 }, () => {
  test('what the daemon tells reaches a socket with a path, in order', async () => {
    await using dir = await tempDir();
    const address = join(dir.path, 'notify.sock');
    await using receiver = await receiveDatagrams(address);
    const notifier = await createNotifier({ NOTIFY_SOCKET: address }, options());
    assert.equal(notifier.isAvailable, true);
    notifier.status('connecting to\n the broker');
    notifier.ready();
    notifier.reloading();
    notifier.stopping();
    assert.equal(await receiver.next(), 'STATUS=connecting to the broker');
    assert.equal(await receiver.next(), 'READY=1');
    assert.match(await receiver.next(), /^MONOTONIC_USEC=\d+\nRELOADING=1$/);
    assert.equal(await receiver.next(), 'STOPPING=1');
    notifier.close();
  });

  test('an abstract socket is reached as well', async () => {
    const address = `@yggdrasil-test-${randomUUID()}`;
    await using receiver = await receiveDatagrams(address);
    const notifier = await createNotifier({ NOTIFY_SOCKET: address }, options());
    notifier.ready();
    assert.equal(await receiver.next(), 'READY=1');
    notifier.close();
  });

  test('what a full socket refuses is sent when there is room, the newest value of each', async () => {
    await using dir = await tempDir();
    const address = join(dir.path, 'notify.sock');
    await using receiver = await receiveDatagrams(address, true);
    const given = { ...options(), clock: systemClock };
    const notifier = await createNotifier({ NOTIFY_SOCKET: address }, given);
    // Far more than any net.unix.max_dgram_qlen.
    for (let i = 0; i < 5_000; i++) notifier.status(`step ${i}`);
    notifier.ready();
    receiver.release();
    for (;;) {
      const datagram = await receiver.next();
      if (!datagram.includes('READY=1')) continue;
      assert.equal(datagram, 'STATUS=step 4999\nREADY=1');
      break;
    }
    notifier.close();
    assert.deepEqual(given.log.lines, []);
  });

  test('without a socket nothing is sent and nothing is wrong', async () => {
    const given = options();
    const notifier = await createNotifier({}, given);
    assert.equal(notifier.isAvailable, false);
    notifier.ready();
    notifier.watchdog(() => true, new AbortController().signal);
    assert.equal(given.clock.pending, 0);
    notifier.close();
    notifier.close();
    assert.deepEqual(given.log.lines, []);
  });

  test('an address of another kind is named in a warning', async () => {
    for (const address of ['vsock:2:1234', `/${'long'.repeat(30)}`]) {
      const given = options();
      const notifier = await createNotifier({ NOTIFY_SOCKET: address }, given);
      assert.equal(notifier.isAvailable, false);
      assert.equal(given.log.lines[0]?.event, 'notify.unavailable');
      assert.match(String(given.log.lines[0].fields['reason']), /NOTIFY_SOCKET/);
    }
  });

  test('a socket that is gone is warned of once', async () => {
    await using dir = await tempDir();
    const given = options();
    const notifier = await createNotifier({ NOTIFY_SOCKET: join(dir.path, 'nobody.sock') }, given);
    notifier.ready();
    notifier.status('on');
    assert.deepEqual(
      given.log.lines.map((line) => [line.event, line.fields['errno']]),
      [['notify.failed', 2]],
    );
    notifier.close();
  });
});

suite('the watchdog', { timeout: 30_000 }, () => {
  test('is told four times per interval that the daemon lives, until its scope ends', async () => {
    await using dir = await tempDir();
    const address = join(dir.path, 'notify.sock');
    await using receiver = await receiveDatagrams(address);
    const given = options();
    const env = { NOTIFY_SOCKET: address, WATCHDOG_USEC: '20000000', WATCHDOG_PID: '4711' };
    const notifier = await createNotifier(env, given);
    assert.equal(notifier.watchdogInterval, 20_000);
    const scope = new AbortController();
    notifier.watchdog(() => Promise.resolve(true), scope.signal);
    for (let i = 0; i < 4; i++) {
      assert.equal(given.clock.nextDelay, 5_000);
      await given.clock.advance(5_000);
      assert.equal(await receiver.next(), 'WATCHDOG=1');
    }
    scope.abort();
    assert.equal(given.clock.pending, 0);
    notifier.close();
  });

  test('hears nothing while the check says no, fails or hangs, and again when all is well', async () => {
    await using dir = await tempDir();
    const address = join(dir.path, 'notify.sock');
    await using receiver = await receiveDatagrams(address);
    const given = options();
    const notifier = await createNotifier({ NOTIFY_SOCKET: address, WATCHDOG_USEC: '4000000' }, given);
    let finish: ((isWell: boolean) => void) | undefined;
    const checks = [
      () => false,
      () => Promise.reject(new Error('no space left')),
      () => new Promise<boolean>((resolve) => (finish = resolve)),
      () => true,
    ];
    notifier.watchdog(() => checks.shift()?.() ?? true, new AbortController().signal);
    await given.clock.advance(3_000);
    assert.equal(given.clock.pending, 0, 'a check that hangs holds up the next tick');
    assert.deepEqual(
      given.log.lines.map((line) => line.event),
      ['notify.unhealthy', 'notify.unhealthy'],
    );
    notifier.status('nothing came before this');
    assert.equal(await receiver.next(), 'STATUS=nothing came before this');
    finish?.(false);
    await settle();
    await given.clock.advance(1_000);
    assert.equal(await receiver.next(), 'WATCHDOG=1');
    notifier.close();
    assert.equal(given.clock.pending, 0);
  });

  test('of another process is none of ours', async () => {
    await using dir = await tempDir();
    const address = join(dir.path, 'notify.sock');
    await using _receiver = await receiveDatagrams(address);
    const given = options();
    const env = { NOTIFY_SOCKET: address, WATCHDOG_USEC: '20000000', WATCHDOG_PID: '1' };
    const notifier = await createNotifier(env, given);
    assert.equal(notifier.watchdogInterval, undefined);
    notifier.watchdog(() => true, new AbortController().signal);
    assert.equal(given.clock.pending, 0);
    notifier.close();
  });
});
