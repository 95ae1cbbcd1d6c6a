import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { DelegatedCgroups } from '../../src/process/cgroup.js';
import { parseNote } from '../../src/process/note.js';
import { silentLog } from '../../src/log/log.js';
import { harness, name, proc, runs, type Harness } from './process-harness.js';

const FIXTURE = fileURLToPath(new URL('process-fixture.ts', import.meta.url));

/** A process that leads a session, as a worker does. */
async function bystander(env: NodeJS.ProcessEnv = {}): Promise<{ pid: number; child: ChildProcess } & Disposable> {
  const child = spawn('/bin/sleep', ['1000'], { detached: true, stdio: 'ignore', env });
  await once(child, 'spawn');
  const pid = child.pid ?? 0;
  return { pid, child, [Symbol.dispose]: () => void child.kill('SIGKILL') };
}

async function note(h: Harness, pid: number, startTime: string, bootId: string): Promise<void> {
  const children = [{ name: 'old-worker', executable: '/x/old-worker', pid, startTime }];
  await writeFile(join(h.stateDir, 'children.json'), JSON.stringify({ bootId, children }));
}

test('after kill -9 of the agent the next one ends its workers, and what left their group, before it starts its own', async () => {
  await using h = await harness({ orphanGrace: 300 });
  await h.install(
    'old-worker',
    `#!/bin/sh
trap '' TERM
setsid sleep 1000 & echo "pid $!"
setsid sh -c 'exec sleep 1000' & 
echo "pid $$"
while :; do sleep 1000; done
`,
  );
  const agent = spawn(process.execPath, ['--import', 'tsx', FIXTURE, h.workerDir, h.stateDir, h.runtimeDir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const pids: number[] = [];
  for await (const line of createInterface(agent.stdout)) {
    if (pids.push(Number(line.slice(4))) === 2) break;
  }
  const path = join(h.stateDir, 'children.json');
  // The note is written beside the spawn; it has no event, so the file is asked until it stands there.
  while (parseNote(await readFile(path, 'utf8').catch(() => ''))?.children.length !== 1) await setImmediate();
  agent.kill('SIGKILL');
  await once(agent, 'exit');
  assert.ok(pids.every(runs));
  let leftAtSpawn: number[] | undefined;
  h.manager.processSpawn.connect(() => {
    leftAtSpawn ??= pids.filter(runs);
  }, h.scope);
  const spawned = h.manager.processSpawn.next(h.scope);
  await h.start();
  await spawned;
  assert.deepEqual(leftAtSpawn, []);
  assert.match((await h.log.line('process.orphans', h.scope)).text, /old-worker \(pid \d+\)/);
});

test('a noted child that is the same process still is ended, without any environment to know it by', async () => {
  await using h = await harness();
  using child = await bystander();
  await note(h, child.pid, proc.stat(child.pid)?.startTime ?? '', await proc.bootId());
  const exit = once(child.child, 'exit');
  await h.start();
  assert.deepEqual(await exit, [null, 'SIGTERM']);
});

test('a pid that was given to another process since is left alone', async () => {
  await using h = await harness();
  using child = await bystander();
  await note(h, child.pid, '12345', await proc.bootId());
  await h.start();
  assert.ok(runs(child.pid));
  assert.ok(!h.log.lines.some((line) => line.event === 'process.orphans'));
});

test('a note of an earlier boot is not believed', async () => {
  await using h = await harness();
  using child = await bystander();
  await note(h, child.pid, proc.stat(child.pid)?.startTime ?? '', 'another boot');
  await h.start();
  assert.ok(runs(child.pid));
});

test('a process of our runtime directory is ended though no note names it, one of another directory is not', async () => {
  await using h = await harness();
  using ours = await bystander({ YGG_SOCKET_ADDR: `unix:${h.runtimeDir}/w/x-worker/d.sock` });
  using theirs = await bystander({ YGG_SOCKET_ADDR: `unix:${h.runtimeDir}-2/w/x-worker/d.sock` });
  await writeFile(join(h.stateDir, 'children.json'), 'damaged');
  const exit = once(ours.child, 'exit');
  await h.start();
  await exit;
  assert.ok(runs(theirs.pid));
  assert.match((await h.log.line('process.note_unreadable', h.scope)).text, /damaged/);
});

test('a stop while orphans are given their time kills them at once', async () => {
  await using h = await harness({ orphanGrace: 2 ** 30 });
  await using deaf = await deafProcess(h);
  const told = h.log.line('process.orphans', h.scope);
  const starting = h.start();
  await told;
  const exit = once(deaf.child, 'exit');
  await Promise.all([assert.rejects(starting), h.manager.stop(1000), exit]);
  assert.ok(!runs(deaf.child.pid ?? 0));
});

async function deafProcess(h: Harness): Promise<{ child: ChildProcess } & AsyncDisposable> {
  const child = spawn('/bin/sh', ['-c', "trap '' TERM; echo on; while :; do sleep 1000; done"], {
    detached: true,
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { PATH: '/usr/bin:/bin', YGG_SOCKET_ADDR: `unix:${h.runtimeDir}/w/x-worker/d.sock` },
  });
  await once(child.stdout, 'data');
  return { child, [Symbol.asyncDispose]: () => Promise.resolve(void child.kill('SIGKILL')) };
}

/** A cgroup (v2) that this test may use, or undefined. */
async function writableCgroup(): Promise<string | undefined> {
  for (const root of ['/sys/fs/cgroup/unified', '/sys/fs/cgroup']) {
    const path = join(root, `yggdrasil-test-${process.pid}`);
    try {
      await readFile(join(root, 'cgroup.subtree_control'));
      await mkdir(path);
      return path;
    } catch {
      // Not v2, or not ours to write: the next, or none.
    }
  }
  return undefined;
}

test('in a cgroup of its own a worker leaves nobody behind, whatever its children do to hide', async (t) => {
  const base = await writableCgroup();
  if (base === undefined) {
    t.skip('no cgroup v2 that can be written');
    return;
  }
  try {
    await using h = await harness({ cgroups: new DelegatedCgroups(base, silentLog) });
    // Without environment, out of the group, and no child of the worker any more.
    await h.install(
      'hiding-worker',
      `#!/bin/sh
until grep -q $$ ${base}/w-hiding-worker/cgroup.procs; do :; done
(env -i setsid /bin/sh -c '/bin/sleep 1000 & echo "pid $!"; exit 0' &)
exec sleep 1000
`,
    );
    const said = h.log.line('worker.output', h.scope);
    await h.start();
    const hidden = Number((await said).text.slice(4));
    assert.ok(runs(hidden));
    await h.manager.stop(5000);
    assert.ok(!runs(hidden));
    // Taken away too, or the directory above could not be.
    await assert.rejects(readFile(join(base, 'w-hiding-worker', 'cgroup.procs')));
    assert.equal(h.dies[0]?.name, name('hiding-worker'));
  } finally {
    await rmdir(base);
  }
});
