import assert from 'node:assert/strict';
import { access, chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { suite, test } from 'node:test';
import { SETTING_NAMES } from '../../src/config/index.js';
import { makeCertificate } from '../support/certificates.js';
import { Home, Yggd } from '../support/yggd.js';
import { runYggd, type Run } from '../support/yggd-once.js';

/** Nobody listens there: for tests that need no broker. */
const BROKER = '--broker=mqtt://127.0.0.1:1';
const NOBODY = 65_534;
const notRoot = process.getuid?.() === 0 ? false : 'running as another user needs root';

/** The settings were wrong: exit code 78, exactly these complaints, and nothing was made. */
async function assertRefused(home: Home, run: Run, ...complaints: readonly RegExp[]): Promise<void> {
  assert.equal(run.told.length, complaints.length, run.told.join('\n'));
  complaints.forEach((complaint, i) => assert.match(run.told[i] ?? '', complaint));
  assert.equal(run.code, 78);
  assert.equal(run.stdout, '');
  for (const name of ['state', 'run']) await assert.rejects(access(home.path(name)), { code: 'ENOENT' });
}

suite('bad settings', { timeout: 120_000, concurrency: 2 }, () => {
  test('all problems of a file are told at once, each with its line and the nearest name', async () => {
    await using home = await Home.make();
    const file = home.path('config/config.toml');
    const lines = ['# mine', 'brokr = ["mqtt://127.0.0.1:1"]', 'mqtt-keepalive = true', '', 'log-level = "loud"'];
    await writeFile(file, lines.join('\n'));
    for (const args of [[], ['--check-config']]) {
      const run = await runYggd(home, args);
      await assertRefused(
        home,
        run,
        /error: .*config\.toml:2: unknown setting `brokr`; did you mean “broker”\?$/,
        /error: .*config\.toml:3: `mqtt-keepalive` must be .*"30s".*, not true$/,
        /error: .*config\.toml:5: `log-level` must be one of error, warn, info, debug, trace, not "loud"$/,
      );
      assert.ok(run.told.every((line) => line.includes(file)));
    }
  });

  test('a file that is named must exist, one that is not named need not', async () => {
    await using home = await Home.make();
    await assertRefused(
      home,
      await runYggd(home, [BROKER, `--config=${home.path('gone.toml')}`]),
      /gone\.toml: .*there is no such file$/,
    );
    const run = await runYggd(home, [BROKER, '--check-config']);
    assert.deepEqual([run.code, run.told], [0, []]);
    assert.match(run.stdout, /no file was found.*no problems found/);
  });

  test('what is not TOML is told with line and column', async () => {
    await using home = await Home.make();
    await writeFile(home.path('config/config.toml'), 'log-level = "info"\nbroker = ["mqtt://a"\nusername = "x"\n');
    await assertRefused(home, await runYggd(home, []), /config\.toml:\d+:\d+: not TOML: /);
  });

  test('flags and variables are told by their names', async () => {
    await using home = await Home.make();
    const run = await runYggd(home, ['word', BROKER, '--log-levl=info'], { env: { YGGD_SPOOL_LIMIT: 'much' } });
    await assertRefused(
      home,
      run,
      /error: word: unexpected argument/,
      /error: --log-levl: unknown flag; did you mean “--log-level”\?/,
      /error: \$YGGD_SPOOL_LIMIT: `spool-limit` must be /,
    );
  });

  test('without a broker it says how to set one', async () => {
    await using home = await Home.make();
    await assertRefused(
      home,
      await runYggd(home, []),
      /no broker is set: set `broker = .*--broker; .*--embedded-broker/,
    );
  });

  test('an address of a broker that cannot be one is told without showing it, since a password may be in it', async () => {
    await using home = await Home.make();
    const run = await runYggd(home, ['--broker=http://ann:hunter2@127.0.0.1']);
    await assertRefused(home, run, /--broker: `broker` must be .*mqtts:\/\//);
    assert.doesNotMatch(run.told.join(''), /hunter2/);
  });

  test('a certificate and a key that do not belong together, or cannot be read, are told by file', async () => {
    await using home = await Home.make();
    const dir = home.path('config');
    const [a, b] = [await makeCertificate(dir, 'a', 'agent'), await makeCertificate(dir, 'b', 'other')];
    const tls = '--broker=mqtts://127.0.0.1:1';
    const withPair = (cert: string, key: string): Promise<Run> =>
      runYggd(home, [tls, `--cert-file=${cert}`, `--key-file=${key}`]);
    await assertRefused(home, await withPair(a.cert, b.key), /b\.key: `key-file`: this key does not belong .*a\.pem/);
    await assertRefused(home, await withPair(a.cert, `${a.key}.gone`), /`key-file`: .*there is no such file/);
    await assertRefused(home, await withPair(a.key, a.key), /a\.key: `cert-file`: it is not a certificate in PEM form/);
    await assertRefused(
      home,
      await withPair(a.cert, a.cert),
      /a\.pem: `key-file`: it is not a private key in PEM form/,
    );
    await assertRefused(
      home,
      await withPair(`${dir}/c`, `${dir}/d`),
      /\/c: `cert-file`: .*no such file/,
      /\/d: `key-file`: .*no such file/,
    );
    await assertRefused(
      home,
      await runYggd(home, [tls, `--cert-file=${a.cert}`]),
      /`key-file` is not: set both or none/,
    );
    const checked = await runYggd(home, [tls, `--cert-file=${a.cert}`, `--key-file=${a.key}`, '--check-config']);
    assert.deepEqual([checked.code, checked.told], [0, []]);
  });

  test('a certificate file that the user may not read is told as such', { skip: notRoot }, async () => {
    await using home = await Home.make();
    const pair = await makeCertificate(home.path('config'), 'a', 'agent');
    await chmod(home.path(), 0o755);
    await chmod(pair.cert, 0o600);
    const run = await runYggd(home, [BROKER, `--cert-file=${pair.cert}`, `--key-file=${pair.key}`], { uid: NOBODY });
    await assertRefused(home, run, /`cert-file`: .*may not read it/, /`key-file`: .*may not read it/);
  });

  test('--help lists every setting in its group, --version one line', async () => {
    await using home = await Home.make();
    const help = await runYggd(home, ['--help'], { isBare: true });
    assert.deepEqual([help.code, help.told], [0, []]);
    const lines = help.stdout.split('\n');
    for (const name of [...SETTING_NAMES, 'config', 'check-config', 'help', 'version']) {
      const own = lines.filter((line) => new RegExp(`^ +(-\\w, )?--${name}( |$)`).test(line));
      assert.equal(own.length, 1, `--${name}`);
    }
    const groups = lines.filter((line) => /^[A-Z].*:$/.test(line));
    assert.equal(new Set(groups).size, groups.length);
    assert.ok(groups.includes('Broker:') && groups.includes('Places:'));
    const version = await runYggd(home, ['--version'], { isBare: true });
    assert.match(version.stdout, /^yggd \d+\.\d+\.\d+\n$/);
    assert.equal(version.code, 0);
  });
});

suite('places that cannot be used', { timeout: 120_000, concurrency: 2 }, () => {
  /** Told in one line beside the log's, with this exit code. */
  const assertFails = (run: Run, code: number, complaint: RegExp): void => {
    const told = run.told.filter((line) => !line.startsWith('{'));
    assert.equal(told.length, 1, told.join('\n'));
    assert.match(told[0] ?? '', complaint);
    assert.equal(run.code, code);
  };

  test('a state directory that is a file', async () => {
    await using home = await Home.make();
    await writeFile(home.path('state'), '');
    for (const more of [[], ['--client-id=known'], ['--embedded-broker=0']])
      assertFails(await runYggd(home, [BROKER, ...more]), 73, /^yggd: cannot .*\/state.*state-dir|\/state.*state-dir/);
  });

  test('a state directory that cannot be written', { skip: notRoot }, async () => {
    await using home = await Home.make();
    await chmod(home.path(), 0o755);
    for (const more of [[], ['--client-id=known'], ['--embedded-broker=0']])
      assertFails(await runYggd(home, [BROKER, ...more], { uid: NOBODY }), 73, /\/state.*EACCES.*state-dir/);
    await mkdir(home.path('state'), { mode: 0o755 });
    assertFails(await runYggd(home, [BROKER, '--client-id=known'], { uid: NOBODY }), 73, /\/state.*state-dir/);
  });

  test('a state directory that others can change is refused before anything in it is touched', async () => {
    await using home = await Home.make();
    await mkdir(home.path('state'));
    await chmod(home.path('state'), 0o777);
    const run = await runYggd(home, [BROKER, '--client-id=known']);
    assertFails(run, 73, /\/state can be written by every user; take that away: chmod o-w/);
    await assert.rejects(access(home.path('state/journal')), { code: 'ENOENT' });
  });

  test('a state directory that another agent uses', async () => {
    await using home = await Home.make();
    await using first = await Yggd.start({ home, args: [BROKER] });
    assertFails(
      await runYggd(home, [BROKER]),
      73,
      /another agent uses .*\/state\. Stop it, or .* state-dir of its own/,
    );
    assert.equal(first.child.exitCode, null);
  });

  test('a runtime directory whose sockets would have more than 107 bytes', async () => {
    await using home = await Home.make();
    const run = await runYggd(home, [BROKER, `--runtime-dir=${home.path('r'.repeat(100))}`]);
    assertFails(run, 78, /has \d{3} bytes and a socket may have 107; set a shorter "runtime-dir"/);
  });

  test('a runtime directory that is a file, or that others can change', async () => {
    await using home = await Home.make();
    await writeFile(home.path('run'), '');
    assertFails(await runYggd(home, [BROKER]), 73, /\/run.*check the owner and mode of "runtime-dir"/);
    await mkdir(home.path('open'));
    await chmod(home.path('open'), 0o777);
    const run = await runYggd(home, [BROKER, `--runtime-dir=${home.path('open')}`]);
    assertFails(run, 73, /\/open can be written by every user; .*runtime-dir/);
  });

  test('a port of the embedded broker that is taken', async () => {
    await using home = await Home.make();
    await using other = await Home.make();
    await using first = await Yggd.start({ home, args: ['--embedded-broker=0'] });
    const { port } = await first.line('broker.listening');
    const run = await runYggd(other, [`--embedded-broker=${String(port)}`]);
    assertFails(run, 69, /another program listens there; choose another port with --embedded-broker PORT/);
  });
});

suite('bad workers', { timeout: 120_000, concurrency: 2 }, () => {
  test('an executable that is not safe to run is refused by name with what to do; the others run', async () => {
    await using home = await Home.make();
    await home.addWorker('echo-worker');
    for (const name of ['plain-worker', 'open-worker', 'setuid-worker']) await home.addProgram(name, '#!/bin/sh\n');
    await chmod(home.path('workers/plain-worker'), 0o644);
    await chmod(home.path('workers/open-worker'), 0o757);
    await chmod(home.path('workers/setuid-worker'), 0o4755);
    await writeFile(home.path('draft/outside'), '#!/bin/sh\n', { mode: 0o755 });
    await symlink(home.path('draft/outside'), home.path('workers/link-worker'));
    await home.addProgram('bad name worker', '#!/bin/sh\n');
    await using yggd = await Yggd.start({ home, args: [BROKER] });
    const refused = async (worker: string): Promise<string> =>
      String((await yggd.line('worker.refused', (entry) => entry['worker'] === worker)).text);
    assert.match(await refused('plain-worker'), /is not executable; make it so: chmod \+x/);
    assert.match(await refused('open-worker'), /can be written by every user; take that away: chmod o-w/);
    assert.match(await refused('setuid-worker'), /setuid or setgid bit; take it away: chmod ug-s/);
    assert.match(await refused('link-worker'), /leads out of the worker directory, to .*draft\/outside; put a copy/);
    assert.match(await refused('bad name worker'), /is no name for a worker: .*; rename it/);
    await yggd.line('dispatcher.registered', (entry) => entry['worker'] === 'echo-worker');
    assert.equal(yggd.log.filter(({ event }) => event === 'worker.started').length, 1);
    // Each once, however often the directory is looked at.
    assert.equal(yggd.log.filter(({ event }) => event === 'worker.refused').length, 5);
    await chmod(home.path('workers/plain-worker'), 0o755);
    await yggd.line('worker.started', (entry) => entry['worker'] === 'plain-worker');
  });

  test('nothing of a worker directory that everybody can write is run', async () => {
    await using home = await Home.make();
    await home.addWorker('echo-worker');
    await chmod(home.path('workers'), 0o777);
    await using yggd = await Yggd.start({ home, args: [BROKER] });
    const { text } = await yggd.line('worker_dir.untrusted');
    assert.match(String(text), /workers can be written by every user; take that away: chmod o-w .*no worker/);
    await chmod(home.path('workers'), 0o755);
    await yggd.line('worker.started', (entry) => entry['worker'] === 'echo-worker');
    const events = yggd.log.map(({ event }) => event);
    assert.ok(events.indexOf('worker_dir.found') < events.indexOf('worker.started'));
  });

  test('a worker whose file is broken waits and starts when it is mended; the others run', async () => {
    await using home = await Home.make();
    for (const name of ['echo-worker', 'broken-worker', 'wrong-worker']) await home.addWorker('echo-worker', name);
    await home.writeWorkerFile('broken-worker', 'handlers = ["broken"\nargs = []\n');
    await home.writeWorkerFile(
      'wrong-worker',
      '# mine\nhandlrs = ["wrong"]\nconcurrency = "many"\n[env]\nLD_PRELOAD = "/x.so"\n',
    );
    await using yggd = await Yggd.start({ home, args: [BROKER] });
    const invalid = async (worker: string): Promise<string> =>
      String((await yggd.line('worker.config_invalid', (entry) => entry['worker'] === worker)).text);
    assert.match(
      await invalid('broken-worker'),
      /broken-worker waits until its file is mended: .*\.toml:\d+:\d+: not TOML/,
    );
    const wrong = await invalid('wrong-worker');
    assert.match(wrong, /\.toml:2: unknown setting `handlrs`; did you mean “handlers”\?/);
    assert.match(wrong, /\.toml:3: `concurrency` must be/);
    assert.match(wrong, /\.toml:5: `env` may not set LD_PRELOAD/);
    await yggd.line('worker.started', (entry) => entry['worker'] === 'echo-worker');
    assert.equal(yggd.log.filter(({ event }) => event === 'worker.started').length, 1);

    // By itself, and at once with SIGHUP.
    await home.writeWorkerFile('broken-worker', '');
    await yggd.line('worker.started', (entry) => entry['worker'] === 'broken-worker');
    await home.writeWorkerFile('wrong-worker', '');
    yggd.child.kill('SIGHUP');
    await yggd.line('worker.started', (entry) => entry['worker'] === 'wrong-worker');
  });

  test('a handler that another worker has, or that its file does not name, is refused with the reason', async () => {
    await using home = await Home.make();
    await home.addWorker('echo-worker');
    await using yggd = await Yggd.start({ home, args: [BROKER] });
    await yggd.line('dispatcher.registered');
    await home.addWorker('echo-worker', 'second-worker');
    const taken = await yggd.line('dispatcher.registration_refused');
    assert.match(String(taken.text), /second-worker may not register: .*echo.*echo-worker/);
  });

  test('a handler that the worker’s own file does not name is refused with the reason', async () => {
    await using home = await Home.make();
    await home.writeWorkerFile('bound-worker', 'handlers = ["other"]\n');
    await home.addWorker('echo-worker', 'bound-worker');
    await using yggd = await Yggd.start({ home, args: [BROKER] });
    const { text } = await yggd.line('dispatcher.registration_refused');
    assert.match(String(text), /bound-worker may not register: .*handlers/);
  });
});
