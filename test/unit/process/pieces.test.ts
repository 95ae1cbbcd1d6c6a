import assert from 'node:assert/strict';
import { chmod, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { silentLog } from '../../../src/log/log.js';
import { parseWorkerName, type WorkerName } from '../../../src/message/index.js';
import { replaceFile } from '../../../src/process/atomic.js';
import { cgroupRoot, DelegatedCgroups, openCgroups, ownUnit } from '../../../src/process/cgroup.js';
import { isAllowedVariable, workerEnvironment } from '../../../src/process/environment.js';
import { parseNote } from '../../../src/process/note.js';
import { LineLimiter } from '../../../src/process/output.js';
import { descendants, parseStat, Proc } from '../../../src/process/proc.js';
import { scanWorkers } from '../../../src/process/scan.js';
import { FakeClock } from '../../support/clock.js';
import { recordingLog } from '../../support/log.js';
import { tempDir } from '../../support/temp.js';

const name = parseWorkerName('echo-worker') as WorkerName;

test('the environment is exactly that of the protocol; the file adds to it but overrides nothing of the agent', () => {
  const base = {
    path: '/bin',
    configDir: '/etc/y',
    logLevel: () => 'warn',
    clientId: () => 'c1',
    proxy: { NO_PROXY: '*' },
  };
  const extra = {
    A: '1',
    _b2: '',
    PATH: 'x',
    YGG_X: 'x',
    LD_PRELOAD: 'x',
    NODE_OPTIONS: 'x',
    '': 'x',
    'a=b': 'x',
    Z: 'a\0b',
  };
  assert.deepEqual(workerEnvironment(base, 'unix:/s', extra), {
    NO_PROXY: '*',
    PATH: '/bin',
    YGG_SOCKET_ADDR: 'unix:/s',
    YGG_CONFIG_DIR: '/etc/y',
    YGG_LOG_LEVEL: 'WARN',
    YGG_CLIENT_ID: 'c1',
    A: '1',
    _b2: '',
  });
  assert.ok(isAllowedVariable('MY_PATH', ''));
});

test('a stat line is read although the name of the process holds parentheses, spaces and newlines', () => {
  const tail = ['S', 1, 42, 41, 34816, ...Array.from({ length: 14 }, () => 0), '98765432109876543', 0].join(' ');
  assert.deepEqual(parseStat(42, `42 (a) b (\n)) ${tail}`), {
    pid: 42,
    startTime: '98765432109876543',
    state: 'S',
    parent: 1,
    group: 42,
    session: 41,
    terminal: 34816,
  });
  assert.equal(parseStat(1, 'nonsense'), undefined);
});

test('what /proc does not tell is undefined, empty, or dead', async () => {
  await using dir = await tempDir();
  const proc = new Proc(dir.path);
  assert.equal(proc.stat(1), undefined);
  assert.equal(await proc.variable(1, 'A'), undefined);
  assert.equal(await proc.bootId(), '');
  assert.deepEqual(await proc.all(), []);
  assert.ok(!proc.isAlive({ pid: 1, startTime: '' }));
  assert.ok(new Proc().lineage(process.pid).has(process.ppid));
});

test('descendants are found however the list is ordered', () => {
  const at = (pid: number, parent: number) => ({
    pid,
    parent,
    startTime: '',
    state: 'S',
    group: 0,
    session: 0,
    terminal: 0,
  });
  const all = [at(9, 7), at(7, 5), at(5, 1), at(6, 1)];
  assert.deepEqual(
    descendants(all, 5).map(({ pid }) => pid),
    [9, 7],
  );
});

test('a note that is none is recognised, and so is one whose pid would address a group', () => {
  const child = { name: 'w', executable: '/w', startTime: '1', pid: 5 };
  const note = (value: unknown) => parseNote(JSON.stringify(value));
  assert.deepEqual(note({ bootId: 'b', children: [child] }), { bootId: 'b', children: [child] });
  for (const wrong of [
    null,
    [],
    { bootId: 1, children: [] },
    { bootId: 'b' },
    { bootId: 'b', children: [null] },
    ...[1, 0, -5, 1.5, '5'].map((pid) => ({ bootId: 'b', children: [{ ...child, pid }] })),
  ]) {
    assert.equal(note(wrong), undefined);
  }
  assert.equal(parseNote('{'), undefined);
});

test('a file is replaced with mode 0600, over the draft of an earlier crash, and leaves no draft', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'note');
  await writeFile(`${path}.new`, 'half', { mode: 0o666 });
  await replaceFile(path, 'one');
  await replaceFile(path, 'two');
  assert.equal(await readFile(path, 'utf8'), 'two');
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  assert.deepEqual(await readdir(dir.path), ['note']);
});

test('a burst of lines passes, then a steady rate, and what was left out is counted once', async () => {
  const clock = new FakeClock();
  const limiter = new LineLimiter(clock);
  const admitted = (lines: number): number =>
    Array.from({ length: lines }, () => limiter.admit()).filter(Boolean).length;
  assert.equal(admitted(1500), 1000);
  await clock.advance(2000);
  assert.equal(admitted(500), 200);
  assert.equal(limiter.takeDropped(), 800);
  assert.equal(limiter.takeDropped(), 0);
});

test('the unit of a cgroup path is the service, with or without a subgroup for the agent', () => {
  assert.deepEqual(ownUnit('12:cpu:/x\n0::/system.slice/yggd.service\n'), {
    unit: '/system.slice/yggd.service',
    isBelow: false,
  });
  assert.deepEqual(ownUnit('0::/system.slice/yggd.service/agent\n'), {
    unit: '/system.slice/yggd.service',
    isBelow: true,
  });
  for (const other of ['0::/\n', '0::/user.slice/session-1.scope\n', '1:name=systemd:/a.service\n', '']) {
    assert.equal(ownUnit(other), undefined);
  }
});

test('cgroup v2 is found where it is mounted, beside v1 too, and only as a whole', () => {
  const hybrid = [
    '30 29 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory',
    '31 29 0:27 /docker/1 /mnt/part rw,relatime - cgroup2 cgroup2 rw',
    '32 29 0:28 / /sys/fs/cgroup/unified rw,relatime shared:5 master:1 - cgroup2 cgroup2 rw',
  ];
  assert.equal(cgroupRoot(hybrid.join('\n')), '/sys/fs/cgroup/unified');
  assert.equal(cgroupRoot(hybrid.slice(0, 2).join('\n')), undefined);
});

test('what an earlier agent left in the cgroups of its workers is killed, and they are taken away', async () => {
  await using dir = await tempDir();
  const cgroups = new DelegatedCgroups(dir.path, silentLog);
  await mkdir(join(dir.path, 'w-old-worker'));
  await mkdir(join(dir.path, 'w-busy-worker'));
  await writeFile(join(dir.path, 'w-busy-worker', 'cgroup.kill'), '');
  await mkdir(join(dir.path, 'agent'));
  await cgroups.sweep();
  assert.deepEqual((await readdir(dir.path)).sort(), ['agent', 'w-busy-worker']);
  assert.equal(await readFile(join(dir.path, 'w-busy-worker', 'cgroup.kill'), 'utf8'), '1');
  await new DelegatedCgroups(join(dir.path, 'none'), silentLog).sweep();
});

test('cgroups are used only where the unit is ours alone; the agent moves below it', async () => {
  await using dir = await tempDir();
  const unit = join(dir.path, 'y.service');
  const self = join(dir.path, 'self');
  await mkdir(unit);
  await writeFile(self, '0::/y.service\n');
  const mounts = join(dir.path, 'mounts');
  await writeFile(mounts, `36 35 0:29 / ${dir.path} rw,relatime - cgroup2 cgroup2 rw\n`);
  const open = () => openCgroups({ mounts, self, pid: 42, log: silentLog });
  assert.equal(await open(), undefined);
  await writeFile(join(unit, 'cgroup.procs'), '42\n43\n');
  assert.equal(await open(), undefined);
  await writeFile(join(unit, 'cgroup.procs'), '42\n');
  assert.ok(await open());
  assert.equal(await readFile(join(unit, 'agent', 'cgroup.procs'), 'utf8'), '42');
  assert.equal(await openCgroups({ mounts, self: join(dir.path, 'none'), log: silentLog }), undefined);
  await writeFile(mounts, `25 1 0:22 / ${dir.path} rw,relatime - tmpfs tmpfs rw\n`);
  assert.equal(await open(), undefined);
});

test('limits that were asked for and cannot be set are said; what cannot be made costs no worker its start', async () => {
  await using dir = await tempDir();
  const log = recordingLog();
  const cgroups = new DelegatedCgroups(dir.path, log);
  const path = join(dir.path, 'w-echo-worker');
  await mkdir(path);
  for (const file of ['memory.max', 'cpu.max', 'cgroup.kill', 'cgroup.procs']) await writeFile(join(path, file), '');
  const cgroup = await cgroups.create(name, { memoryMax: 1048576, cpuMax: 50 });
  assert.equal(await readFile(join(path, 'memory.max'), 'utf8'), '1048576');
  assert.equal(await readFile(join(path, 'cpu.max'), 'utf8'), '50000 100000');
  assert.equal(await readFile(join(path, 'cgroup.kill'), 'utf8'), '1');
  await cgroup?.enter(77);
  assert.equal(await cgroup?.isEmpty(), false);
  await cgroup?.remove();

  const other = parseWorkerName('b-worker') as WorkerName;
  const bare = await cgroups.create(other, { cpuMax: 10 });
  assert.match(log.lines.find((line) => line.event === 'cgroup.no_limit')?.text ?? '', /cpu\.max of worker b-worker/);
  await bare?.enter(77);
  await bare?.remove();
  assert.equal(await bare?.isEmpty(), true);
  assert.equal(await new DelegatedCgroups(join(dir.path, 'none'), log).create(name, {}), undefined);
});

test('one look: candidates in order, a changed file is another, an untrusted directory has names but no candidates', async () => {
  await using dir = await tempDir();
  const trust = { uid: process.getuid?.() ?? 0, isPrivateGroup: () => Promise.resolve(false) };
  const look = () => scanWorkers(join(dir.path, 'w'), new Set(['x-worker']), trust);
  assert.equal((await look()).kind, 'missing');
  await mkdir(join(dir.path, 'w'));
  for (const file of ['b-worker', 'a-worker', 'x-worker'])
    await writeFile(join(dir.path, 'w', file), '', { mode: 0o755 });
  const first = await look();
  assert.ok(first.kind === 'read');
  assert.deepEqual(
    first.candidates.map((candidate) => candidate.name),
    ['a-worker', 'b-worker'],
  );
  await writeFile(join(dir.path, 'w', 'a-worker'), 'more');
  const second = await look();
  assert.ok(second.kind === 'read');
  assert.deepEqual(
    second.candidates.map((candidate, i) => candidate.identity === first.candidates[i]?.identity),
    [false, true],
  );
  await chmod(join(dir.path, 'w'), 0o777);
  const open = await look();
  assert.ok(open.kind === 'untrusted');
  assert.deepEqual([...open.names], ['a-worker', 'b-worker']);
});
