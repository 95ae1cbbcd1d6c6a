import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { chmod, chown, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { suite, test } from 'node:test';
import { receiveDatagrams, type DatagramReceiver } from '../support/datagrams.js';
import { mosquittoMissing, startMosquitto } from '../support/mosquitto.js';
import { Operator } from '../support/operator.js';
import { Home, Yggd } from '../support/yggd.js';

/** Nobody listens there: for tests that need no broker. */
const BROKER = '--broker=mqtt://127.0.0.1:1';
const NOBODY = 65_534;
const notRoot = process.getuid?.() === 0 ? false : 'running as another user needs root';
const noKoffi = hasKoffi() ? false : 'koffi, which sends datagrams, is not installed';

function hasKoffi(): boolean {
  try {
    createRequire(import.meta.url).resolve('koffi');
    return true;
  } catch {
    return false;
  }
}

suite('the daemon reloads', { timeout: 120_000, concurrency: 2 }, () => {
  test('SIGHUP takes the log level over, names what needs a restart, and a broken file changes nothing', async () => {
    await using home = await Home.make();
    const file = home.path('config/config.toml');
    await writeFile(file, 'broker = ["mqtt://127.0.0.1:1"]\nclient-id = "d"\n');
    await home.addWorker('echo-worker');
    await using yggd = await Yggd.start({ home, args: [] });
    const { pid } = await yggd.line('worker.started');

    await writeFile(file, 'broker = ["mqtt://127.0.0.1:1"]\nclient-id = "other"\nlog-level = "debug"\n');
    yggd.child.kill('SIGHUP');
    const { changed } = await yggd.line('config.reloaded');
    assert.deepEqual(changed, ['log-level']);
    const { settings } = await yggd.line('config.needs_restart');
    assert.deepEqual(settings, ['client-id']);
    await yggd.line('connection.failed', ({ level }) => level === 'debug');

    for (const broken of ['broker = [\n', 'broker = ["mqtt://127.0.0.1:1"]\nlog-levle = "info"\nusername = 7\n']) {
      const before = new Set(yggd.log);
      await writeFile(file, broken);
      yggd.child.kill('SIGHUP');
      const { problems } = await yggd.line('config.invalid', (entry) => !before.has(entry));
      assert.ok(Array.isArray(problems) && problems.every((problem) => String(problem).startsWith(`${file}:`)));
    }
    assert.ok(typeof pid === 'number' && process.kill(pid, 0), 'the worker goes on');
    assert.equal(yggd.log.filter(({ event }) => event === 'worker.started').length, 1);
    assert.equal(await yggd.stop(), 0);
  });

  test('a SIGHUP in the middle of the start is a reload once it is over', async () => {
    await using home = await Home.make();
    await using yggd = Yggd.spawn({ home, args: [BROKER] });
    await yggd.line('agent.starting');
    yggd.child.kill('SIGHUP');
    await yggd.line('config.reloaded');
    const events = yggd.log.map(({ event }) => event);
    assert.ok(events.indexOf('agent.ready') < events.indexOf('config.reloaded'), events.join(' '));
    assert.equal(await yggd.stop(), 0);
  });

  test('the daemon ends with 0 at SIGTERM and at SIGINT, also in the middle of its start', async () => {
    await using home = await Home.make();
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      const yggd = await Yggd.start({ home, args: [BROKER] });
      yggd.child.kill(signal);
      assert.deepEqual(await yggd.ended, { code: 0, signal: null });
      const starting = Yggd.spawn({ home, args: [BROKER] });
      await starting.line('agent.starting');
      starting.child.kill(signal);
      assert.deepEqual(await starting.ended, { code: 0, signal: null });
    }
  });

  test('while it stops, a SIGHUP is nothing to it; a second SIGTERM ends it at once with 143', async () => {
    await using home = await Home.make();
    await home.addProgram('stubborn-worker', '#!/bin/sh\ntrap "" TERM\necho up\nwhile :; do sleep 1; done\n');
    await using yggd = await Yggd.start({ home, args: [BROKER] });
    const { pid } = await yggd.line('worker.started');
    await yggd.line('worker.output');
    yggd.child.kill('SIGTERM');
    await yggd.line('agent.stopping');
    yggd.child.kill('SIGHUP');
    yggd.child.kill('SIGTERM');
    assert.deepEqual(await yggd.ended, { code: 143, signal: null });
    if (typeof pid === 'number') process.kill(-pid, 'SIGKILL');
  });
});

suite('the daemon and the service manager', { timeout: 120_000, skip: noKoffi, concurrency: 2 }, () => {
  const NOTIFIED = (home: Home): string => home.path('notify.sock');
  const until = async (receiver: DatagramReceiver, word: string): Promise<string[]> => {
    const heard: string[] = [];
    while (heard.at(-1)?.includes(word) !== true) heard.push(await receiver.next());
    return heard;
  };

  test('is told of readiness, reload, the watchdog and the stop, and why there is no connection', async () => {
    await using home = await Home.make();
    await using receiver = await receiveDatagrams(NOTIFIED(home));
    const env = { NOTIFY_SOCKET: NOTIFIED(home), WATCHDOG_USEC: '600000' };
    await using yggd = await Yggd.start({ home, args: [BROKER], env });
    const start = await until(receiver, 'READY=1');
    assert.ok(!start.some((datagram) => datagram.includes('WATCHDOG')));
    await until(receiver, 'STATUS=cannot reach mqtt://127.0.0.1:1');
    await until(receiver, 'WATCHDOG=1');
    await until(receiver, 'WATCHDOG=1');
    yggd.child.kill('SIGHUP');
    const [reload] = (await until(receiver, 'RELOADING=1')).slice(-1);
    assert.match(reload ?? '', /MONOTONIC_USEC=\d+/);
    await until(receiver, 'READY=1');
    assert.equal((yggd.child.kill('SIGTERM'), (await yggd.ended).code), 0);
    await until(receiver, 'STOPPING=1');
  });

  test('workers do not get the notification socket', async () => {
    await using home = await Home.make();
    await using receiver = await receiveDatagrams(NOTIFIED(home));
    await home.addProgram('env-worker', '#!/bin/sh\nenv\nexec sleep 1000\n');
    await using yggd = await Yggd.start({ home, args: [BROKER], env: { NOTIFY_SOCKET: NOTIFIED(home), HOME: '/x' } });
    await until(receiver, 'READY=1');
    await yggd.line('worker.output', ({ text }) => String(text).startsWith('YGG_SOCKET_ADDR='));
    const output = yggd.log.filter(({ event }) => event === 'worker.output').map(({ text }) => String(text));
    assert.ok(!output.some((line) => /^(NOTIFY_SOCKET|WATCHDOG|HOME)=/.test(line)), output.join('\n'));
  });
});

suite('the daemon’s log', { timeout: 60_000 }, () => {
  const FORMATS = [
    ['json', /^\{"level":"info","time":"[^"]+","event":"agent\.starting",.*\}$/],
    ['journal', /^<6>yggd \d.* starts {2}event=agent\.starting clientId=f stateDir=/],
    ['text', /^\d{4}-\S+Z INFO {2}yggd \d.* starts {2}clientId=f stateDir=/],
  ] as const;
  for (const [format, line] of FORMATS) {
    test(`has the format ${format}`, async () => {
      await using home = await Home.make();
      await using yggd = Yggd.spawn({ home, args: [BROKER, '--client-id=f', `--log-format=${format}`] });
      if (format === 'json') await yggd.line('agent.ready');
      else while (!yggd.other.some((each) => each.includes('ready: '))) await new Promise((next) => setImmediate(next));
      assert.equal(await yggd.stop(), 0);
      const lines = [...yggd.log.map((entry) => JSON.stringify(entry)), ...yggd.other];
      assert.match(lines[0] ?? '', line);
    });
  }
});

suite('the embedded broker', { timeout: 60_000 }, () => {
  test('lets in who has the password of its file, nobody else, and never logs it', async () => {
    await using home = await Home.make();
    await home.addWorker('echo-worker');
    const args = ['--embedded-broker=0', '--client-id=e', '--log-level=trace'];
    const passwords = new Set<string>();
    for (const round of [1, 2]) {
      await using yggd = await Yggd.start({ home, args });
      const { port } = await yggd.line('broker.listening');
      const url = `mqtt://127.0.0.1:${String(port)}`;
      const file = home.path('state/embedded-broker.json');
      assert.equal((await stat(file)).mode & 0o777, 0o600);
      const { username, password } = JSON.parse(await readFile(file, 'utf8')) as { username: string; password: string };
      assert.ok(password.length >= 32);
      passwords.add(password);
      const options = { protocolVersion: 4, reconnectPeriod: 0, manualConnect: false } as const;
      await assert.rejects(Operator.connect(url, 'e', options), /Not authorized/);
      await assert.rejects(
        Operator.connect(url, 'e', { ...options, username, password: `${password}x` }),
        /Not authorized/,
      );
      await using operator = await Operator.connect(url, 'e', { ...options, username, password });
      await operator.status(({ dispatchers }) => 'echo' in dispatchers);
      assert.equal(
        (await operator.answerTo(await operator.send('echo', `${round}`, { id: randomUUID() }))).content,
        round,
      );
      assert.equal(await yggd.stop(), 0);
      assert.doesNotMatch(JSON.stringify([yggd.log, yggd.other]), new RegExp(password));
    }
    assert.equal(passwords.size, 1, 'it stays the same over a restart');
  });
});

suite('a daemon that is not root', { timeout: 60_000, skip: mosquittoMissing || notRoot }, () => {
  test('runs in directories of its own and echoes', async () => {
    await using home = await Home.make();
    await home.addWorker('echo-worker');
    await mkdir(home.path('state'));
    await mkdir(home.path('run'));
    for (const name of ['state', 'run', 'workers']) await chown(home.path(name), NOBODY, NOBODY);
    await chmod(home.path(), 0o755);
    await using broker = await startMosquitto();
    await using yggd = await Yggd.start({ home, uid: NOBODY, args: [`--broker=${broker.url}`, '--client-id=n'] });
    await using operator = await Operator.connect(broker.url, 'n');
    await operator.status(({ dispatchers }) => 'echo' in dispatchers);
    assert.equal((await operator.answerTo(await operator.send('echo', '{"a":1.0}'))).metadata?.['status'], undefined);
    const { pid } = await yggd.line('worker.started');
    for (const each of [yggd.pid, pid])
      assert.match(await readFile(`/proc/${String(each)}/status`, 'utf8'), /^Uid:\t65534\t65534\t65534\t65534$/m);
    assert.equal(await yggd.stop(), 0);
  });
});

suite('an operator’s file of the original', { timeout: 60_000, skip: mosquittoMissing }, () => {
  /** As the package of 0.2 installs it, with the broker set. */
  const older = (broker: string): string =>
    `# yggdrasil global configuration settings\n\nbroker = ["${broker}"]\ncert-file = ""\nkey-file = ""\n` +
    'ca-root = []\nlog-level = "error"\ntopic-prefix = "redhat/insights"\ndata-host = ""\n' +
    'socket-addr = "@yggd"\n';
  const newer = (broker: string): string =>
    `# yggdrasil global configuration settings\nserver = ["${broker}"]\nprotocol = "mqtt"\npath-prefix = "redhat/insights"\n` +
    'cert-file = ""\nkey-file = ""\nlog-level = "info"\nfacts-file = "/nonexistent/canonical-facts.json"\nmqtt-reconnect-delay = "0s"\n';

  for (const [generation, write] of [
    ['0.2', older],
    ['0.4', newer],
  ] as const) {
    test(`${generation} starts this agent, with warnings and no errors`, async () => {
      await using home = await Home.make();
      await home.addWorker('echo-worker');
      await using broker = await startMosquitto();
      await writeFile(home.path('config/config.toml'), write(broker.url.replace('mqtt:', 'tcp:')));
      const yggd = Yggd.spawn({ home, args: ['--client-id', 'o', '-log-level', 'info'] });
      await using _ = yggd;
      await yggd.line('agent.ready');
      await using operator = await Operator.connect(broker.url, 'o', { prefix: 'redhat/insights' });
      await operator.status(({ dispatchers }) => 'echo' in dispatchers);
      assert.equal((await operator.answerTo(await operator.send('echo', '"as ever"'))).content, 'as ever');
      assert.ok(
        yggd.other.length > 0 && yggd.other.every((line) => line.startsWith('yggd: warning: ')),
        String(yggd.other),
      );
    });
  }
});
