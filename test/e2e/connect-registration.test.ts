/** `ygg connect` by the registration service: a real D-Bus, a stand-in of the service that is made as the real one is. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { dbusMissing, type Plan } from '../support/machine-services.js';
import { Machine } from '../support/enrol.js';
import { tempDir } from '../support/temp.js';

const skip = dbusMissing;
const TOML = '# of the operator\nbroker = ["mqtts://broker.example:8883"] # the one\n';
const BY_KEY = ['connect', '--organization', '1234567', '--activation-key', 'first,second'];
const UUID = '5c1d2ff0-0000-4000-8000-000000000001';
const UP = ['EnableUnitFiles', 'Reload', 'StartUnit'];
const both: Plan = { services: ['rhsm', 'systemd'] };

test('activation keys register over the private socket, and the unit comes up', { skip }, async () => {
  await using machine = await Machine.make({ ...both, consumer_dir: '/etc/pki/elsewhere' }, TOML);
  await writeFile(machine.path('keys'), '# ours\nthird\n\n');
  const words = ['--activation-key-file', machine.path('keys'), '--enable-content', '--content-template', 'base'];
  const { code, stdout, stderr } = await machine.ygg([...BY_KEY, ...words, '--server-url', 'sat.example:8443/rhsm']);
  assert.deepEqual([code, stderr], [0, '']);
  assert.deepEqual(stdout.split('\n'), [
    `registration\tregistered as ${UUID}`,
    `settings\t${machine.path('config/config.toml')}: cert-file, key-file`,
    'unit\tyggd.service is enabled: it starts with the machine',
    'agent\tyggd.service is active',
    '',
  ]);
  const { services } = machine;
  assert.deepEqual(services.deeds, [
    'RegisterServer.Start',
    'Register.RegisterWithActivationKeys',
    'RegisterServer.Stop',
    ...UP,
  ]);
  assert.deepEqual((await services.call('Register.RegisterWithActivationKeys')).args, [
    '1234567',
    ['first', 'second', 'third'],
    { environment_names: 'base', environment_type: 'content-template', enable_content: true },
    { host: 'sat.example', port: '8443', handler: '/rhsm' },
    '',
  ]);
  assert.equal(
    await machine.config(),
    `${TOML}cert-file = "/etc/pki/elsewhere/cert.pem"\nkey-file = "/etc/pki/elsewhere/key.pem"\n`,
  );

  const again = await machine.yggJson(BY_KEY);
  assert.equal(again['client_id'], UUID);
  assert.deepEqual(
    (again['steps'] as readonly { readonly step: string; readonly outcome: string }[]).map(
      ({ step, outcome }) => `${step} ${outcome}`,
    ),
    ['registration unchanged', 'unit unchanged', 'agent unchanged'],
  );
  const forced = await machine.ygg([...BY_KEY, '--force', '--environment', 'prod']);
  assert.equal(forced.code, 0, forced.stderr);
  const last = services.calls.findLast(({ call }) => call === 'Register.RegisterWithActivationKeys');
  assert.deepEqual(last?.args[2], { environment: 'prod', force: true });
});

test(
  'what the service refuses is shown as text, its socket is closed, and nothing else is done',
  { skip },
  async () => {
    const cases: readonly (readonly [Partial<Plan>, number, RegExp])[] = [
      [
        { register: ['RestlibException', 'None of the activation keys\u001b[2J exist'] },
        1,
        /^ygg: None of the activation keys\\u001b\[2J exist\n$/,
      ],
      [{ register: 'plain' }, 1, /^ygg: something old\\u000awent wrong\n$/],
      [
        { register: 'hang' },
        69,
        /^ygg: com\.redhat\.RHSM1 did not answer com\.redhat\.RHSM1\.Register\.RegisterWithActivationKeys within 1 s\n$/,
      ],
    ];
    for (const [plan, exit, message] of cases) {
      await using machine = await Machine.make({ ...both, ...plan }, TOML);
      const run = await machine.ygg([...BY_KEY, '--timeout', '1s']);
      assert.equal(run.code, exit, run.stderr);
      assert.match(run.stderr, message);
      assert.deepEqual(machine.services.deeds.slice(-1), ['RegisterServer.Stop']);
      assert.equal(await machine.config(), TOML);
    }
  },
);

test('without the service or without a bus it says so, and names the other way', { skip }, async () => {
  await using machine = await Machine.make({ services: ['systemd'] }, TOML);
  const none = await machine.ygg(BY_KEY);
  assert.equal(none.code, 69);
  assert.match(none.stderr, /no registration service \(com\.redhat\.RHSM1\).*--cert FILE/);
  assert.deepEqual(machine.services.deeds, []);
  await using bare = await Machine.make(undefined, TOML);
  const without = await bare.ygg(BY_KEY);
  assert.equal(without.code, 69);
  assert.match(without.stderr, /^ygg: cannot reach the D-Bus at unix:path=.*no-bus/);
});

test('a password comes from a file, or from the terminal without being shown', { skip }, async () => {
  await using machine = await Machine.make({ ...both, password: 'p4ss wörd' }, TOML);
  const words = ['connect', '--username', 'admin'];
  const blind = await machine.ygg(words);
  assert.deepEqual(
    [blind.code, blind.stderr],
    [64, 'ygg: there is no terminal to ask for the password: give it with --password-file FILE\n'],
  );

  const wrong = await machine.yggTyped(words, [{ after: /Password of admin: /, text: 'guessed\r' }]);
  assert.equal(wrong.code, 1);
  assert.match(wrong.stdout, /ygg: Invalid Credentials/);
  assert.doesNotMatch(wrong.stdout, /guessed/);

  const interrupted = await machine.yggTyped(words, [{ after: /Password of admin: /, text: 'p4ss\u0003' }]);
  assert.equal(interrupted.code, 130);
  assert.doesNotMatch(interrupted.stdout, /p4ss|Error/);
  assert.equal(await machine.config(), TOML);

  // A mistyped line is thrown away, a mistyped letter taken back.
  const typed = await machine.yggTyped(words, [{ after: /Password of admin: /, text: 'no\u0015p4ss wöx\u007frd\r' }]);
  assert.equal(typed.code, 0, typed.stdout);
  assert.doesNotMatch(typed.stdout, /p4ss/);
  assert.match(typed.stdout, /registration +registered as 5c1d2ff0/);

  await writeFile(machine.path('password'), 'p4ss wörd\n', { mode: 0o600 });
  const forced = await machine.ygg([
    ...words,
    '--organization',
    'o',
    '--password-file',
    machine.path('password'),
    '--force',
  ]);
  assert.equal(forced.code, 0, forced.stderr);
  const sent = machine.services.calls.filter(({ call }) => call === 'Register.Register').at(-1);
  assert.deepEqual(sent?.args, ['o', 'admin', 'p4ss wörd', { force: true }, {}, '']);
});

test('a user of several organizations is told their names', { skip }, async () => {
  await using machine = await Machine.make({ ...both, organizations: ['north', 'south'] }, TOML);
  await writeFile(machine.path('password'), 'x');
  const run = await machine.ygg(['connect', '--username', 'admin', '--password-file', machine.path('password')]);
  assert.deepEqual(
    [run.code, run.stderr],
    [1, 'ygg: User admin is member of more organizations: name one with --organization (north, south)\n'],
  );
  assert.deepEqual(machine.services.deeds, [
    'RegisterServer.Start',
    'Register.Register',
    'Register.GetOrgs',
    'RegisterServer.Stop',
  ]);
});

test('Ctrl-C in the midst of a registration closes the private socket', { skip }, async () => {
  await using machine = await Machine.make({ ...both, register: 'hang' }, TOML);
  const run = await machine.ygg(BY_KEY, { interruptAt: 'Register.RegisterWithActivationKeys' });
  assert.deepEqual([run.code, run.signal], [null, 'SIGINT']);
  assert.equal(run.stderr, 'ygg: interrupted; ygg connect and ygg disconnect can be run again\n');
  assert.deepEqual(machine.services.deeds.slice(-1), ['RegisterServer.Stop']);
  assert.equal(await machine.config(), TOML);
});

test('the private socket may be an abstract one, as on systems of today', { skip }, async () => {
  await using machine = await Machine.make(
    { ...both, private: `unix:abstract=/yggdrasil%20test/${process.pid}` },
    TOML,
  );
  const run = await machine.ygg([...BY_KEY, '--no-start']);
  assert.equal(run.code, 0, run.stderr);
  assert.match(
    String((await machine.services.call('RegisterServer.Start')).args[1]),
    /^unix:abstract=\/yggdrasil%20test/,
  );
});

test('disconnect takes back what connect registered, and nothing that others did', { skip }, async () => {
  await using machine = await Machine.make({ ...both, consumer_dir: '/nonexistent/pki' }, TOML);
  assert.equal((await machine.ygg(BY_KEY)).code, 0);
  const run = await machine.ygg(['disconnect', '--purge']);
  // The certificates of the registration are not there: so the broker cannot be told, and that is said.
  assert.deepEqual([run.code, run.stderr], [1, 'ygg: not everything could be undone: status\n']);
  assert.match(run.stdout, /^registration\t5c1d2ff0-\S+ is unregistered$/m);
  assert.deepEqual(machine.services.deeds.slice(-4), [
    'StopUnit',
    'DisableUnitFiles',
    'Reload',
    'Unregister.Unregister',
  ]);
  assert.equal(await machine.config(), TOML);
  const again = await machine.ygg(['disconnect', '--purge']);
  assert.deepEqual([again.code, again.stderr], [0, '']);

  await using other = await Machine.make({ ...both, consumer: 'somebody-else' }, TOML);
  // Nobody is asked for a password that is not needed.
  const connected = await other.ygg(['connect', '--username', 'admin']);
  assert.match(connected.stdout, /this machine is registered already, as somebody-else/);
  await other.ygg(['disconnect']);
  assert.ok(!other.services.deeds.includes('Unregister.Unregister'));
});

test(
  'an unregistration that fails is told, keeps no other step from being done, and can be repeated',
  { skip },
  async () => {
    await using machine = await Machine.make({ ...both, unregister: 'refused' }, TOML);
    assert.equal((await machine.ygg(BY_KEY)).code, 0);
    const run = await machine.yggJson(['disconnect', '--purge']);
    assert.deepEqual(run['error'], {
      code: 'connect.incomplete',
      text: 'not everything could be undone: status, registration',
    });
    assert.match(JSON.stringify(run['steps']), /"registration","outcome":"failed","text":"HTTP error \(502/);
    assert.deepEqual(JSON.parse(await machine.config('enrolment.json')), { files: [], settings: {}, consumer: UUID });
  },
);

test('the key that the daemon’s group may not read is named when the agent does not start', { skip }, async () => {
  await using pki = await tempDir();
  await writeFile(join(pki.path, 'key.pem'), 'key', { mode: 0o600 });
  const failing: Plan = { ...both, job: { StartUnit: 'failed' }, status: 78, result: 'exit-code' };
  await using machine = await Machine.make({ ...failing, consumer_dir: pki.path }, TOML);
  const run = await machine.ygg(BY_KEY);
  assert.equal(run.code, 69);
  assert.match(run.stdout, /^key\twarning: the daemon's group may not read .*key\.pem: run the daemon as root/m);
  assert.match(
    run.stderr,
    /^ygg: yggd\.service did not start: failed, now failed \(result exit-code, exit status 78\)\n/,
  );
});
