import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadWorkerSettings, type WorkerSettings } from '../../../src/config/worker-settings.js';
import { parseWorkerName } from '../../../src/message/ids.js';

const FILE = '/etc/yggdrasil/workers/echo-worker.toml';
const NAME = parseWorkerName('echo-worker') ?? assert.fail();

function read(text?: string, nodeVersion = '22.1.0') {
  return loadWorkerSettings({
    configDir: '/etc/yggdrasil',
    name: NAME,
    nodeVersion,
    listNames: () => Promise.resolve([]),
    readText: (path) => {
      assert.equal(path, FILE);
      return text === undefined
        ? Promise.reject(Object.assign(new Error('none'), { code: 'ENOENT' }))
        : Promise.resolve(text);
    },
  });
}

async function problems(text: string, nodeVersion?: string): Promise<readonly string[]> {
  const result = await read(text, nodeVersion);
  return result.kind === 'invalid' ? result.problems : [];
}

const DEFAULTS: WorkerSettings = {
  handlers: undefined,
  env: {},
  args: [],
  socket: 'path',
  startTimeout: 30_000,
  stopTimeout: 10_000,
  restart: 'always',
};

test('a worker without a file has the defaults', async () => {
  assert.deepEqual(await read(), { kind: 'ok', settings: DEFAULTS, warnings: [] });
  assert.deepEqual(await read(''), { kind: 'ok', settings: DEFAULTS, warnings: [] });
});

test('every key of the file is taken', async () => {
  const result = await read(`handlers = ["echo", "echo_2"]
args = ["-v", "a b"]
user = "ygg"
group = "ygg"
concurrency = 4
socket = "abstract"
start-timeout = "1m"
stop-timeout = 5
deadline = "2m"
restart = "never"
max-message-size = "8MiB"
memory-max = "100MiB"
cpu-max = 150
[env]
COLOR = "blue"
`);
  assert.deepEqual(result, {
    kind: 'ok',
    warnings: [],
    settings: {
      handlers: ['echo', 'echo_2'],
      env: { COLOR: 'blue' },
      args: ['-v', 'a b'],
      user: 'ygg',
      group: 'ygg',
      concurrency: 4,
      socket: 'abstract',
      startTimeout: 60_000,
      stopTimeout: 5000,
      deadline: 120_000,
      restart: 'never',
      maxMessageSize: 8 * 2 ** 20,
      memoryMax: 100 * 2 ** 20,
      cpuMax: 150,
    },
  });
});

test('a file of the original is taken, with warnings for what has no effect', async () => {
  const result = await read(
    'exec = "/usr/libexec/yggdrasil/echo"\nprotocol = "dbus"\nenv = ["A=b=c", "EMPTY="]\n[features]\nversion = "1"\n',
  );
  assert.ok(result.kind === 'ok');
  assert.deepEqual(result.settings.env, { A: 'b=c', EMPTY: '' });
  assert.deepEqual(
    result.warnings.map((line) => line.split(' of the original')[0]),
    [`${FILE}:1: \`exec\``, `${FILE}:2: \`protocol\``, `${FILE}:4: \`features\``],
  );
});

/** With these files in `workers/`, the settings of `name`. */
function among(files: Readonly<Record<string, string>>, name: string) {
  return loadWorkerSettings({
    configDir: '/etc/yggdrasil',
    name: parseWorkerName(name) ?? assert.fail(),
    listNames: () => Promise.resolve(Object.keys(files)),
    readText: (path) => {
      const text = files[path.slice('/etc/yggdrasil/workers/'.length)];
      return text === undefined
        ? Promise.reject(Object.assign(new Error('none'), { code: 'ENOENT' }))
        : Promise.resolve(text);
    },
  });
}

test('a file of the original, named by directive, is found by the executable in its exec', async () => {
  const files = {
    'broken.toml': 'not TOML',
    'notes.txt': 'exec = "/usr/libexec/yggdrasil/foreman_ygg_worker"',
    'foreman.toml':
      'exec = "/usr/libexec/yggdrasil/foreman_ygg_worker --fast  -v"\nprotocol = "grpc"\nenv = ["FOREMAN_YGG_WORKER_WORKDIR=/var/tmp"]\n',
  };
  assert.deepEqual(await among(files, 'foreman_ygg_worker'), {
    kind: 'ok',
    settings: { ...DEFAULTS, args: ['--fast', '-v'], env: { FOREMAN_YGG_WORKER_WORKDIR: '/var/tmp' } },
    warnings: [],
  });
  assert.deepEqual(await among(files, 'echo-worker'), { kind: 'ok', settings: DEFAULTS, warnings: [] });
  const own = { ...files, 'foreman_ygg_worker.toml': 'args = ["-q"]' };
  const result = await among(own, 'foreman_ygg_worker');
  assert.ok(result.kind === 'ok');
  assert.deepEqual([result.settings.args, result.settings.env], [['-q'], {}], 'a file of our own name comes first');
});

test('a wrong file of the original keeps its worker waiting, with the line', async () => {
  const files = { 'foreman.toml': 'exec = "/x/foreman_ygg_worker"\nenv = ["PATH=/tmp"]\n' };
  const result = await among(files, 'foreman_ygg_worker');
  assert.ok(result.kind === 'invalid');
  assert.match(result.problems.join(), /workers\/foreman\.toml:2: `env` may not set PATH/);
});

test('all problems of a file are told with their lines', async () => {
  assert.deepEqual(
    await problems(
      'handler = "x"\nconcurrency = 0\nrestart = "maybe"\nhandlers = ["a b"]\n[env]\nGOOD = "1"\nLD_PRELOAD = "x"\n',
    ),
    [
      `${FILE}:1: unknown setting \`handler\`; did you mean “handlers”?`,
      `${FILE}:4: \`handlers\` must be a list, each entry a name: a letter or digit, then at most 63 of A-Z a-z 0-9 . _ -, not the list ["a b"]`,
      `${FILE}:7: \`env\` may not set LD_PRELOAD: PATH, NODE_OPTIONS, YGG_… and LD_… are the agent’s; remove it`,
      `${FILE}:3: \`restart\` must be one of always, never, not "maybe"`,
      `${FILE}:2: \`concurrency\` must be a whole number from 1 to 10000, not 0`,
    ],
  );
});

test('env may not take over what the agent sets, nor hold what is no variable, and values are not told', async () => {
  for (const name of ['PATH', 'YGG_SOCKET_ADDR', 'LD_LIBRARY_PATH', 'NODE_OPTIONS']) {
    assert.match((await problems(`env = ["${name}=hunter2"]`)).join(), new RegExp(`may not set ${name}`));
  }
  for (const text of [
    'env = ["NOTHING"]',
    'env = [5]',
    '[env]\nA = 5',
    '[env]\n"A B" = "hunter2"',
    'env = "A=hunter2"',
  ]) {
    const found = await problems(text);
    assert.equal(found.length, 1, text);
    assert.doesNotMatch(found[0] ?? '', /hunter2/);
  }
  assert.deepEqual(await problems('[env]\nMY_PATH = "x"\nPATHS = "y"\n'), []);
});

test('an abstract socket needs a Node that can open it', async () => {
  assert.match((await problems('socket = "abstract"', '20.19.0')).join(), /:1: `socket = "abstract"` needs Node 22/);
});

test('a file that is not TOML or cannot be read is told', async () => {
  assert.deepEqual(await problems('handlers = ['), [`${FILE}:1:12: not TOML: unfinished array`]);
  const result = await loadWorkerSettings({
    configDir: '/etc/yggdrasil',
    name: NAME,
    readText: () => Promise.reject(Object.assign(new Error('x'), { code: 'EACCES' })),
  });
  assert.deepEqual(result, { kind: 'invalid', problems: [`${FILE}: cannot read the file: this user may not read it`] });
});
