/**
 * The machine has other users. With root, a program of another user tries all that an agent keeps, listens on and runs:
 * a stranger, the user of another worker, and a process of the agent's own user that is none of its workers.
 */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { suite } from 'node:test';
import { promisify } from 'node:util';
import { connectAsync } from 'mqtt';
import { fault } from '../support/fault.js';
import { intrude, type Intrusion, type Targets } from '../support/intruder.js';
import { walk, type Entry } from '../support/walk.js';
import { Home, Yggd } from '../support/yggd.js';
import { runYggd } from '../support/yggd-once.js';

const run = promisify(execFile);
/** Users nobody else has. */
const STRANGER = 65_534;
const WORKER_USER = 65_533;
const AGENT_USER = 65_532;
const skip = process.getuid?.() === 0 ? false : 'another user can only be played by root';

const ARGS = ['--embedded-broker=0', '--client-id=h'];

/** What is not there yet, and may not be put there by others, lest a later version trust it. */
const GUESSES = ['run/admin/x', 'run/metrics.sock', 'run/w/x', 'state/lock', 'state/VERSION'];

function assertModes(entries: readonly Entry[], wanted: (entry: Entry) => number): void {
  for (const entry of entries)
    assert.equal(entry.mode.toString(8), wanted(entry).toString(8), `${entry.kind} ${entry.path}`);
}

async function pidOf(yggd: Yggd, worker: string): Promise<number> {
  return Number((await yggd.line('worker.started', (entry) => entry['worker'] === worker))['pid']);
}

function registered(yggd: Yggd, worker: string): Promise<unknown> {
  return yggd.line('dispatcher.registered', (entry) => entry['worker'] === worker);
}

/** All of an agent that there is to attack. */
async function targetsOf(home: Home, yggd: Yggd, workers: readonly string[]): Promise<Targets> {
  const places = ['state', 'run', 'workers', 'config/secrets'];
  const entries = (await Promise.all(places.map((place) => walk(home.path(place))))).flat();
  const paths = [...entries.map(({ path }) => path), ...GUESSES.map((guess) => home.path(guess))];
  const sockets = entries.filter(({ kind }) => kind === 'socket').map(({ path }) => path);
  const reached = [...sockets, home.path('run/admin/admin.sock')];
  // The same through the agent's own view of the file system.
  const behind = reached.map((path) => `/proc/${yggd.pid}/root${path}`);
  const pids = [yggd.pid, ...(await Promise.all(workers.map((worker) => pidOf(yggd, worker))))];
  return { paths, sockets: [...reached, ...behind], pids };
}

/** What anybody may do: workers are programs anyone may read, and only what the agent makes keeps others from looking. */
function harmless(intrusion: Intrusion, home: Home): readonly string[] {
  const isOpen = (way: string): boolean => /^(read|list|watch) /.test(way) && way.includes(` ${home.path('workers')}`);
  return intrusion.succeeded.filter((way) => !isOpen(way));
}

suite('other users of the machine', { timeout: 240_000, skip, concurrency: 2 }, () => {
  for (const umask of [0o022, 0o000, 0o077]) {
    const name = `get in nowhere when the agent was started with umask ${umask.toString(8).padStart(3, '0')}`;
    fault('local attacker', name, {}, async (run) => {
      await using home = await Home.make();
      const workers = ['echo-worker', 'command-worker'] as const;
      // One with a socket of its own, as those have that do not speak the stream.
      await home.addSdkWorker('echo-worker', `await serve({ handler: 'echo', transport: 'unary' }, () => undefined);`);
      await home.addWorker('command-worker');
      // Everybody may pass, as below /run and /var/lib: only what the agent itself sets keeps others out.
      await chmod(home.path(), 0o755);
      await mkdir(home.path('config/secrets'), { mode: 0o700 });
      await writeFile(home.path('config/secrets/key.pem'), 'secret', { mode: 0o600 });
      await home.writeWorkerFile('echo-worker', `user = "${WORKER_USER}"\n`);
      const before = process.umask(umask);
      const yggd = Yggd.spawn({ home, args: ARGS });
      process.umask(before);
      await using _ = yggd;
      await yggd.line('agent.ready');
      for (const worker of workers) await registered(yggd, worker);

      const [state, runtime] = [await walk(home.path('state')), await walk(home.path('run'))];
      for (const kept of ['/journal/data.mdb', '/embedded-broker.json', '/children.json']) {
        assert.ok(state.some(({ path }) => path.endsWith(kept)));
      }
      assertModes(state, ({ kind }) => (kind === 'directory' ? 0o700 : 0o600));
      assert.ok(state.every(({ uid }) => uid === 0));
      const passed = [home.path('run'), home.path('run/w')];
      const ours = runtime.filter(({ path }) => !path.endsWith('/w.sock'));
      // The operator's: for the agent's own group too.
      const operators = ours.filter(({ path }) => path.startsWith(home.path('run/admin')));
      assertModes(operators, ({ kind }) => (kind === 'directory' ? 0o750 : 0o660));
      const others = ours.filter((entry) => !operators.includes(entry));
      assertModes(others, ({ path, kind }) => (passed.includes(path) ? 0o711 : kind === 'directory' ? 0o700 : 0o600));
      const own = home.path('run/w/echo-worker');
      assert.ok(runtime.every(({ path, uid }) => uid === (path.startsWith(own) ? WORKER_USER : 0)));

      const targets = await targetsOf(home, yggd, workers);
      const stranger = await intrude(STRANGER, targets);
      assert.deepEqual(harmless(stranger, home), []);
      // A worker that runs as a user of its own gets to its own directory and processes, and nowhere else.
      const ownPid = await pidOf(yggd, 'echo-worker');
      const isForeign = (path: string): boolean => !path.includes(own);
      const foreign: Targets = {
        paths: targets.paths.filter(isForeign),
        sockets: targets.sockets.filter(isForeign),
        pids: targets.pids.filter((pid) => pid !== ownPid),
      };
      const neighbour = await intrude(WORKER_USER, foreign);
      assert.deepEqual(harmless(neighbour, home), []);
      // That the attack works is seen where it may: in the worker's own directory.
      const socket = `${own}/w.sock`;
      const atHome = await intrude(WORKER_USER, { paths: [own], sockets: [socket], pids: [] });
      for (const way of [
        `list ${own}`,
        `create ${own}`,
        `chmod ${own}`,
        `connect ${socket}`,
        `Worker.Send ${socket}`,
      ]) {
        assert.ok(atHome.succeeded.includes(way), way);
      }
      run.test.diagnostic(`ways tried: ${stranger.tried} by a stranger, ${neighbour.tried} by another worker's user`);

      const status = await readFile(`/proc/${ownPid}/status`, 'utf8');
      assert.match(status, new RegExp(`^Uid:${`\t${WORKER_USER}`.repeat(4)}$`, 'm'));
      assert.match(status, new RegExp(`^Groups:\\s*(${WORKER_USER})?\\s*$`, 'm'));
      // Nobody was hurt by any of it.
      assert.equal(await yggd.stop(), 0);
    });
  }

  fault('local attacker', 'even the agent’s own user is no worker: the kernel tells who calls', {}, async (run) => {
    await using home = await Home.make();
    await chmod(home.path(), 0o755);
    for (const worker of ['echo-worker', 'command-worker'] as const) await home.addWorker(worker);
    for (const name of ['state', 'run']) await mkdir(home.path(name), { mode: 0o755 });
    for (const name of ['state', 'run']) await chown(home.path(name), AGENT_USER, AGENT_USER);
    await using yggd = await Yggd.start({ home, args: ARGS, uid: AGENT_USER, env: { HOME: '/' } });
    for (const worker of ['echo-worker', 'command-worker']) await registered(yggd, worker);
    const sockets = (await walk(home.path('run'))).filter(({ kind }) => kind === 'socket').map(({ path }) => path);
    const ours = sockets.filter((path) => path.endsWith('/d.sock'));
    assert.equal(ours.length, 2);
    const { tried, succeeded } = await intrude(AGENT_USER, { paths: [], sockets: ours, pids: [] });
    assert.deepEqual(succeeded, []);
    assert.ok(tried >= 16);
    const refused = await yggd.line('dispatcher.peer_refused');
    assert.match(String(refused.text), /^process \d+ of user 65532 is not of this worker's processes/);
    assert.ok(
      yggd.log.filter(({ event }) => event === 'dispatcher.peer_refused').length <= 2,
      'a line a minute for each',
    );
    run.test.diagnostic(`ways tried: ${tried}`);
  });

  fault('local attacker', 'no abstract socket is there to be reached', {}, async () => {
    await using home = await Home.make();
    await home.addWorker('echo-worker');
    await using yggd = await Yggd.start({ home, args: ARGS });
    await registered(yggd, 'echo-worker');
    const own = async (): Promise<readonly string[]> => {
      const { stdout } = await run('/bin/sh', [
        '-c',
        `readlink /proc/${yggd.pid}/fd/* | sed -n 's/^socket:\\[\\(.*\\)\\]$/\\1/p'`,
      ]);
      return stdout.split('\n').filter((inode) => inode !== '');
    };
    const inodes = await own();
    const lines = (await readFile('/proc/net/unix', 'utf8')).split('\n').map((line) => line.trim().split(/\s+/));
    const abstract = lines.filter(([, , , , , , inode, path]) => inodes.includes(inode ?? '') && path?.startsWith('@'));
    assert.deepEqual(abstract, []);
  });

  fault('local attacker', 'the embedded broker lets in nobody who has not its password', {}, async () => {
    await using home = await Home.make();
    await using yggd = await Yggd.start({ home, args: ARGS });
    const { broker } = await yggd.line('connection.up');
    const { username, password } = JSON.parse(
      await readFile(home.path('state/embedded-broker.json'), 'utf8'),
    ) as Record<'username' | 'password', string>;
    const url = String(broker);
    const wrong = [
      {},
      { username },
      { username, password: '' },
      { username, password: password.slice(0, -1) },
      { username, password: `${password}x` },
      { username: 'root', password },
      { username: '', password },
    ];
    for (const given of wrong) {
      await assert.rejects(connectAsync(url, { ...given, protocolVersion: 4, reconnectPeriod: 0 }), /Not authorized/);
    }
    const known = await connectAsync(url, { username, password, protocolVersion: 4, reconnectPeriod: 0 });
    await known.endAsync(true);
  });
});

suite('programs that others could change', { timeout: 120_000, skip }, () => {
  fault('local attacker', 'are refused, each with its reason, and the one that is sound runs', {}, async () => {
    await using home = await Home.make();
    await chmod(home.path(), 0o755);
    await home.addWorker('echo-worker');
    const ran = home.path('ran');
    const script = `#!/bin/sh\necho "$0" >> ${ran}\nexec sleep 1000\n`;
    const planted: Readonly<Record<string, (path: string) => Promise<void>>> = {
      'owned-worker': (path) => chown(path, STRANGER, STRANGER),
      'world-worker': (path) => chmod(path, 0o757),
      'group-worker': async (path) => {
        await chown(path, 0, STRANGER);
        await chmod(path, 0o775);
      },
      'setuid-worker': (path) => chmod(path, 0o4755),
      'setgid-worker': (path) => chmod(path, 0o2755),
    };
    for (const [name, spoil] of Object.entries(planted)) {
      const path = home.path('draft', name);
      await writeFile(path, script, { mode: 0o755 });
      await spoil(path);
      await run('mv', [path, home.path('workers', name)]);
    }
    await writeFile(home.path('outside'), script, { mode: 0o755 });
    await symlink(home.path('outside'), home.path('workers/linked-worker'));
    await mkdir(home.path('workers/sub'), { mode: 0o777 });
    await chmod(home.path('workers/sub'), 0o777);
    await writeFile(home.path('workers/sub/x'), script, { mode: 0o755 });
    await symlink('sub/x', home.path('workers/deep-worker'));
    // A second name of what a stranger owns stays the stranger's.
    await writeFile(home.path('draft/theirs'), script, { mode: 0o755 });
    await chown(home.path('draft/theirs'), STRANGER, STRANGER);
    await run('ln', [home.path('draft/theirs'), home.path('workers/hard-worker')]);
    await using yggd = await Yggd.start({ home, args: ARGS });
    await registered(yggd, 'echo-worker');
    const names = [...Object.keys(planted), 'linked-worker', 'deep-worker', 'hard-worker'];
    for (const name of names) await yggd.line('worker.refused', (entry) => entry['worker'] === name);
    await yggd.stop();
    assert.deepEqual(
      yggd.log.filter(({ event }) => event === 'worker.started').map((entry) => entry['worker']),
      ['echo-worker'],
    );
    await assert.rejects(readFile(ran), { code: 'ENOENT' });
  });

  fault('local attacker', 'cannot be had by the variables of a worker’s file', {}, async () => {
    await using home = await Home.make();
    const variables = ['LD_PRELOAD', 'LD_LIBRARY_PATH', 'LD_AUDIT', 'NODE_OPTIONS', 'PATH', 'YGG_SOCKET_ADDR', 'YGG_X'];
    const ran = home.path('ran');
    for (const [i, name] of variables.entries()) {
      await home.addProgram(`v${i}-worker`, `#!/bin/sh\nenv >> ${ran}\n`);
      await home.writeWorkerFile(`v${i}-worker`, `[env]\n${name} = "${home.path('evil')}"\n`);
    }
    await using yggd = await Yggd.start({ home, args: ARGS });
    for (const [i, name] of variables.entries()) {
      const line = await yggd.line('worker.config_invalid', (entry) => entry['worker'] === `v${i}-worker`);
      assert.ok(String(line.text).includes(name), String(line.text));
    }
    await assert.rejects(readFile(ran), { code: 'ENOENT' });
  });

  fault(
    'local attacker',
    'gain nothing by swapping a program, again and again, while it is started',
    {},
    async (run) => {
      await using home = await Home.make();
      await chmod(home.path(), 0o755);
      const ran = home.path('ran');
      await writeFile(ran, '');
      await chmod(ran, 0o666);
      await home.addProgram('swapped-worker', '#!/bin/sh\nexit 1\n');
      await using yggd = await Yggd.start({ home, args: ARGS });
      await yggd.line('worker.died');
      // The place is the attacker's from now on: what is swapped in is theirs, and the look finds the place untrusted.
      await writeFile(home.path('draft/evil'), `#!/bin/sh\nid -u >> ${ran}\n`, { mode: 0o755 });
      await chown(home.path('draft/evil'), STRANGER, STRANGER);
      await writeFile(home.path('draft/good'), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
      const swap = `for (let i = 0; i < Number(process.argv[2]); i++) {
      fs.copyFileSync('evil', 'e'); fs.renameSync('e', process.argv[1]); fs.copyFileSync('good', 'g'); fs.renameSync('g', process.argv[1]);
    }`;
      await chmod(home.path('draft'), 0o777);
      await chmod(home.path('workers'), 0o777);
      for (const _ of run.each(1, 20)) {
        const words = ['-e', swap, home.path('workers/swapped-worker'), '2000'];
        const racer = spawn(process.execPath, words, { uid: STRANGER, gid: STRANGER, cwd: home.path('draft') });
        await once(racer, 'exit');
      }
      await yggd.line('worker_dir.untrusted');
      await yggd.stop();
      assert.equal(await readFile(ran, 'utf8'), '');
    },
  );
});

suite('directories that others laid out', { timeout: 120_000, skip }, () => {
  const stranger = async (...command: readonly [string, ...string[]]): Promise<void> => {
    await run(command[0], command.slice(1), { uid: STRANGER, gid: STRANGER });
  };

  fault('local attacker', 'are not taken by the agent for its own', {}, async () => {
    await using home = await Home.make();
    await chmod(home.path(), 0o755);
    await mkdir(home.path('tmp'));
    await chmod(home.path('tmp'), 0o1777);
    await mkdir(home.path('precious'), { mode: 0o750 });
    await stranger('mkdir', '-m', '777', home.path('tmp/made'));
    await stranger('ln', '-s', home.path('precious'), home.path('tmp/link'));
    await stranger('mkdir', home.path('tmp/deep'));
    await stranger('ln', '-s', home.path('precious/x'), home.path('tmp/made/client-id.tmp'));
    for (const place of ['made', 'link', 'deep/er']) {
      const there = home.path('tmp', place);
      for (const flag of [`--state-dir=${there}`, `--runtime-dir=${there}`]) {
        const { code, told } = await runYggd(home, ['--broker=mqtt://127.0.0.1:1', flag]);
        assert.equal(code, 73, flag);
        assert.match(told.filter((line) => !line.startsWith('{')).join(), /belongs to user 65534, who could change it/);
      }
    }
    const precious = await walk(home.path('precious'));
    assert.equal(precious[0]?.mode, 0o750);
    assert.ok(
      precious.every(({ path }) => !/journal|lock|client-id$|content/.test(path.slice(home.path('precious').length))),
    );
  });

  fault('local attacker', 'do not become the worker directory through a link of theirs', {}, async () => {
    await using home = await Home.make();
    await chmod(home.path(), 0o755);
    await mkdir(home.path('tmp'));
    await chmod(home.path('tmp'), 0o1777);
    await home.addWorker('echo-worker');
    await run('ln', ['-s', home.path('workers'), home.path('tmp/libexec')], { uid: STRANGER, gid: STRANGER });
    await symlink(home.path('workers'), home.path('tmp/own'));
    const args = ['--broker=mqtt://127.0.0.1:1'];
    {
      await using yggd = await Yggd.start({ home, args: [...args, `--worker-dir=${home.path('tmp/libexec')}`] });
      assert.match(String((await yggd.line('worker_dir.untrusted')).text), /libexec belongs to user 65534/);
      assert.ok(!yggd.log.some(({ event }) => event === 'worker.started'));
    }
    await using yggd = await Yggd.start({ home, args: [...args, `--worker-dir=${home.path('tmp/own')}`] });
    await yggd.line('worker.started');
  });
});
