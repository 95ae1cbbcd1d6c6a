/**
 * `ygg connect` with a certificate: on a real D-Bus, with a stand-in for systemd that runs the real agent as another
 * user, which reaches a real mosquitto with its certificate; and what is refused before anything is changed.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chown, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { makeAuthority, makeCertificates } from '../support/authority.js';
import { makeBench } from '../support/bench.js';
import { Machine } from '../support/enrol.js';
import { dbusMissing, type Plan } from '../support/machine-services.js';
import { mosquittoMissing, startMosquitto } from '../support/mosquitto.js';
import { Operator } from '../support/operator.js';
import { tempDir } from '../support/temp.js';
import { ROOT } from '../support/yggd.js';

const execute = promisify(execFile);
const skip = mosquittoMissing || dbusMissing;
const NOBODY = 65534;
const TOML = '# of the operator\nlog-level = "info"   # as is\n';
const systemd: Plan = { services: ['systemd'] };

test('enrolled, started, on line; renewed; off line and cleared; purged', { skip }, async () => {
  await using dir = await tempDir();
  const { authority, server, client } = await makeCertificates(dir.path);
  await using broker = await startMosquitto({
    tls: {
      caFile: authority.caFile,
      certFile: server.certFile,
      keyFile: server.keyFile,
      requireClientCertificate: true,
      identityAsUsername: true,
    },
  });
  const url = `mqtts://localhost:${broker.tlsPort}`;
  await using place = await tempDir();
  const at = (name: string): string => join(place.path, name);
  await execute('chmod', ['755', place.path]);
  await Promise.all(['state', 'run', 'workers'].map((name) => mkdir(at(name))));
  await Promise.all(['state', 'run'].map((name) => chown(at(name), NOBODY, NOBODY)));
  // As the unit does, the flags say where all is; the configuration's own directory is the machine's.
  const toml = `${TOML}runtime-dir = "${at('run')}"\nstate-dir = "${at('state')}"\nworker-dir = "${at('workers')}"\n`;
  const exec = [process.execPath, join(ROOT, 'dist/yggd.js'), '--config', at('config.toml')];
  await using machine = await Machine.make({ ...systemd, exec, notify: at('notify'), uid: NOBODY }, toml);
  await symlink(machine.path('config/config.toml'), at('config.toml'));

  await using operator = await Operator.connect(broker.url, 'client-1', { clientId: 'operator' });
  const words = ['connect', '--cert', client.certFile, '--key', client.keyFile, '--group', String(NOBODY)];
  const run = await machine.ygg([...words, '--ca', authority.caFile, '--broker', url]);
  assert.deepEqual([run.code, run.stderr], [0, ''], run.stdout);
  assert.match(run.stdout, /^certificate\tof client-1, valid until \d{4}-.*Z: .*config\/agent\.crt$/m);
  assert.match(run.stdout, /^agent\tyggd\.service is active$/m);
  assert.match(run.stdout, new RegExp(`^broker\tclient-1 is connected to ${url}`, 'm'));
  await operator.status(({ state }) => state === 'online');
  assert.deepEqual(
    await Promise.all(['agent.crt', 'agent.key', 'ca.crt', 'config.toml'].map((name) => machine.modeOf(name))),
    ['644 0:0', `640 0:${NOBODY}`, '644 0:0', '644 0:0'],
  );
  const config = (name: string): string => machine.path('config', name);
  assert.equal(
    await machine.config(),
    `${toml}broker = ["${url}"]\ncert-file = "${config('agent.crt')}"\nkey-file = "${config('agent.key')}"\nca-root = ["${config('ca.crt')}"]\n`,
  );

  const status = await machine.yggJson(['status', '--runtime-dir', at('run')]);
  assert.match(
    JSON.stringify(status['enrolment']),
    /^\{"client_id":"client-1","consumer":null,"certificate_valid_to":"20/,
  );
  const shown = await machine.ygg(['status', '--runtime-dir', at('run')]);
  assert.match(shown.stdout, /^enrolled\tby certificate, as client-1, until 20/m);

  const again = await machine.ygg([...words, '--ca', authority.caFile, '--broker', url]);
  assert.equal(again.code, 0, again.stderr);
  assert.deepEqual(machine.services.deeds, ['EnableUnitFiles', 'Reload', 'StartUnit'], 'nothing was new');
  const renewed = await authority.issue('renewed', { commonName: 'client-1' });
  operator.forget();
  const renewal = await machine.ygg([
    'connect',
    '--cert',
    renewed.certFile,
    '--key',
    renewed.keyFile,
    '--group',
    String(NOBODY),
  ]);
  assert.equal(renewal.code, 0, renewal.stderr);
  assert.equal(machine.services.deeds.at(-1), 'RestartUnit');
  await operator.status(({ state }) => state === 'online');
  assert.deepEqual(await readFile(config('agent.crt')), renewed.cert);

  const away = await machine.ygg(['disconnect']);
  assert.deepEqual([away.code, away.stderr], [0, ''], away.stdout);
  assert.match(away.stdout, /^status\tthe broker keeps no status of client-1 any more$/m);
  await operator.status(({ state }) => state === 'offline');
  await using late = await Operator.connect(broker.url, 'client-1', { clientId: 'late' });
  // A message of our own behind the subscription: what was retained would have come before it.
  await late.publish('control/out', '{"type":"event"}');
  assert.equal((await late.until(() => true, 'anything')).type, 'event');

  const purged = await machine.ygg(['disconnect', '--purge']);
  assert.equal(purged.code, 0, purged.stderr);
  assert.match(purged.stdout, /^agent\tyggd\.service does not run$/m);
  assert.deepEqual(await readdir(machine.path('config')), ['config.toml']);
  assert.equal(await machine.config(), `${toml}broker = ["${url}"]\n`);
  assert.equal((await machine.ygg(['disconnect', '--purge'])).code, 0);
});

test('a request is made with a key that stays; its certificate alone completes it', { skip }, async () => {
  await using machine = await Machine.make(systemd, TOML);
  const first = await machine.ygg(['connect', '--csr', machine.path('one.csr'), '--client-id', 'press-7']);
  assert.equal(first.code, 0, first.stderr);
  assert.match(
    first.stderr,
    /^a new key was made: .*agent\.key; have the request .*one\.csr signed for the client id press-7/,
  );
  assert.equal(await machine.modeOf('agent.key'), '600 0:0');
  const key = await machine.config('agent.key');
  const piped = await machine.ygg(['connect', '--csr']);
  assert.match(piped.stderr, /^the key was kept/);
  assert.equal(await machine.config('agent.key'), key);
  await writeFile(machine.path('two.csr'), piped.stdout);
  for (const name of ['one.csr', 'two.csr']) {
    const { stdout, stderr } = await execute('openssl', [
      'req',
      '-in',
      machine.path(name),
      '-noout',
      '-verify',
      '-subject',
      '-text',
    ]);
    assert.match(stderr, /verify OK/);
    assert.match(stdout, /CN = press-7/);
    assert.match(stdout, /prime256v1/);
  }
  const json = await machine.yggJson(['connect', '--csr']);
  assert.equal(json['client_id'], 'press-7');
  assert.match(String(json['request']), /^-----BEGIN CERTIFICATE REQUEST-----\n/);
  assert.deepEqual(machine.services.deeds, []);

  const authority = await makeAuthority(machine.path());
  const sign = [
    'x509',
    '-req',
    '-in',
    machine.path('one.csr'),
    '-CA',
    authority.caFile,
    '-CAkey',
    machine.path('ca.key'),
  ];
  await execute('openssl', [...sign, '-set_serial', '7', '-days', '2', '-out', machine.path('press-7.crt')]);
  const broker = ['--broker', 'mqtts://broker.example:8883'];
  const done = await machine.ygg([
    'connect',
    '--cert',
    machine.path('press-7.crt'),
    '--group',
    String(NOBODY),
    ...broker,
  ]);
  assert.equal(done.code, 0, done.stderr);
  assert.match(done.stdout, /^certificate\tof press-7, valid until/m);
  assert.equal(await machine.modeOf('agent.key'), `640 0:${NOBODY}`);
  assert.equal(await machine.config('agent.key'), key);
  await machine.ygg(['disconnect', '--purge', '--timeout', '1s']);
  assert.deepEqual(await readdir(machine.path('config')), ['config.toml']);
});

test('material that no broker would take is refused with all reasons, and nothing is changed', { skip }, async () => {
  await using machine = await Machine.make(systemd, TOML);
  const at = (name: string): string => machine.path(name);
  const authority = await makeAuthority(at('.'));
  const good = await authority.issue('good', { commonName: 'host-1' });
  const old = await authority.issue('old', { commonName: 'host-1', isExpired: true });
  const odd = await authority.issue('odd', { commonName: 'not a name!' });
  const x509 = (name: string, ...more: string[]): Promise<unknown> =>
    execute('openssl', [
      'req',
      '-x509',
      '-nodes',
      '-subj',
      '/CN=host-1',
      '-days',
      '2',
      '-keyout',
      at(`${name}.key`),
      '-out',
      at(`${name}.crt`),
      ...more,
    ]);
  await x509('weak', '-newkey', 'rsa:1024');
  await x509('server', '-newkey', 'rsa:2048', '-addext', 'extendedKeyUsage=serverAuth');
  await x509('curve', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:secp256k1');
  await execute('openssl', ['pkey', '-in', good.keyFile, '-aes256', '-passout', 'pass:x', '-out', at('locked.key')]);
  await writeFile(at('empty'), '');
  await writeFile(at('large'), Buffer.alloc(2 * 1024 * 1024));

  const cases: readonly (readonly [cert: string, key: string, ca: string, exit: number, reason: RegExp])[] = [
    [good.certFile, odd.keyFile, authority.caFile, 78, /odd\.key is not the key of the certificate .*good\.crt/],
    [old.certFile, old.keyFile, authority.caFile, 78, /old\.crt expired on/],
    [
      odd.certFile,
      odd.keyFile,
      authority.caFile,
      78,
      /the CN of .*odd\.crt is "not a name!", which cannot be a client id/,
    ],
    [at('weak.crt'), at('weak.key'), authority.caFile, 78, /RSA key of .*weak\.crt has 1024 bits/],
    [at('server.crt'), at('server.key'), authority.caFile, 78, /not meant for a client/],
    [at('curve.crt'), at('curve.key'), authority.caFile, 78, /on the curve secp256k1/],
    [good.certFile, at('locked.key'), authority.caFile, 78, /is encrypted/],
    [
      at('empty'),
      at('empty'),
      at('empty'),
      78,
      /empty is no certificate.*\n.*no private key.*\n.*holds no certificate/,
    ],
    [good.certFile, good.keyFile, good.certFile, 78, /holds a certificate that is no authority: "CN=host-1"/],
    [at('none'), good.keyFile, authority.caFile, 73, /cannot read .*none: there is no such file/],
    [at('.'), good.keyFile, authority.caFile, 73, /it is a directory/],
    [at('large'), good.keyFile, authority.caFile, 73, /more than 1024 KiB/],
  ];
  for (const [cert, key, ca, exit, reason] of cases) {
    const run = await machine.ygg(['connect', '--cert', cert, '--key', key, '--ca', ca, '--broker', 'mqtts://b:1']);
    assert.equal(run.code, exit, run.stderr);
    assert.match(run.stderr, reason);
    assert.doesNotMatch(run.stderr, /PRIVATE KEY|^ {4}at /m);
  }
  assert.deepEqual(await readdir(machine.path('config')), ['config.toml']);
  assert.equal(await machine.config(), TOML);
  assert.deepEqual(machine.services.deeds, []);
});

test(
  'what would leave a wrong configuration, or overwrite what others put there, is refused before',
  { skip },
  async () => {
    await using machine = await Machine.make(systemd, TOML);
    const authority = await makeAuthority(machine.path());
    const good = await authority.issue('good', { commonName: 'host-1' });
    const words = ['connect', '--cert', good.certFile, '--key', good.keyFile];
    const broker = ['--broker', 'mqtts://broker.example:8883'];
    const none = await machine.ygg(words);
    assert.deepEqual(
      [none.code, none.stderr],
      [64, `ygg: no broker is set in ${machine.path('config/config.toml')}: name it with --broker mqtts://HOST:PORT\n`],
    );
    const bad = await machine.ygg([...words, '--broker', 'http://x']);
    assert.equal(bad.code, 78, bad.stderr);
    assert.match(bad.stderr, /config\.toml:3: `broker` must be/);
    await writeFile(machine.path('config/agent.key'), 'of somebody');
    const foreign = await machine.ygg([...words, ...broker]);
    assert.equal(foreign.code, 73);
    assert.match(foreign.stderr, /agent\.key is there already, and ygg connect did not put it there/);
    assert.equal(await machine.config('agent.key'), 'of somebody');
    const csr = await machine.ygg(['connect', '--csr']);
    assert.match(csr.stderr, /agent\.key is no private key that can be used/);
    assert.equal((await machine.ygg([...words, ...broker, '--force', '--no-start'])).code, 0);
    assert.equal(await machine.config('agent.key'), good.key.toString());

    const group = await machine.ygg([...words, '--group', 'no-such-group']);
    assert.deepEqual([group.code, group.stderr], [64, 'ygg: there is no group "no-such-group" on this machine\n']);
    await writeFile(machine.path('config/config.toml'), 'broker = [\n');
    const torn = await machine.ygg(words);
    assert.equal(torn.code, 73);
    assert.match(torn.stderr, /config\.toml:\d+:\d+: not TOML/);
    await writeFile(machine.path('config/enrolment.json'), '{"files":7}');
    const record = await machine.ygg(words);
    assert.match(record.stderr, /enrolment\.json is no record of ygg connect/);
  },
);

test('flags that do not go together, and a user who may not, are told before anything is done', { skip }, async () => {
  await using machine = await Machine.make(systemd, TOML);
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [['--cert', 'a', '--username', 'b'], /--username and --cert are two ways to enrol: choose one/],
    [['--activation-key', 'a'], /activation keys need the organization/],
    [['--organization', 'a'], /--organization belongs to a registration/],
    [['--key', 'a'], /--key belongs to --cert/],
    [['--cert', 'a', '--client-id', 'b'], /--client-id belongs to --csr/],
    [['--csr', '--client-id', 'a b'], /"a b" cannot be a client id/],
    [['--username', 'a', '--server-url', 'ftp://b'], /"ftp:\/\/b" is no address of a server/],
    [['--organization', 'a', '--activation-key', ','], /no activation key was given/],
    [['--cert', machine.path('config/config.toml')], /there is no key in/],
    [[], /no broker is set in/],
  ];
  await using both = await Machine.make({ services: ['rhsm'] }, 'broker = "mqtt://x"\n');
  for (const [words, message] of cases) {
    const run = await (words.includes(',') ? both : machine).ygg(['connect', ...words]);
    assert.equal(run.code, 64, run.stderr);
    assert.match(run.stderr, message);
  }
  for (const words of [['connect', '--csr'], ['disconnect']]) {
    const run = await machine.ygg(words, { uid: NOBODY });
    assert.deepEqual(
      [run.code, run.stderr],
      [77, `ygg: only root may ${words[0]} this machine: sudo ygg ${words[0]} …\n`],
    );
  }
  assert.deepEqual(await readdir(machine.path('config')), ['config.toml']);
});

test('a unit that does not start, hangs, or is not there: why, and what to do', { skip }, async () => {
  const toml = 'broker = "mqtt://127.0.0.1:1"\n';
  const cases: readonly (readonly [Plan | undefined, RegExp])[] = [
    [
      { ...systemd, job: { StartUnit: 'failed' }, result: 'exit-code', status: 78 },
      /^ygg: yggd\.service did not start: failed, now failed \(result exit-code, exit status 78\)\n/,
    ],
    [
      { ...systemd, job: { StartUnit: 'hang' } },
      /^ygg: yggd\.service did not start: systemd has not finished it within 1 s, now inactive/,
    ],
    [
      { ...systemd, load: 'not-found' },
      /the machine is enrolled, but the unit yggd\.service is not installed .*: start it by hand.*yggd --config/,
    ],
    [
      { ...systemd, enable: 'refused' },
      /systemd does not enable yggd\.service: File yggdrasil\.service already exists/,
    ],
    [{ ...systemd, load: 'masked' }, /is masked \(systemctl unmask yggd\)/],
    [{ services: [] }, /but there is no systemd to start the agent/],
    [undefined, /but there is no systemd to start the agent/],
  ];
  for (const [plan, message] of cases) {
    await using machine = await Machine.make(plan, toml);
    const run = await machine.ygg(['connect', '--timeout', '1s']);
    assert.equal(run.code, 69, run.stderr);
    assert.match(run.stderr, message);
    const off = await machine.ygg(['connect', '--no-start']);
    assert.deepEqual([off.code, off.stdout, off.stderr], [0, '', '']);
  }
  await using quick = await Machine.make({ ...systemd, job: { StartUnit: 'at once' } }, toml);
  const run = await quick.ygg(['connect']);
  assert.match(run.stdout, /^agent\tyggd\.service is active$/m);
  await using slow = await Machine.make({ ...systemd, job: { StartUnit: 'hang' } }, toml);
  const seen = await slow.yggTyped(
    ['connect', '--timeout', '2s'],
    [{ after: /waiting for yggd\.service: 1 s/, text: ' ' }],
  );
  assert.equal(seen.code, 69);
  assert.match(
    seen.stdout.replaceAll('\u001b', '^'),
    /waiting for yggd\.service: 1 s[^]*\r\^\[Kygg: yggd\.service did not start/,
  );
  await using hung = await Machine.make({ ...systemd, job: { StartUnit: 'hang' } }, toml);
  const cut = await hung.ygg(['connect'], { interruptAt: 'StartUnit' });
  assert.deepEqual(
    [cut.signal, cut.stderr],
    ['SIGINT', 'ygg: interrupted; ygg connect and ygg disconnect can be run again\n'],
  );

  await using bare = await Machine.make(undefined, toml);
  const away = await bare.ygg(['disconnect']);
  assert.equal(away.code, 0, away.stderr);
  assert.match(away.stdout, /^agent\tthere is no systemd, and no agent runs$/m);
});

test('an agent that somebody started by hand is named when the machine is to leave', { skip }, async () => {
  await using bench = await makeBench();
  await bench.startWith([]);
  const toml = `broker = "${bench.broker.url}"\nclient-id = "host-1"\nruntime-dir = "${bench.home.path('run')}"\n`;
  await using bare = await Machine.make(undefined, toml);
  const left = await bare.ygg(['disconnect']);
  assert.equal(left.code, 1);
  assert.match(left.stdout, /^agent\tfailed: there is no systemd to stop the agent, and it runs: stop it by hand/m);
  await using machine = await Machine.make(systemd, toml);
  const other = await machine.ygg(['disconnect']);
  assert.equal(other.code, 0, other.stderr);
  assert.match(other.stdout, /^agent\twarning: an agent runs all the same, not by systemd/m);
  assert.match(other.stdout, /^status\tthe broker keeps no status of host-1 any more$/m);
});
