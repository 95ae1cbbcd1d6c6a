import assert from 'node:assert/strict';
import { chmod, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { silentLog } from '../../src/log/log.js';
import { openMarks } from '../../src/process/mark.js';
import { Signal } from '../../src/signal/index.js';
import { systemClock } from '../../src/time.js';
import { carriers, harness, IDLE, name, proc, runs, SETTINGS } from './process-harness.js';

const isRoot = process.getuid?.() === 0;

test('a worker gets exactly the environment of the protocol, its arguments, cwd / and nothing on stdin', async () => {
  const script = `#!${process.execPath}
const { readFileSync } = require('node:fs');
console.log(JSON.stringify([Object.entries(process.env).filter(([name]) => name !== 'NODE_V8_COVERAGE').sort(), process.argv.slice(2), process.cwd(), readFileSync(0, 'utf8')]));
setInterval(() => {}, 1000);
`;
  await using h = await harness({
    environment: {
      path: '/usr/bin:/bin',
      configDir: '/etc/ygg',
      logLevel: () => 'debug',
      clientId: () => 'machine-1',
      proxy: { HTTPS_PROXY: 'http://proxy.example:3128' },
    },
  });
  const env = {
    TOKEN: 'abc',
    PATH: '/evil',
    YGG_CLIENT_ID: 'x',
    LD_PRELOAD: '/evil.so',
    NODE_OPTIONS: '-r evil',
    'a b': 'c',
  };
  h.files.set('env-worker', { kind: 'ok', settings: { ...SETTINGS, env, args: ['--one', 'two words'] } });
  await h.install('env-worker', script);
  await h.start();
  const line = await h.log.line('worker.output', h.scope);
  // Under a measurement of coverage Node itself hands NODE_V8_COVERAGE on; the script leaves it out.
  assert.deepEqual(JSON.parse(line.text), [
    [
      ['HTTPS_PROXY', 'http://proxy.example:3128'],
      ['PATH', '/usr/bin:/bin'],
      ['TOKEN', 'abc'],
      ['YGG_CLIENT_ID', 'machine-1'],
      ['YGG_CONFIG_DIR', '/etc/ygg'],
      ['YGG_LOG_LEVEL', 'DEBUG'],
      ['YGG_SOCKET_ADDR', `unix:${h.runtimeDir}/w/env-worker/d.sock`],
    ],
    ['--one', 'two words'],
    '/',
    '',
  ]);
});

test('output becomes lines of the log: both streams, invalid UTF-8, long lines, the last one without its end', async () => {
  await using h = await harness();
  h.files.set('loud-worker', { kind: 'ok', settings: { ...SETTINGS, restart: 'never' } });
  const script = `#!${process.execPath}
process.stderr.write('to stderr\\r\\n');
process.stdout.write(Buffer.concat([Buffer.from('bad '), Buffer.from([0xff, 0x1b]), Buffer.from('\\n')]));
process.stdout.write('x'.repeat(100000) + '\\nlast without end');
`;
  await h.install('loud-worker', script);
  await h.start();
  await h.says('loud-worker', 'last without end');
  const lines = h.log.lines.filter((line) => line.event === 'worker.output').map((line) => line.text);
  assert.deepEqual(lines.sort(), ['bad \ufffd\ufffd', 'last without end', 'to stderr', `${'x'.repeat(8192)} … [cut]`]);
  assert.equal(
    (await h.entry('loud-worker', (entry) => entry.state === 'stopped')).detail,
    'it ended with exit code 0',
  );
});

test('a stop leaves nothing behind: children that ignore SIGTERM, left the group, or dropped their environment', async () => {
  await using h = await harness();
  h.files.set('family-worker', { kind: 'ok', settings: { ...SETTINGS, stopTimeout: 200 } });
  await h.install(
    'family-worker',
    `#!/bin/sh
(trap '' TERM; while :; do sleep 1000; done) & echo "pid $!"
setsid sh -c 'trap "" TERM; echo "pid $$"; while :; do sleep 1000; done' &
env -i setsid /bin/sh -c 'echo "pid $$"; exec /bin/sleep 1000' &
trap '' TERM
echo "pid $$"
while :; do sleep 1000; done
`,
  );
  const pids: number[] = [];
  const all = h.log.written.next(h.scope, (line) => {
    if (line.event === 'worker.output') pids.push(Number(line.text.slice(4)));
    return pids.length === 4;
  });
  await h.start();
  await all;
  assert.ok(pids.every(runs));
  await h.manager.stop(10_000);
  assert.deepEqual(pids.filter(runs), []);
  assert.deepEqual(await carriers(`unix:${h.runtimeDir}/w/family-worker/d.sock`), []);
  assert.deepEqual(
    h.dies.map(({ signal, isStopped, isRemoved }) => ({ signal, isStopped, isRemoved })),
    [{ signal: 'SIGKILL', isStopped: true, isRemoved: false }],
  );
});

test('a process that left the session of its worker and lost its parent is the worker’s by its mark', async () => {
  const marks = await openMarks(silentLog);
  assert.ok(marks !== undefined, 'koffi is installed here');
  await using h = await harness({ marks: () => Promise.resolve(marks) });
  await h.install(
    'left-worker',
    `#!/bin/sh
(setsid sh -c 'echo "pid $$"; while :; do sleep 1000; done' & )
echo ready
while :; do sleep 1000; done
`,
  );
  const told = h.log.written.next(h.scope, ({ event, text }) => event === 'worker.output' && text.startsWith('pid '));
  await h.start();
  const pid = Number((await told).text.slice(4));
  await h.says('left-worker', 'ready');
  const { pid: leader = 0 } = h.spawns[0] ?? {};
  const uid = process.getuid?.() ?? 0;
  const isMember = (of: number, user = uid): boolean => h.manager.isMember(name('left-worker'), { pid: of, uid: user });
  assert.ok(!proc.isBelow(pid, leader), 'its descent does not tell');
  assert.ok(isMember(pid) && isMember(leader));
  assert.ok(!isMember(pid, uid + 1), 'another user is not let in by a mark, which anyone can set');
  assert.ok(!isMember(process.pid));
});

test('a worker that dies by itself is started again, after the rest of its tree has been ended', async () => {
  await using h = await harness();
  await h.install(
    'crash-worker',
    `#!/bin/sh
sleep 1000 & echo "child $!"
setsid sleep 1000 & echo "child $!"
exit 3
`,
  );
  const children: number[] = [];
  h.log.written.connect((line) => {
    if (line.text.startsWith('child ')) children.push(Number(line.text.slice(6)));
  }, h.scope);
  let left: number[] | undefined;
  h.manager.processDie.connect(() => {
    left ??= children.filter(runs);
  }, h.scope);
  const second = h.manager.processSpawn.next(h.scope, () => h.spawns.length === 2);
  await h.start();
  await second;
  assert.deepEqual(left, []);
  const { code, isStopped } = h.dies[0] ?? {};
  assert.deepEqual({ code, isStopped }, { code: 3, isStopped: false });
  assert.ok((h.entries.get(name('crash-worker'))?.restarts ?? 0) >= 1);
});

test('a worker that does not register in time is stopped and started again; one that does stays', async () => {
  await using h = await harness();
  for (const worker of ['mute-worker', 'good-worker']) {
    h.files.set(worker, { kind: 'ok', settings: { ...SETTINGS, startTimeout: 400 } });
    await h.install(worker);
  }
  h.manager.processSpawn.connect(({ name: worker }) => {
    if (worker === 'good-worker') h.manager.registered(worker);
  }, h.scope);
  const again = h.manager.processSpawn.next(h.scope, () => h.spawns.length === 3);
  await h.start();
  assert.equal((await again).name, 'mute-worker');
  assert.equal(h.entries.get(name('good-worker'))?.state, 'running');
  const told = h.log.lines.find((line) => line.event === 'worker.stopped');
  assert.match(told?.text ?? '', /did not register within 0 s.*start-timeout/);
});

test('an unhealthy worker is stopped with its tree and started again', async () => {
  await using h = await harness();
  await h.install('sick-worker');
  await h.start();
  await h.says('sick-worker', 'ready');
  h.manager.registered(name('sick-worker'));
  const again = h.manager.processSpawn.next(h.scope);
  h.manager.unhealthy(name('sick-worker'), 'it did not answer within 5 s');
  h.manager.unhealthy(name('unknown-worker'), 'nobody');
  await again;
  assert.ok(!runs(h.spawns[0]?.pid ?? 0));
  assert.match(h.log.lines.find((line) => line.event === 'worker.stopped')?.text ?? '', /did not answer within 5 s/);
});

test('a worker whose file is wrong waits until it is mended, and the others run', async () => {
  await using h = await harness();
  h.files.set('wrong-worker', { kind: 'invalid', problems: ['line 3: unknown key "hndlers"'] });
  await h.install('wrong-worker');
  await h.install('good-worker');
  await h.start();
  await h.says('good-worker', 'ready');
  const waiting = await h.entry('wrong-worker', (entry) => entry.state === 'waiting');
  assert.match(waiting.detail ?? '', /line 3/);
  h.files.delete('wrong-worker');
  await h.manager.reload(name('wrong-worker'));
  await h.says('wrong-worker', 'ready');
  assert.equal(h.spawns.length, 2);
});

test('a reload restarts a worker whose settings changed, and leaves the rest as it is', async () => {
  await using h = await harness();
  await h.install('a-worker');
  await h.install('b-worker');
  await h.install('c-worker');
  await h.start();
  for (const worker of ['a-worker', 'b-worker', 'c-worker']) await h.says(worker, 'ready');
  h.files.set('a-worker', { kind: 'ok', settings: { ...SETTINGS, env: { NEW: '1' } } });
  h.files.set('c-worker', { kind: 'invalid', problems: ['line 1: broken'] });
  const again = h.manager.processSpawn.next(h.scope);
  await h.manager.reload();
  assert.equal((await again).name, 'a-worker');
  assert.deepEqual(
    h.dies.map((die) => die.name),
    ['a-worker'],
  );
  assert.match((await h.log.line('worker.config_invalid', h.scope)).text, /goes on with the settings it has/);
});

test('a restart starts a running worker afresh, and one that had ended for good', async () => {
  await using h = await harness();
  h.files.set('once-worker', { kind: 'ok', settings: { ...SETTINGS, restart: 'never' } });
  await h.install('once-worker', '#!/bin/sh\nexit 0\n');
  await h.install('idle-worker');
  await h.start();
  await h.says('idle-worker', 'ready');
  await h.entry('once-worker', (entry) => entry.state === 'stopped');
  for (const worker of ['idle-worker', 'once-worker']) {
    const again = h.manager.processSpawn.next(h.scope, (spawn) => spawn.name === worker);
    assert.ok(h.manager.restart(name(worker)));
    await again;
  }
  assert.ok(!h.manager.restart(name('unknown-worker')));
});

test('what cannot be started says why, and is tried again after a back-off', async () => {
  // A back-off of half its range, so that each is seen.
  await using h = await harness({ random: () => 0.5 });
  await h.install('interpreter-worker', '#!/no/such/interpreter\n');
  await h.install('text-worker', 'echo not a script\n');
  await h.start();
  const backoff = await h.entry('interpreter-worker', (entry) => entry.state === 'backoff');
  assert.match(backoff.detail ?? '', /its interpreter \/no\/such\/interpreter \(first line\) does not exist/);
  const text = await h.entry('text-worker', (entry) => entry.state === 'backoff');
  assert.match(text.detail ?? '', /neither a program nor a script/);
  assert.match(
    h.log.lines.find((line) => line.event === 'worker.start_failed')?.text ?? '',
    /it is started again in 0\.5 s/,
  );
  await h.install('interpreter-worker', IDLE);
  await h.says('interpreter-worker', 'ready');
});

test('stop ends a start that is under way, may be called twice, and is quick when hurried', async () => {
  const before = await harness();
  await before.install('echo-worker');
  const starting = before.start();
  await before.manager.stop(1000);
  await assert.rejects(starting, /stopped while it started/);
  assert.equal(before.spawns.length, 0);
  await before[Symbol.asyncDispose]();

  await using h = await harness();
  await h.install('deaf-worker', "#!/bin/sh\ntrap '' TERM\necho ready\nwhile :; do sleep 1000; done\n");
  await h.start();
  await h.says('deaf-worker', 'ready');
  const patient = h.manager.stop(1_000_000);
  const hurried = h.manager.stop(50);
  await Promise.all([patient, hurried, h.manager.stop(0)]);
  assert.ok(!runs(h.spawns[0]?.pid ?? 0));
  assert.equal(h.dies.length, 1);
});

test('a stop while a worker is being prepared never spawns it', async () => {
  const asked = new Signal<undefined>('asked');
  let answer: (prepared: { address: string }) => void = () => undefined;
  await using h = await harness({
    prepare: () => {
      const prepared = new Promise<{ address: string }>((resolve) => (answer = resolve));
      asked.emit(undefined);
      return prepared;
    },
  });
  const isAsked = asked.next(h.scope);
  await h.install('echo-worker');
  await h.start();
  await isAsked;
  const stopped = h.manager.stop(1000);
  answer({ address: 'unix:/nowhere' });
  await stopped;
  assert.deepEqual(h.spawns, []);
});

test('a socket that cannot be prepared is a failure like others', async () => {
  await using h = await harness({
    prepare: () => Promise.reject(new Error('no room for a socket')),
    random: () => 0.5,
  });
  await h.install('echo-worker');
  await h.start();
  assert.match((await h.log.line('worker.start_failed', h.scope)).text, /echo-worker: no room for a socket/);
});

test(
  'an agent that is root runs workers as the user of the file, or as worker-user',
  { skip: !isRoot && 'needs root' },
  async () => {
    await using h = await harness({ workerUser: 'nobody' });
    await chmod(h.root, 0o755);
    h.files.set('daemon-worker', { kind: 'ok', settings: { ...SETTINGS, user: 'daemon', group: 'nogroup' } });
    h.files.set('ghost-worker', { kind: 'ok', settings: { ...SETTINGS, user: 'no-such-user' } });
    const script = '#!/bin/sh\necho "$(id -un) $(id -G -n)"\nexec sleep 1000\n';
    for (const worker of ['daemon-worker', 'plain-worker', 'ghost-worker']) await h.install(worker, script);
    await h.start();
    await h.says('daemon-worker', 'daemon nogroup');
    await h.says('plain-worker', 'nobody nogroup');
    assert.match((await h.entry('ghost-worker', (e) => e.state === 'waiting')).detail ?? '', /no user "no-such-user"/);
    assert.ok(!h.log.lines.some((line) => line.event === 'process.workers_as_root'));
  },
);

test('a flood of output is counted instead of logged, and does not hold the worker up', async () => {
  await using h = await harness();
  await h.install(
    'flood-worker',
    `#!${process.execPath}
const line = 'y'.repeat(99) + '\\n';
process.stdout.write(line.repeat(50000), () => process.exit(0));
`,
  );
  const died = h.manager.processDie.next(h.scope);
  await h.start();
  await died;
  const logged = h.log.lines.filter((line) => line.event === 'worker.output').length;
  assert.ok(logged < 10_000, `${logged} lines`);
  const dropped = await h.log.line('worker.output_dropped', h.scope);
  assert.match(dropped.text, /\d+ lines of output left out/);
});

test('the note of children has mode 0600 and is empty after a stop', async () => {
  await using h = await harness({ clock: systemClock });
  await h.install('echo-worker');
  await h.start();
  await h.says('echo-worker', 'ready');
  const note = join(h.stateDir, 'children.json');
  await h.manager.stop(1000);
  assert.equal((await stat(note)).mode & 0o777, 0o600);
  assert.deepEqual(JSON.parse(await readFile(note, 'utf8')), { bootId: await proc.bootId(), children: [] });
});

test('a state directory that cannot be written is said, and workers run all the same', async () => {
  await using h = await harness({ stateDir: '/proc/self' });
  await h.install('echo-worker');
  await h.start();
  await h.says('echo-worker', 'ready');
  assert.match((await h.log.line('process.note_failed', h.scope)).text, /check state-dir/);
});
