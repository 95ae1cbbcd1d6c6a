/** Children of workers that do all they can to stay: nothing of a worker's tree is left (CONTRACT section 2). */
import assert from 'node:assert/strict';
import { mkdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeBench, type Bench } from '../support/bench.js';
import { bookWorker, isRunning, readBook, readLines } from '../support/book-worker.js';
import { fault, isLong, type FaultRun } from '../support/fault.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import type { Yggd } from '../support/yggd.js';

const skip = mosquittoMissing;

/** Ways to hide; `$0` is the program that then stays, `$1` the file it writes its pid to. */
const WAYS = [
  'exec "$0" "$1"',
  'exec setsid "$0" "$1"',
  '(setsid "$0" "$1" &)',
  // Two forks, a session of its own, no environment, no open file, no parent.
  `(env -i /usr/bin/setsid /bin/sh -c '("$0" "$1" </dev/null >/dev/null 2>&1 &)' "$0" "$1" &)`,
];
const STUBBORN = '#!/bin/sh\ntrap "" TERM HUP INT\necho $$ >> "$1"\nwhile :; do /bin/sleep 0.1; done\n';

/** A worker with a child of each way, which registers when all of them run. */
function parent(bench: Bench): string {
  const children = JSON.stringify(bench.home.path('children'));
  return bookWorker(bench.home, 'parent-worker', {
    before: `const isThere = () => existsSync(${children}) && readFileSync(${children}, 'utf8').split('\\n').length > ${WAYS.length};
      for (const way of ${JSON.stringify(WAYS)})
        spawn('/bin/sh', ['-c', way, ${JSON.stringify(bench.home.path('stubborn'))}, ${children}], { stdio: 'ignore', detached: true });
      while (!isThere()) await new Promise((resolve) => setTimeout(resolve, 5));`,
  });
}

/** The same daemon, in each of the ways in which it can be left without its workers. */
async function everyEnd(run: FaultRun, bench: Bench, start: () => Promise<Yggd>, killIn = 0): Promise<void> {
  const { home, operator } = bench;
  const file = home.path('children');
  const children = (): number[] => readLines(file).map(Number);
  const started = async (): Promise<number[]> => {
    await operator.answerTo(await operator.send('parent', '1'));
    const found = children();
    assert.equal(found.length, WAYS.length);
    assert.ok(found.every(isRunning), 'the children run');
    return found;
  };
  const gone = async (pids: readonly number[], when: string): Promise<void> => {
    assert.deepEqual(pids.filter(isRunning), [], when);
    await rm(file);
  };
  const leader = (): number => readBook(home, 'parent-worker').starts.at(-1) ?? assert.fail('it was never started');
  await writeFile(home.path('stubborn'), STUBBORN, { mode: 0o755 });
  await home.writeWorkerFile('parent-worker', 'stop-timeout = "300ms"\n');
  await home.addProgram('parent-worker', parent(bench));
  for (const _ of run.each(1, 5)) {
    let yggd = await start();
    await bench.handling(['parent']);

    let pids = await started();
    const died = yggd.next('worker.died').then(() => gone(pids, 'after it was killed'));
    process.kill(leader(), 'SIGKILL');
    run.killed('worker');
    await died;

    pids = await started();
    const stopped = yggd.next('worker.stopped').then(() => gone(pids, 'after it was replaced'));
    await home.addProgram('parent-worker', `${parent(bench)}// ${run.rounds}\n`);
    await stopped;

    // The next agent gives them 10 s before it kills: too long for each short form.
    if (isLong || run.rounds === killIn) {
      pids = await started();
      await yggd.kill();
      run.killed('agent');
      assert.ok(pids.every(isRunning), 'they outlive the agent');
      yggd = await start();
      assert.deepEqual(pids.filter(isRunning), [], 'after the agent was killed and started again');
      // The new worker may have written there since: the old ones are the first lines.
      await writeFile(file, `${children().slice(WAYS.length).join('\n')}\n`.trimStart());
    }

    pids = await started();
    const removed = yggd.next('worker.stopped').then(() => gone(pids, 'after it was removed'));
    await rm(home.path('workers/parent-worker'));
    await removed;

    await home.addProgram('parent-worker', parent(bench));
    pids = await started();
    assert.equal(await yggd.stop(), 0);
    await gone(pids, 'after SIGTERM of the agent');
    run.count(5);
  }
}

fault('workers', 'children that ignore SIGTERM, leave the group and hide, without cgroups', { skip }, async (run) => {
  await using bench = await makeBench();
  await everyEnd(run, bench, () => bench.start(), 1);
});

const UNIT = `yggdrasil-test-${process.pid}.service`;

/** A cgroup (v2) that looks like a service's own, or why there is none. */
async function makeUnit(): Promise<string | undefined> {
  for (const root of ['/sys/fs/cgroup/unified', '/sys/fs/cgroup']) {
    try {
      await readFile(join(root, 'cgroup.subtree_control'));
      await mkdir(join(root, UNIT));
      return join(root, UNIT);
    } catch {
      // Not v2, or not ours to write: the next, or none.
    }
  }
  return undefined;
}

fault('workers', 'children that hide, each worker in a cgroup of its own', { skip }, async (run) => {
  const unit = await makeUnit();
  if (unit === undefined) {
    run.test.skip('needs a cgroup v2 that can be written');
    return;
  }
  try {
    await using bench = await makeBench();
    const { home } = bench;
    const inside = home.path('inside');
    const node = process.env['YGG_TEST_NODE'] ?? process.execPath;
    await writeFile(inside, `#!/bin/sh\necho $$ > ${unit}/cgroup.procs\nexec ${node} "$@"\n`, { mode: 0o755 });
    await everyEnd(run, bench, async () => {
      const yggd = await bench.start([], { node: inside });
      assert.equal((await readFile(join(unit, 'agent', 'cgroup.procs'), 'utf8')).trim(), String(yggd.pid));
      return yggd;
    });
    // Its cgroup went with it.
    await assert.rejects(readFile(join(unit, 'w-parent-worker', 'cgroup.procs')));
  } finally {
    await rmdir(join(unit, 'agent')).catch(() => undefined); // Never made, where the daemon did not start.
    await rmdir(unit);
  }
});
