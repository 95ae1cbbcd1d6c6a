import assert from 'node:assert/strict';
import { test } from 'node:test';
import { renderExample } from '../../../src/config/example.js';
import { diffSettings } from '../../../src/config/diff.js';
import { SETTING_NAMES } from '../../../src/config/settings.js';
import { load, loaded, problemsOf } from '../../support/settings.js';

const CONFIG = '/etc/yggdrasil/config.toml';

test('flags win over the environment, the environment over the file, the file over the defaults', async () => {
  const files = { [CONFIG]: 'log-level = "error"\nusername = "file"\ntopic-prefix = "file"\n' };
  const env = { YGGD_USERNAME: 'env', YGGD_TOPIC_PREFIX: 'env', YGGD_BROKER: 'mqtt://env' };
  const { settings } = await loaded({ files, env, argv: ['--topic-prefix', 'flag'] });
  assert.equal(settings.topicPrefix, 'flag');
  assert.equal(settings.username, 'env');
  assert.equal(settings.logLevel, 'error');
  assert.equal(settings.mqttKeepalive, 60_000);
  assert.deepEqual(settings.broker, ['mqtt://b']);
});

test('root and a system service live in the machine’s directories, anybody else in their own', async () => {
  const root = (await loaded()).settings;
  assert.deepEqual(
    [root.configDir, root.workerDir, root.stateDir, root.runtimeDir],
    ['/etc/yggdrasil', '/usr/local/libexec/yggdrasil', '/var/lib/yggdrasil', '/run/yggdrasil'],
  );
  const user = (await loaded({ uid: 1000, env: { XDG_RUNTIME_DIR: '/run/user/1000' } })).settings;
  assert.deepEqual(
    [user.configDir, user.workerDir, user.stateDir, user.runtimeDir],
    [
      '/home/ann/.config/yggdrasil',
      '/home/ann/.local/libexec/yggdrasil',
      '/home/ann/.local/state/yggdrasil',
      '/run/user/1000/yggdrasil',
    ],
  );
  const lonely = (await loaded({ uid: 1000, env: { XDG_STATE_HOME: '/s', XDG_CONFIG_HOME: '/c' } })).settings;
  assert.deepEqual([lonely.configDir, lonely.runtimeDir], ['/c/yggdrasil', '/s/yggdrasil/run']);
  const service = { STATE_DIRECTORY: '/var/lib/yggdrasil:/x', RUNTIME_DIRECTORY: '/run/ygg' };
  const unit = (await loaded({ uid: 1000, env: service })).settings;
  assert.deepEqual(
    [unit.configDir, unit.stateDir, unit.runtimeDir],
    ['/etc/yggdrasil', '/var/lib/yggdrasil', '/run/ygg'],
  );
});

test('all problems are told at once, each with its place', async () => {
  const files = { [CONFIG]: 'brokr = ["mqtt://b"]\n\nlog-level = 5\n[limits]\nx = 1\n' };
  const env = { YGGD_MAX_ATTEMPTS: 'many' };
  assert.deepEqual(await problemsOf({ files, env, argv: ['word', '--bogus', '--log-formt=json'] }), [
    'word: unexpected argument: settings are given as flags',
    '--bogus: unknown flag; --help lists all',
    '--log-formt: unknown flag; did you mean “--log-format”?',
    `${CONFIG}:1: unknown setting \`brokr\`; did you mean “broker”?`,
    `${CONFIG}:4: unknown table \`limits\``,
    '$YGGD_MAX_ATTEMPTS: `max-attempts` must be a whole number from 1 to 1000000, not "many"',
    `${CONFIG}:3: \`log-level\` must be one of error, warn, info, debug, trace, not 5`,
  ]);
});

test('a file that is not TOML is told with line and column', async () => {
  assert.deepEqual(await problemsOf({ files: { [CONFIG]: 'broker = ["mqtt://b"]\nlog-level = \n' } }), [
    `${CONFIG}:2:13: not TOML: invalid value`,
  ]);
});

test('a file that is named must exist, the usual one need not', async () => {
  assert.deepEqual(await problemsOf({ argv: ['--config', 'my.toml', '--broker', 'mqtt://b'] }), [
    '/cwd/my.toml: cannot read the file: there is no such file',
  ]);
  const result = await load({ argv: ['--broker', 'mqtt://b'] });
  assert.equal(result.kind === 'ok' && result.file, undefined);
});

test('a file that may not be read is told as that', async () => {
  const result = await load({ argv: ['--config', '/secret.toml'], files: {} });
  assert.equal(result.kind === 'invalid' && result.problems[0]?.code, 'config.unreadable');
});

test('a user without a home directory is told what to do, and needs none for the help', async () => {
  const homedir = (): string => {
    throw new Error('uv_os_homedir returned ENOENT (no such file or directory)');
  };
  assert.deepEqual(await problemsOf({ uid: 54_321, homedir }), [
    'user 54321 has no home directory to look for settings in: set HOME, or run as a user that the system knows',
  ]);
  assert.equal((await load({ homedir, argv: ['--version'] })).kind, 'version');
});

test('no broker is an error that says what to do, unless one is embedded', async () => {
  const result = await load();
  assert.ok(result.kind === 'invalid');
  assert.equal(result.problems[0]?.code, 'config.no_broker');
  assert.match(result.problems[0].text, /--broker.*--embedded-broker/);
  const embedded = await load({ argv: ['--embedded-broker'] });
  assert.equal(embedded.kind === 'ok' && embedded.settings.embeddedBroker, 1883);
  const other = await load({ argv: ['--embedded-broker', '18830'] });
  assert.equal(other.kind === 'ok' && other.settings.embeddedBroker, 18_830);
});

test('each wrong address of a broker is refused, and its password is not told', async () => {
  for (const address of ['b', 'http://b', 'mqtt://', 'mqtt://u:secret@ b']) {
    const [problem = ''] = await problemsOf({ argv: ['--broker', address] });
    assert.match(problem, /^--broker: `broker` must be a list, each entry an address such as/);
    assert.doesNotMatch(problem, /secret/);
  }
  for (const scheme of ['mqtt', 'mqtts', 'ws', 'wss', 'tcp', 'ssl']) {
    assert.deepEqual(await problemsOf({ argv: ['--broker', `${scheme}://b:1`] }), []);
  }
});

test('a list comes from repeated flags, from commas, from a list or from one text', async () => {
  const files = { [CONFIG]: 'ca-root = "one.pem"\nexclude-worker = ["a-worker", "b-worker"]\n' };
  const { settings } = await loaded({ files, argv: ['--broker=mqtt://c,mqtt://d'], env: { YGGD_NO_PROXY: 'x, y' } });
  assert.deepEqual(settings.broker, ['mqtt://b', 'mqtt://c', 'mqtt://d']);
  assert.deepEqual(settings.caRoot, ['/etc/yggdrasil/one.pem']);
  assert.deepEqual(settings.excludeWorker, ['a-worker', 'b-worker']);
  assert.deepEqual(settings.noProxy, ['x', 'y']);
});

test('a switch can stand alone, have a value, or be switched off', async () => {
  const on = await loaded({ argv: ['--mqtt-prime-topics', '--mqtt-retain-status=off'] });
  assert.equal(on.settings.mqttPrimeTopics, true);
  assert.equal(on.settings.mqttRetainStatus, false);
  assert.deepEqual(await problemsOf({ argv: ['--broker=mqtt://b', '--mqtt-retain-status=perhaps'] }), [
    '--mqtt-retain-status: `mqtt-retain-status` must be true or false, not "perhaps"',
  ]);
});

test('a relative path starts where it was written, and ~ is the home', async () => {
  const files = { '/conf/x.toml': 'cert-file = "c.pem"\nkey-file = "~/k.pem"\n' };
  const { settings } = await loaded({ files, argv: ['--config', '/conf/x.toml', '--password-file', 'p'] });
  assert.deepEqual(
    [settings.certFile, settings.keyFile, settings.passwordFile],
    ['/conf/c.pem', '/home/ann/k.pem', '/cwd/p'],
  );
});

test('config-dir given by flag or variable is where config.toml is looked for', async () => {
  const files = { '/one/config.toml': 'username = "one"', '/two/config.toml': 'username = "two"' };
  assert.equal((await loaded({ files, argv: ['--config-dir', '/one'] })).settings.username, 'one');
  assert.equal((await loaded({ files, env: { YGGD_CONFIG_DIR: '/two' } })).settings.username, 'two');
  assert.equal((await loaded({ files, env: { YGGD_CONFIG: '/two/config.toml' } })).settings.username, 'two');
});

test('settings that contradict each other are told', async () => {
  const argv = ['--broker=mqtt://b', '--cert-file=c', '--mqtt-reconnect-delay=5m'];
  assert.deepEqual(await problemsOf({ argv }), [
    '`cert-file` is set but `key-file` is not: set both or none',
    '`mqtt-reconnect-delay-max` must not be less than `mqtt-reconnect-delay`',
  ]);
  assert.match(
    (await problemsOf({ argv: ['--broker=mqtt://b', '--key-file=k'] })).join(),
    /`key-file` is set but `cert-file` is not/,
  );
});

test('a variable that nearly is one of ours gives a warning, a worker’s own gives none', async () => {
  const { warnings } = await loaded({ env: { YGGD_LOGLEVEL: 'debug', YGG_SOCKET_ADDR: 'unix:/x', YGGD_USERNAME: '' } });
  assert.deepEqual(warnings, ['$YGGD_LOGLEVEL: no setting has this variable; did you mean “YGGD_LOG_LEVEL”?']);
});

test('user name and password in an address are taken out of it', async () => {
  const files = { [CONFIG]: 'broker = ["tcp://ann:p%40ss@h:1883", "tcp://i:1883"]' };
  const result = await load({ files });
  assert.ok(result.kind === 'ok');
  assert.deepEqual(result.settings.broker, ['tcp://h:1883', 'tcp://i:1883']);
  assert.equal(result.settings.username, 'ann');
  assert.equal(result.settings.addressPassword?.reveal(), 'p@ss');
  assert.doesNotMatch(JSON.stringify(result), /p@ss|p%40ss/);
  assert.match(result.warnings[0]?.text ?? '', /password-file/);
  const odd = await load({ argv: ['--broker', 'mqtt://:100%@h'] });
  assert.ok(odd.kind === 'ok');
  assert.deepEqual([odd.settings.username, odd.settings.addressPassword?.reveal()], [undefined, '100%']);
});

test('the proxy comes from the environment unless the setting says none', async () => {
  const env = { HTTPS_PROXY: 'http://p:3128', NO_PROXY: 'localhost,.lan', http_proxy: 'http://q:1' };
  const { settings } = await loaded({ env });
  assert.deepEqual([settings.proxy, settings.noProxy], ['http://p:3128', ['localhost', '.lan']]);
  assert.equal((await loaded({ env, files: { [CONFIG]: 'proxy = ""' } })).settings.proxy, undefined);
  const result = await load({ env, argv: ['--broker=mqtt://b'] });
  assert.deepEqual(result.kind === 'ok' && result.surroundings.proxyVariables, {
    HTTP_PROXY: 'http://q:1',
    HTTPS_PROXY: 'http://p:3128',
    NO_PROXY: 'localhost,.lan',
  });
});

test('what the environment says of log, colours and programs stands in the surroundings', async () => {
  const of = async (env: Record<string, string>) => {
    const result = await load({ env, argv: ['--broker=mqtt://b'] });
    return result.kind === 'ok' ? result.surroundings : undefined;
  };
  assert.deepEqual(await of({ JOURNAL_STREAM: '8:1', NO_COLOR: '1', PATH: '/opt/bin' }), {
    journalStream: '8:1',
    isColourless: true,
    path: '/opt/bin',
    proxyVariables: {},
  });
  assert.match((await of({}))?.path ?? '', /\/usr\/bin/);
});

test('help lists every setting in its group, version is version, and --check-config is passed on', async () => {
  const help = await load({ argv: ['--broker=nonsense', '--help'] });
  assert.ok(help.kind === 'help');
  for (const name of SETTING_NAMES) assert.ok(help.text.includes(`--${name} `), name);
  for (const flag of ['--config <FILE>', '--check-config', '--help', '--version', 'Limits:'])
    assert.ok(help.text.includes(flag), flag);
  assert.doesNotMatch(help.text, /preset|mqtt-publish-timeout/);
  assert.equal((await load({ argv: ['-v'] })).kind, 'version');
  const check = await load({ argv: ['--check-config', '--broker=mqtt://b'] });
  assert.equal(check.kind === 'ok' && check.isCheckOnly, true);
});

test('a flag without its value is told', async () => {
  assert.match((await problemsOf({ argv: ['--broker'] })).join(), /'--broker <URL>' argument missing/);
});

test('the example sets every setting to its default: taken as it stands, and with every line in force', async () => {
  const defaults = (await loaded()).settings;
  assert.deepEqual((await loaded({ files: { [CONFIG]: renderExample() } })).settings, defaults);
  const inForce = renderExample().replace(/^# ([a-z-]+ = )/gm, '$1');
  const { settings } = await loaded({ files: { [CONFIG]: inForce } });
  const differing = diffSettings(defaults, settings);
  for (const name of [...differing.needRestart, ...differing.reloadable]) {
    assert.match(renderExample(), new RegExp(`No default\\.\\n# ${name} = `), name);
  }
});

test('a reload tells what takes effect and what needs a restart', async () => {
  const before = (await loaded()).settings;
  const after = (await loaded({ argv: ['--log-level=debug', '--topic-prefix=x', '--ca-root=/a'] })).settings;
  assert.deepEqual(diffSettings(before, after), {
    reloadable: ['log-level'],
    needRestart: ['ca-root', 'topic-prefix'],
  });
  assert.deepEqual(diffSettings(before, before), { reloadable: [], needRestart: [] });
});

test('names, hosts and topics are held to their grammar', async () => {
  const bad = [
    '--client-id=a/b',
    '--topic-prefix=/x',
    '--data-host=a/b',
    '--content-hosts=http://u@h',
    '--proxy=ftp://x',
    '--response-topics=a/#/b',
  ];
  for (const flag of bad) assert.equal((await problemsOf({ argv: ['--broker=mqtt://b', flag] })).length, 1, flag);
  const good = [
    '--client-id=a.b',
    '--topic-prefix=redhat/insights',
    '--data-host=h:8443',
    '--content-hosts=http://h:1,h,[::1]:2',
    '--response-topics=a/+/#',
  ];
  assert.deepEqual(await problemsOf({ argv: ['--broker=mqtt://b', ...good] }), []);
});
