/**
 * The machine has other users. With root, a program of another user tries all that an agent keeps and listens on; and
 * everything an agent makes is walked for its modes.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, lstat, mkdir, readdir, readFile, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { promisify } from 'node:util';
import { Home, Yggd } from '../support/yggd.js';
import { runYggd } from '../support/yggd-once.js';

const run = promisify(execFile);
const STRANGER = 65_534;
const OTHER = 65_533;
const notRoot = process.getuid?.() === 0 ? false : 'another user can only be played by root';

interface Entry {
  readonly path: string;
  readonly mode: number;
  readonly uid: number;
  readonly kind: 'directory' | 'socket' | 'file' | 'link';
}

/** Everything below `root`, with itself. */
async function walk(root: string): Promise<Entry[]> {
  const stat = await lstat(root);
  const kind = stat.isDirectory() ? 'directory' : stat.isSocket() ? 'socket' : stat.isSymbolicLink() ? 'link' : 'file';
  const own: Entry = { path: root, mode: stat.mode & 0o7777, uid: stat.uid, kind };
  if (kind !== 'directory') return [own];
  const below = await Promise.all((await readdir(root)).map((name) => walk(join(root, name))));
  return [own, ...below.flat()];
}

/** Tries each path in each way, as whoever runs it; prints what succeeded. */
const INTRUDER = `
const fs = require('node:fs'), net = require('node:net');
const paths = JSON.parse(process.argv[1]);
const got = [];
const attempt = (what, path, act) => { try { act(); got.push(what + ' ' + path); } catch {} };
for (const path of paths) {
  attempt('read', path, () => fs.closeSync(fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK)));
  attempt('write', path, () => fs.closeSync(fs.openSync(path, fs.constants.O_WRONLY | fs.constants.O_NONBLOCK)));
  attempt('list', path, () => fs.readdirSync(path));
  attempt('create', path, () => fs.writeFileSync(path + '/intruder', ''));
  attempt('chmod', path, () => fs.chmodSync(path, 0o777));
  attempt('rename', path, () => fs.renameSync(path, path + '.moved'));
  attempt('unlink', path, () => fs.unlinkSync(path));
  attempt('rmdir', path, () => fs.rmdirSync(path));
  attempt('link', path, () => fs.linkSync(path, path + '.linked'));
}
const connect = (path) => new Promise((resolve) => {
  const socket = net.connect(path);
  socket.once('connect', () => { got.push('connect ' + path); socket.destroy(); resolve(); });
  socket.once('error', resolve);
});
Promise.all(paths.map(connect)).then(() => process.stdout.write(JSON.stringify(got)));
`;

async function whatSucceeds(uid: number, paths: readonly string[]): Promise<readonly string[]> {
  // In a directory every user may enter; with no group of root's.
  const { stdout } = await run(process.execPath, ['-e', INTRUDER, JSON.stringify(paths)], { uid, gid: uid, cwd: '/' });
  return JSON.parse(stdout) as string[];
}

function assertModes(entries: readonly Entry[], wanted: (entry: Entry) => number): void {
  for (const entry of entries)
    assert.equal(entry.mode.toString(8), wanted(entry).toString(8), `${entry.kind} ${entry.path}`);
}

const ARGS = ['--embedded-broker=0', '--client-id=h'];

suite('other users of the machine', { timeout: 120_000, skip: notRoot, concurrency: 2 }, () => {
  for (const umask of [0o022, 0o000, 0o077]) {
    test(`get in nowhere when the agent was started with umask ${umask.toString(8).padStart(3, '0')}`, async () => {
      await using home = await Home.make();
      await home.addWorker('echo-worker');
      await home.addWorker('command-worker');
      // Everybody may pass, as below /run and /var/lib: only what the agent itself sets keeps others out.
      await chmod(home.path(), 0o755);
      const worker = `user = "${OTHER}"\n`;
      await home.writeWorkerFile('echo-worker', worker);
      const before = process.umask(umask);
      const yggd = Yggd.spawn({ home, args: ARGS });
      process.umask(before);
      await using _ = yggd;
      await yggd.line('agent.ready');
      await yggd.line('dispatcher.registered', (entry) => entry['worker'] === 'echo-worker');

      const [state, runtime] = [await walk(home.path('state')), await walk(home.path('run'))];
      assert.ok(state.some(({ path }) => path.endsWith('/journal/data.mdb')));
      assert.ok(state.some(({ path }) => path.endsWith('/embedded-broker.json')));
      assert.ok(state.some(({ path }) => path.endsWith('/children.json')));
      assertModes(state, ({ kind }) => (kind === 'directory' ? 0o700 : 0o600));
      assert.ok(state.every(({ uid }) => uid === 0));

      const passed = [home.path('run'), home.path('run/w')];
      const ours = runtime.filter(({ path }) => !path.endsWith('/w.sock'));
      assertModes(ours, ({ path, kind }) => (passed.includes(path) ? 0o711 : kind === 'directory' ? 0o700 : 0o600));
      const own = (path: string): boolean => path.startsWith(home.path('run/w/echo-worker'));
      assert.ok(runtime.every(({ path, uid }) => uid === (own(path) ? OTHER : 0)));
      assert.ok(runtime.filter(({ kind }) => kind === 'socket').length >= 2, 'sockets');

      const paths = [...state, ...runtime].map(({ path }) => path);
      const guesses = ['run/admin', 'run/admin/admin.sock', 'run/w/x', 'state/lock', 'run/w/command-worker/w.sock'];
      const all = [...paths, ...guesses.map((guess) => home.path(guess))];
      assert.deepEqual(await whatSucceeds(STRANGER, all), []);
      // A worker that runs as a user of its own gets to its own directory and nowhere else.
      const reached = await whatSucceeds(
        OTHER,
        all.filter((path) => !own(path)),
      );
      assert.deepEqual(reached, []);
      assert.ok((await whatSucceeds(OTHER, [home.path('run/w/echo-worker/d.sock')])).length > 0, 'own');

      const { pid } = await yggd.line('worker.started', (entry) => entry['worker'] === 'echo-worker');
      const status = await readFile(`/proc/${String(pid)}/status`, 'utf8');
      assert.match(status, /^Uid:\t65533\t65533\t65533\t65533$/m);
      assert.match(status, /^Groups:\s*(65533)?\s*$/m);
    });
  }

  test('cannot lay out a directory for the agent to walk into', async () => {
    await using home = await Home.make();
    await chmod(home.path(), 0o755);
    await mkdir(home.path('tmp'));
    await chmod(home.path('tmp'), 0o1777);
    await mkdir(home.path('precious'), { mode: 0o750 });
    const stranger = async (...command: readonly [string, ...string[]]): Promise<void> => {
      await run(command[0], command.slice(1), { uid: STRANGER, gid: STRANGER });
    };
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

  test('nor may a worker’s directory lead through a link of theirs', async () => {
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

suite('what comes from outside', { timeout: 60_000 }, () => {
  test('a worker cannot forge lines of the log', async () => {
    await using home = await Home.make();
    const forged = '{"level":"error","event":"forged"}\\r<3>forged \\033[2J\\x1b]0;x\\007 forged';
    await home.addProgram('loud-worker', `#!/bin/bash\nprintf '${forged}\\n' >&2\nexec sleep 1000\n`);
    for (const format of ['json', 'journal', 'text']) {
      const args = ['--broker=mqtt://127.0.0.1:1', `--log-format=${format}`];
      await using yggd = Yggd.spawn({ home, args });
      const isTold = (): boolean => [...yggd.other, ...yggd.log.map(({ text }) => text)].join().includes('forged');
      while (!isTold()) await new Promise((next) => setImmediate(next));
      const lines = [...yggd.other, ...yggd.log.map((entry) => JSON.stringify(entry))];
      assert.ok(!yggd.log.some(({ event }) => event === 'forged'));
      assert.ok(!yggd.other.some((line) => line.startsWith('<3>forged') || line.startsWith('{"level":"error"')));
      // eslint-disable-next-line no-control-regex -- these are what must not come through
      assert.ok(!yggd.other.some((line) => /[\u0000-\u001f]/.test(line)), lines.join('\n'));
    }
  });
});
