import assert from 'node:assert/strict';
import { mkdirSync, rmSync } from 'node:fs';
import { appendFile, chmod, copyFile, mkdir, open, rename, rm, symlink, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { harness, IDLE, name, runs } from './process-harness.js';

test('what ends in worker is started, and nothing else', async () => {
  await using h = await harness({ exclude: ['left-out-worker'] });
  await h.install('echo-worker');
  await h.install('echo-worker.bak');
  await h.install('left-out-worker');
  await h.install('.hidden-worker');
  await h.start();
  await h.says('echo-worker', 'ready');
  assert.deepEqual(
    h.spawns.map((spawn) => spawn.name),
    ['echo-worker'],
  );
  assert.deepEqual([...h.entries.keys()], ['echo-worker']);
});

test('eight executables moved in together all start, each once', async () => {
  await using h = await harness();
  await h.start();
  const workers = Array.from({ length: 8 }, (_, i) => `w${i}-worker`);
  for (const worker of workers) {
    await writeFile(join(h.root, worker), IDLE);
    await chmod(join(h.root, worker), 0o755);
  }
  await Promise.all(workers.map((worker) => rename(join(h.root, worker), join(h.workerDir, worker))));
  await Promise.all(workers.map((worker) => h.says(worker, 'ready')));
  assert.deepEqual(h.spawns.map((spawn) => spawn.name).sort(), workers);
});

test('a copy that is made executable afterwards is started then, and said so before', async () => {
  await using h = await harness();
  await h.start();
  const path = join(h.workerDir, 'late-worker');
  await writeFile(path, IDLE, { mode: 0o644 });
  const refusal = await h.log.line('worker.refused', h.scope);
  assert.match(refusal.text, /not executable.*chmod \+x/);
  assert.equal(h.entries.get(name('late-worker'))?.state, 'refused');
  await chmod(path, 0o755);
  await h.says('late-worker', 'ready');
  assert.equal(h.spawns.length, 1);
  assert.equal(h.log.lines.filter((line) => line.event === 'worker.refused').length, 1);
});

test('a slow copy is started once, when it is complete', async () => {
  await using h = await harness({ rescanInterval: 50 });
  await h.start();
  const path = join(h.workerDir, 'slow-worker');
  // Closed after each piece, so that the kernel's own guard (ETXTBSY) does not help.
  await writeFile(path, '#!/bin/sh\n', { mode: 0o755 });
  for (let line = 0; line < 6; line++) {
    await appendFile(path, `echo line ${line}\n`);
    // The copy itself is slow: slower than a look, faster than the time a file must be left alone.
    await delay(120);
    assert.equal(h.spawns.length, 0);
  }
  await appendFile(path, 'echo complete\nexec sleep 1000\n');
  await h.says('slow-worker', 'complete');
  assert.equal(h.spawns.length, 1);
});

test('a slow copy that stands still longer than it may is started once all the same, when it is complete', async () => {
  await using h = await harness();
  await h.start();
  const path = join(h.workerDir, 'stalled-worker');
  const file = await open(path, 'w', 0o755);
  await file.write('#!/bin/sh\necho half\n');
  // It looks left alone, but is open for writing: the kernel refuses to run it.
  await h.log.line('worker.starting', h.scope);
  await file.write('echo complete\nexec sleep 1000\n');
  await file.close();
  await h.says('stalled-worker', 'complete');
  // One more look at the directory, and one more worker, by which a second start would have been seen.
  await h.install('other-worker');
  await h.says('other-worker', 'ready');
  assert.ok(!h.log.lines.some(({ event }) => event === 'worker.stopped'), 'it was not taken for replaced');
  assert.equal(h.spawns.filter((spawn) => spawn.name === 'stalled-worker').length, 1);
});

test('a replaced executable: the old process ends before the new one starts', async () => {
  await using h = await harness();
  await h.install('echo-worker', '#!/bin/sh\necho one\nexec sleep 1000\n');
  await h.start();
  await h.says('echo-worker', 'one');
  const first = h.spawns[0]?.pid ?? 0;
  let isOldGone = false;
  h.manager.processSpawn.connect(() => (isOldGone = !runs(first)), h.scope);
  await h.install('echo-worker', '#!/bin/sh\necho two\nexec sleep 1000\n');
  await h.says('echo-worker', 'two');
  assert.ok(isOldGone);
  assert.equal(h.spawns.length, 2);
  assert.deepEqual(
    h.dies.map(({ isStopped, isRemoved }) => ({ isStopped, isRemoved })),
    [{ isStopped: true, isRemoved: false }],
  );
});

test('a removed executable is stopped, and reported as removed', async () => {
  await using h = await harness();
  await h.install('echo-worker');
  await h.start();
  await h.says('echo-worker', 'ready');
  const removed = h.manager.workerRemoved.next(h.scope);
  await unlink(join(h.workerDir, 'echo-worker'));
  assert.equal(await removed, 'echo-worker');
  assert.deepEqual(
    h.dies.map(({ isStopped, isRemoved, signal }) => ({ isStopped, isRemoved, signal })),
    [{ isStopped: true, isRemoved: true, signal: 'SIGTERM' }],
  );
  assert.equal(h.entries.size, 0);
});

test('a directory that is missing at the start is waited for, and that is said once', async () => {
  await using h = await harness({ workerDirExists: false, rescanInterval: 20 });
  await h.start();
  await delay(100);
  await mkdir(h.workerDir);
  await h.install('echo-worker');
  await h.says('echo-worker', 'ready');
  assert.equal(h.log.lines.filter((line) => line.event === 'worker_dir.missing').length, 1);
});

test('a directory that is removed and made again is followed as before', async () => {
  await using h = await harness();
  await h.install('one-worker');
  await h.start();
  await h.says('one-worker', 'ready');
  const died = h.manager.processDie.next(h.scope);
  await rm(h.workerDir, { recursive: true });
  await died;
  await mkdir(h.workerDir);
  await h.install('two-worker');
  await h.says('two-worker', 'ready');
  // By an event again, not only by looking now and then.
  await h.install('three-worker');
  await h.says('three-worker', 'ready');
  assert.equal(h.spawns.length, 3);
});

test('with events alone, without looking now and then, a new executable is found', async () => {
  await using h = await harness({ rescanInterval: 2 ** 30 });
  await h.start();
  await h.install('echo-worker');
  await h.says('echo-worker', 'ready');
});

test('with events alone, a directory that is made again with the inode of the old one is followed', async () => {
  await using h = await harness({ rescanInterval: 2 ** 30 });
  await h.install('one-worker');
  await h.start();
  await h.says('one-worker', 'ready');
  const died = h.manager.processDie.next(h.scope);
  // In one go, so that the look which the removal asks for finds the new one.
  rmSync(h.workerDir, { recursive: true });
  mkdirSync(h.workerDir);
  await died;
  await h.install('two-worker');
  await h.says('two-worker', 'ready');
  await h.install('three-worker');
  await h.says('three-worker', 'ready');
});

test('an executable or a directory that anybody can write is refused until that is mended, and others run', async () => {
  await using h = await harness();
  await h.install('bad-worker', IDLE, 0o757);
  await h.install('good-worker');
  await h.start();
  await h.says('good-worker', 'ready');
  assert.match((await h.log.line('worker.refused', h.scope)).text, /written by every user.*chmod o-w/);
  assert.equal(h.spawns.length, 1);
  await chmod(join(h.workerDir, 'bad-worker'), 0o755);
  await h.says('bad-worker', 'ready');

  const refused = ['good-worker', 'bad-worker'].map((worker) => h.entry(worker, (entry) => entry.state === 'refused'));
  await chmod(h.workerDir, 0o777);
  await Promise.all(refused);
  assert.match((await h.log.line('worker_dir.untrusted', h.scope)).text, /written by every user/);
  assert.deepEqual(
    h.dies.map((die) => die.isRemoved),
    [false, false],
  );
  await chmod(h.workerDir, 0o755);
  await h.entry('good-worker', (entry) => entry.state === 'starting' && entry.pid !== undefined);
});

test('a setuid executable, a link that leads out, a directory and a bad name are refused; a link that stays inside runs', async () => {
  await using h = await harness();
  await h.install('setuid-worker', IDLE, 0o4755);
  await copyFile('/bin/sh', join(h.root, 'outside'));
  await symlink(join(h.root, 'outside'), join(h.workerDir, 'link-worker'));
  await mkdir(join(h.workerDir, 'directory-worker'));
  await h.install('bad name worker');
  await mkdir(join(h.workerDir, 'versions'));
  await writeFile(join(h.workerDir, 'versions', 'v1'), IDLE, { mode: 0o755 });
  await symlink('versions/v1', join(h.workerDir, 'inside-worker'));
  await h.start();
  await h.says('inside-worker', 'ready');
  const refused = new Map(
    h.log.lines
      .filter((line) => line.event === 'worker.refused')
      .map((line) => [String(line.fields['worker']), line.text]),
  );
  assert.match(refused.get('setuid-worker') ?? '', /setuid/);
  assert.match(refused.get('link-worker') ?? '', /leads out/);
  assert.match(refused.get('directory-worker') ?? '', /not a file/);
  assert.match(refused.get('bad name worker') ?? '', /no name for a worker/);
  assert.equal(h.spawns.length, 1);
});

test('a worker directory that cannot be read is said once, and is no reason to end', async () => {
  await using h = await harness({ workerDirExists: false, rescanInterval: 20 });
  await writeFile(h.workerDir, 'a file');
  await h.start();
  await delay(100);
  const lines = h.log.lines.filter((line) => line.event === 'worker_dir.unreadable');
  assert.equal(lines.length, 1);
  assert.match(lines[0]?.text ?? '', /cannot read the worker directory/);
});
