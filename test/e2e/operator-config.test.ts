/** Settings, facts and versions as the operator sees them: of a real agent, and without one. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { makeBench } from '../support/bench.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { tempDir } from '../support/temp.js';
import { ENVIRONMENT, ygg, yggInto, yggJson, yggOnTerminal } from '../support/ygg.js';
import type { Home } from '../support/yggd.js';
import { ROOT } from '../support/yggd.js';

const skip = mosquittoMissing;

interface SettingView {
  readonly name: string;
  readonly value: unknown;
  readonly origin: string;
  readonly source: string | null;
  readonly line: number | null;
  readonly needs_restart: boolean;
}

async function settingsOf(home: Home): Promise<ReadonlyMap<string, SettingView>> {
  const { settings } = (await yggJson(home, ['config'])) as { readonly settings: readonly SettingView[] };
  return new Map(settings.map((setting) => [setting.name, setting]));
}

test(
  'the settings of the agent are shown with their places and without secrets; a reload tells what it did',
  { skip },
  async () => {
    await using bench = await makeBench();
    const { home } = bench;
    const file = home.path('config/config.toml');
    await writeFile(
      file,
      'log-level = "warn"\ndrain-timeout = "5s"\nmax-attempts = 3\nproxy = "http://ann:hunter2@127.0.0.1:1"\n',
    );
    await home.addWorker('echo-worker');
    const flags = [
      `--broker=${bench.broker.url.replace('://', '://ann:hunter2@')}`,
      '--log-level=info',
      '--no-proxy=127.0.0.1',
    ];
    const yggd = await bench.startWith(['echo'], flags, { env: { YGGD_FETCH_CONCURRENCY: '5' } });
    const settings = await settingsOf(home);
    const shown = (name: string): unknown[] => {
      const { value, origin, source, line } = settings.get(name)!;
      return [value, origin, source, line];
    };
    assert.deepEqual(shown('log-level'), ['info', 'flag', '--log-level', null]);
    assert.deepEqual(shown('fetch-concurrency'), [5, 'environment', '$YGGD_FETCH_CONCURRENCY', null]);
    assert.deepEqual(shown('max-attempts'), [3, 'file', file, 3]);
    assert.deepEqual(shown('topic-prefix'), ['yggdrasil', 'default', null, null]);
    assert.deepEqual(shown('cert-file'), [null, 'default', null, null]);
    assert.deepEqual(shown('proxy'), ['http://127.0.0.1:1', 'file', file, 4]);
    assert.deepEqual(shown('broker'), [[bench.broker.url], 'flag', '--broker', null]);
    const piped = await ygg(home, ['config', 'show', '--given']);
    assert.match(piped.stdout, new RegExp(`^max-attempts\t3\t${file}:3\t$`, 'm'));
    assert.ok(!piped.stdout.includes('topic-prefix'));
    const terminal = await yggOnTerminal(home, ['config']);
    assert.match(terminal.stdout, /^SETTING +VALUE +FROM\r\nbroker +\["mqtt:/);
    for (const { stdout } of [piped, terminal]) assert.ok(!stdout.includes('hunter2'));

    await writeFile(
      file,
      '# others now\ndrain-timeout = "6s"\nmax-attempts = 4\nproxy = "http://ann:hunter2@127.0.0.1:1"\n',
    );
    await home.writeWorkerFile('echo-worker', 'start-timeout = "20s"\n');
    const again = yggd.next('dispatcher.registered');
    const reloaded = await yggJson(home, ['reload']);
    assert.deepEqual(reloaded, {
      ...{
        reloaded: true,
        problems: [],
        changed: ['drain-timeout'],
        needs_restart: ['max-attempts'],
        workers: ['echo-worker'],
      },
      ...{ warnings: (reloaded as { warnings: string[] }).warnings, worker_problems: [] },
      ...{ credentials: 'same', credentials_problem: null },
    });
    await again;
    const now = await settingsOf(home);
    assert.deepEqual([now.get('drain-timeout')?.value, now.get('drain-timeout')?.line], ['6s', 2]);
    assert.deepEqual([now.get('max-attempts')?.value, now.get('max-attempts')?.needs_restart], [3, true]);
    assert.match((await ygg(home, ['config'])).stdout, /^max-attempts\t3\t.*:3\thas changed: needs a restart$/m);
    const text = await ygg(home, ['reload']);
    assert.deepEqual(
      [text.code, text.stdout],
      [0, 'reloaded\nin force now\tno other settings\nneeds a restart\tmax-attempts\n'],
    );

    await writeFile(file, 'max-attemps = 4\nlog-level = "loud"\n');
    const wrong = await ygg(home, ['reload']);
    assert.deepEqual([wrong.code, wrong.stdout], [78, '']);
    assert.match(
      wrong.stderr,
      /^ygg: nothing was reloaded, the agent goes on as it was:\n.*config\.toml:1: unknown setting `max-attemps`; did you mean “max-attempts”\?\n/m,
    );
    assert.equal((await settingsOf(home)).get('max-attempts')?.value, 3);
    const json = await ygg(home, ['reload', '--json']);
    assert.equal(json.code, 78);
    assert.equal((JSON.parse(json.stdout) as { reloaded: boolean }).reloaded, false);

    await writeFile(file, '');
    await home.writeWorkerFile('echo-worker', 'start-timeout = "soon"\n');
    const half = await ygg(home, ['reload']);
    assert.equal(half.code, 0);
    assert.match(
      half.stderr,
      /^ygg: worker echo-worker goes on with the settings it has, since its file is wrong: .*start-timeout/m,
    );
  },
);

test('a configuration is checked as yggd checks it: the same text, the same exit code', async () => {
  await using dir = await tempDir();
  const file = join(dir.path, 'it.toml');
  for (const [toml, code] of [
    ['broker = ["mqtt://b"]\n', 0],
    ['broker = ["mqtt://b"]\nhttp-retries = 3\n', 0],
    ['brokr = ["mqtt://b"]\nlog-level = 7\ncert-file = "/nowhere"\n', 78],
    ['broker = ["mqtt://b"]\ncert-file = "/nowhere"\nkey-file = "/nowhere"\n', 78],
    ['broker = [\n', 78],
    ['\u001b[2J = 1\n', 78],
  ] as const) {
    await writeFile(file, toml);
    const daemon = spawnSync(process.execPath, [join(ROOT, 'dist/yggd.js'), '--check-config', `--config=${file}`], {
      env: ENVIRONMENT,
      encoding: 'utf8',
    });
    const checked = await ygg(undefined, ['config', 'check', file]);
    assert.deepEqual([checked.code, checked.stdout, checked.stderr], [code, daemon.stdout, daemon.stderr], toml);
    assert.equal(daemon.status, code);
    const json = await ygg(undefined, ['config', 'check', file, '--json']);
    const { ok, problems } = JSON.parse(json.stdout) as { ok: boolean; problems: { text: string }[] };
    assert.deepEqual([json.code, ok, problems.length > 0], [code, code === 0, code !== 0]);
  }
  for (const name of ['/nowhere', dir.path, '--help', '']) {
    assert.equal((await ygg(undefined, ['config', 'check', '--', name])).code, 78, name);
  }
});

test('settings are explained, with the value of the agent where one runs', { skip }, async () => {
  await using bench = await makeBench();
  const { home } = bench;
  await bench.start(['--drain-timeout=7s']);
  const explained = await ygg(home, ['config', 'explain', 'YGGD_DRAIN_TIMEOUT']);
  assert.match(
    explained.stdout,
    /^setting\tdrain-timeout\nwhat\t.*\ngroup\t.*\nvalue\tseconds, or .*\ndefault\t"20s"\nflag\t--drain-timeout\nvariable\tYGGD_DRAIN_TIMEOUT\nreload\ttakes effect with `ygg reload`\nnow\t"7s" \(--drain-timeout\)\n$/,
  );
  assert.match(
    (await ygg(home, ['config', 'explain', 'server'])).stdout,
    /the original’s name of broker\n.*\nnow\t\["mqtt:/,
  );
  const view = (await yggJson(home, ['config', 'explain', 'drain-timeout'])) as { current: SettingView };
  assert.equal(view.current.value, '7s');
  assert.match((await yggOnTerminal(home, ['config', 'explain', 'state-dir'])).stdout, /^setting {3}state-dir\r\n/);

  await using dir = await tempDir();
  const alone = await ygg(undefined, ['config', 'explain', 'broker', `--runtime-dir=${dir.path}`]);
  assert.equal(alone.code, 0);
  assert.match(alone.stdout, /^flag\t--broker, may be repeated$/m);
  assert.match(alone.stdout, /^now\tno agent listens at/m);
  const unknown = await ygg(home, ['config', 'explain', 'log-levle']);
  assert.notEqual(unknown.code, 0);
  assert.match(unknown.stderr, /there is no such setting\. Did you mean log-level\?/);
});

test('facts: what the agent says of the machine, and without it what it would', { skip }, async () => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  await writeFile(home.path('config/tags.toml'), 'site = "north \\u001b[2J"\n');
  await home.addWorker('echo-worker');
  await bench.startWith(['echo']);
  const { content } = await operator.status(({ tags, dispatchers }) => tags !== undefined && 'echo' in dispatchers);
  const told = content as { canonical_facts: object; dispatchers: Record<string, object>; tags: object };
  const facts = (await yggJson(home, ['facts'])) as {
    readonly source: string;
    readonly canonical_facts: object;
    readonly tags: object;
    readonly dispatchers: Record<string, { worker: string; features: object }>;
  };
  assert.deepEqual([facts.source, facts.canonical_facts, facts.tags], ['the agent', told.canonical_facts, told.tags]);
  assert.deepEqual(facts.dispatchers['echo'], { worker: 'echo-worker', features: told.dispatchers['echo'] });
  assert.match(
    (await ygg(home, ['facts'])).stdout,
    /^tag site\tnorth \\u001b\[2J\ndirective echo\techo-worker version=/m,
  );
  assert.match((await yggOnTerminal(home, ['facts'])).stdout, /^FACT +VALUE\r\ninsights_id +/);
  // Compact, in the order of the protocol, and without a newline: as the original prints it.
  const canonical = await ygg(home, ['canonical-facts']);
  assert.equal(canonical.stdout, JSON.stringify(told.canonical_facts));
  assert.match((await yggOnTerminal(home, ['canonical-facts'])).stdout, /^\{"insights_id":.*\}\r\n$/);

  await using dir = await tempDir();
  const nowhere = `--runtime-dir=${dir.path}`;
  const alone = await ygg(undefined, ['canonical-facts', nowhere]);
  assert.deepEqual([alone.code, alone.stdout], [0, canonical.stdout]);
  const config = join(dir.path, 'config.toml');
  await writeFile(config, `broker = ["mqtt://b"]\nconfig-dir = "${home.path('config')}"\n`);
  const table = await ygg(undefined, ['facts', nowhere, `--config=${config}`, '--format', 'json']);
  assert.equal(table.code, 0);
  assert.match(table.stderr, /^ygg: no agent listens at/);
  const here = JSON.parse(table.stdout) as { source: string; tags: object; dispatchers: unknown };
  assert.deepEqual([here.source, here.tags, here.dispatchers], ['this command', told.tags, null]);
  assert.match((await ygg(undefined, ['facts', nowhere, '--format', 'xml'])).stderr, /Allowed choices are table, json/);
});

test('versions, with the agent and without', { skip }, async () => {
  await using bench = await makeBench();
  const { home } = bench;
  const yggd = await bench.start();
  const { version } = (await yggJson(home, ['status'])) as { readonly version: string };
  const view = (await yggJson(home, ['version'])) as Record<string, unknown>;
  assert.deepEqual([view['ygg'], view['agent'], view['agent_problem']], [version, version, null]);
  assert.deepEqual(
    [view['node'], view['platform'], view['arch']],
    [process.versions.node, process.platform, process.arch],
  );
  assert.match(
    (await yggOnTerminal(home, ['version'])).stdout,
    new RegExp(`^ygg +${version}\r\nagent +${version}, pid ${yggd.pid}\r\nNode `),
  );
  await yggd.stop();
  const alone = await ygg(home, ['version']);
  assert.equal(alone.code, 0);
  assert.match(alone.stdout, /^agent\tno agent listens at .*: start it/m);
  assert.equal(((await yggJson(home, ['version'])) as { agent: unknown }).agent, null);
});

test('what has no agent to ask says so, with exit code 3; a closed pipe is no failure', { skip }, async () => {
  await using dir = await tempDir();
  const words = [
    ['logs'],
    ['reload'],
    ['config'],
    ['workers', 'logs', 'x'],
    ['workers', 'stop', 'x'],
    ['workers', 'release', 'x'],
  ];
  for (const each of words) {
    const { code, stdout, stderr } = await ygg(undefined, [...each, `--runtime-dir=${dir.path}`]);
    assert.deepEqual([code, stdout], [3, ''], each.join(' '));
    assert.match(stderr, /^ygg: no agent listens at .*: start it .*\n$/);
  }
  await using bench = await makeBench();
  await bench.start();
  const first = await yggInto('head -n 1', bench.home, ['config']);
  assert.deepEqual([first.code, first.stderr], [0, '']);
});
