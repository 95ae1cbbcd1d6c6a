/** `ygg doctor` against real agents and real brokers, each broken in one way: what is wrong is named, with what to do. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { appendFile, chmod, chown, mkdir, rm, writeFile } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { makeAuthority, makeCertificates } from '../support/authority.js';
import { makeBench } from '../support/bench.js';
import { startConnectProxy } from '../support/connect-proxy.js';
import { directoriesOf, doctor } from '../support/doctor.js';
import { freePorts, mosquittoMissing, startMosquitto } from '../support/mosquitto.js';
import { tempDir } from '../support/temp.js';
import { ygg, yggInto, yggOnTerminal } from '../support/ygg.js';
import { Home, Yggd } from '../support/yggd.js';

const skip = mosquittoMissing;
const NOBODY = 65_534;
const notRoot = process.getuid?.() === 0 ? false : 'to become another user takes root';

test(
  'a healthy agent: nothing failed, its place at the broker is not taken; text, pipe, JSON, terminal',
  { skip },
  async () => {
    await using bench = await makeBench();
    const { home, broker } = bench;
    await home.addWorker('echo-worker');
    await bench.startWith(['echo']);

    const found = await doctor(home);
    assert.equal(found.code, 0, JSON.stringify(found.findings.filter(({ outcome }) => outcome === 'failed')));
    assert.match(found.one('config').seen, /with the flags of the running agent/);
    assert.match(found.one('agent.link').seen, /^connected to .*MQTT 5$/);
    assert.equal(found.one('agent.worker', 'echo-worker').seen, 'runs, for echo');
    assert.equal(found.one('worker.file', 'echo-worker').outcome, 'ok');
    assert.match(found.one('broker.client-id').seen, /in use by the agent of this machine/);
    assert.match(found.one('broker.queue').seen, /^64 messages at once, none dropped/);
    for (const check of [
      'broker.tcp',
      'broker.mqtt',
      'broker.rules',
      'broker.round-trip',
      'broker.limits',
      'disk.space',
    ])
      assert.equal(found.one(check).outcome, 'ok', check);
    for (const place of found.of('place')) assert.equal(place.outcome, 'ok', place.seen);
    // One connect of the agent, and it still answers.
    assert.equal(broker.lines.filter((line) => / as host-1 \(/.test(line)).length, 1);
    assert.equal(broker.lines.filter((line) => line.includes('already connected')).length, 0);
    const id = await bench.operator.send('echo', '"still here"');
    assert.equal((await bench.operator.answerTo(id)).content, 'still here');

    const piped = await ygg(home, ['doctor']);
    assert.deepEqual([piped.code, piped.stderr], [0, '']);
    assert.match(piped.stdout, /^agent\.worker\techo-worker\tok\truns, for echo\t$/m);
    assert.ok(!piped.stdout.includes('\u001b'));
    const shown = await yggOnTerminal(home, ['doctor']);
    assert.equal(shown.code, 0);
    assert.ok(shown.stdout.includes('\u001b[32mok\u001b[0m       agent.worker echo-worker: runs, for echo\r\n'));
    assert.match(shown.stdout, /\r\n\r\n\d+ ok, \d+ warning, 0 failed, \d+ skipped\r\n$/);
    const plain = await yggOnTerminal(home, ['doctor'], { NO_COLOR: '1' });
    assert.ok(!plain.stdout.includes('\u001b[32m'));
    const first = await yggInto('head -n 1', home, ['doctor']);
    assert.deepEqual([first.code, first.stderr], [0, '']);
  },
);

test('no agent, and nobody at the broker’s port: both are told, and the exit code is 1', { skip }, async () => {
  await using home = await Home.make();
  const [port = 0] = await freePorts(1);
  const found = await doctor(home, [...directoriesOf(home), `--broker=mqtt://127.0.0.1:${port}`]);
  assert.equal(found.code, 1);
  assert.match(found.one('agent').seen, /^no agent listens at .*admin\.sock/);
  const tcp = found.one('broker.tcp');
  assert.deepEqual([tcp.outcome, tcp.seen], ['failed', `127.0.0.1:${port}: nobody listens there`]);
  assert.match(tcp.todo, /check that the broker runs/);
  assert.equal(found.one('broker.mqtt').outcome, 'skipped');
});

test('of two brokers each is judged by itself; a name without an address is told', { skip }, async () => {
  await using broker = await startMosquitto();
  await using home = await Home.make();
  const nowhere = 'mqtt://no-such-host.invalid:1883';
  const found = await doctor(home, [...directoriesOf(home), `--broker=${nowhere}`, `--broker=${broker.url}`]);
  assert.equal(found.one('broker.name', nowhere).outcome, 'failed');
  assert.equal(found.one('broker.tls', nowhere).outcome, 'warning');
  assert.equal(found.one('broker.mqtt', broker.url).outcome, 'ok');
});

test(
  'a broker without no-delay, with a short window and a short queue: each is measured and named',
  { skip },
  async () => {
    const config = ['set_tcp_nodelay false', 'max_inflight_messages 20', 'max_queued_messages 50'];
    await using broker = await startMosquitto({ config });
    await using home = await Home.make();
    const flags = [...directoriesOf(home), `--broker=${broker.url}`];
    const found = await doctor(home, flags);
    const trip = found.one('broker.round-trip');
    assert.equal(trip.outcome, 'warning', trip.seen);
    assert.match(trip.todo, /set_tcp_nodelay true/);
    const queue = found.one('broker.queue');
    assert.equal(queue.outcome, 'warning', queue.seen);
    assert.match(queue.seen, /^it sends 20 messages before/);
    assert.match(queue.todo, /max_inflight_messages 0/);
    const more = (await doctor(home, [...flags, '--backlog=200'])).one('broker.queue');
    assert.equal(more.outcome, 'failed', more.seen);
    assert.match(more.seen, /^of 200 messages that waited for one client, the broker dropped 1[23]\d/);
  },
);

test('MQTT 3.1.1: no limits are told, the rest is measured', { skip }, async () => {
  await using broker = await startMosquitto({ config: ['set_tcp_nodelay false', 'max_inflight_messages 7'] });
  await using home = await Home.make();
  await writeFile(home.path('config/config.toml'), `broker = ["${broker.url}"]\nmqtt-version = "3.1.1"\n`);
  const found = await doctor(home, directoriesOf(home));
  assert.match(found.one('broker.mqtt').seen, /^MQTT 3\.1\.1/);
  assert.equal(found.one('broker.limits').outcome, 'skipped');
  assert.match(found.one('broker.queue').seen, /^it sends 7 messages/);
  assert.equal(found.one('broker.round-trip').outcome, 'warning');
});

test('the embedded broker, which speaks MQTT 3.1.1 only, and a broker behind websockets', { skip }, async () => {
  await using home = await Home.make();
  await using yggd = await Yggd.start({ home, args: ['--embedded-broker=0'] });
  await yggd.line('connection.up');
  const embedded = await doctor(home);
  assert.match(embedded.one('broker.mqtt').seen, /^MQTT 3\.1\.1/);
  assert.equal(embedded.one('broker.queue').outcome, 'ok', embedded.one('broker.queue').seen);
  await using broker = await startMosquitto({ websockets: true });
  const url = `ws://127.0.0.1:${broker.wsPort}`;
  await using other = await Home.make();
  const found = await doctor(other, [...directoriesOf(other), `--broker=${url}/mqtt`]);
  assert.match(found.one('broker.mqtt').seen, /^MQTT 5/);
  assert.equal(found.one('broker.rules').outcome, 'skipped');
});

test('TLS: a wrong authority, an expired certificate, another name, and what is right', { skip }, async () => {
  await using dir = await tempDir();
  const { authority, server, client } = await makeCertificates(dir.path);
  const other = await makeAuthority(dir.path, 'other');
  const expired = await authority.issue('expired', { altNames: ['IP:127.0.0.1'], isExpired: true });
  const elsewhere = await authority.issue('elsewhere', { altNames: ['DNS:broker.example'] });
  await using home = await Home.make();
  const pair = [`--cert-file=${client.certFile}`, `--key-file=${client.keyFile}`];
  const look = async (files: typeof server, ca: string, more: readonly string[] = pair): ReturnType<typeof doctor> => {
    await using broker = await startMosquitto({
      plain: false,
      tls: { caFile: authority.caFile, ...files, requireClientCertificate: true },
    });
    const url = `--broker=mqtts://127.0.0.1:${broker.tlsPort}`;
    return await doctor(home, [...directoriesOf(home), url, `--ca-root=${ca}`, ...more]);
  };

  const good = await look(server, authority.caFile);
  assert.match(good.one('broker.tls').seen, /^TLSv1\.3 in .*CN=localhost, issued by CN=ca of a test, until \d{4}-/);
  assert.equal(good.one('broker.mqtt').outcome, 'ok');
  assert.match(good.one('credentials.file', client.certFile).seen, /CN=client-1, issued by CN=ca of a test/);

  const wrong = (await look(server, other.caFile)).one('broker.tls');
  assert.deepEqual([wrong.outcome, /^its authority is not known here/.test(wrong.seen)], ['failed', true], wrong.seen);
  assert.match(wrong.todo, /ca-root/);
  const late = (await look(expired, authority.caFile)).one('broker.tls');
  assert.match(late.seen, /^a certificate has expired: CN=expired/);
  const named = (await look(elsewhere, authority.caFile)).one('broker.tls');
  assert.match(named.seen, /stands for other names than 127\.0\.0\.1: DNS:broker\.example/);

  // Our own side: none, another's key, expired.
  const none = await look(server, authority.caFile, []);
  assert.equal(none.one('broker.mqtt').outcome, 'failed');
  assert.match(none.one('broker.mqtt').todo, /cert-file and key-file/);
  const mixed = await look(server, authority.caFile, [
    `--cert-file=${client.certFile}`,
    `--key-file=${server.keyFile}`,
  ]);
  assert.match(mixed.of('credentials.file', server.keyFile)[0]?.seen ?? '', /does not belong to the certificate/);
  assert.equal(mixed.one('broker.tls').outcome, 'ok');
  const mine = await authority.issue('mine', { isExpired: true });
  const old = await look(server, authority.caFile, [`--cert-file=${mine.certFile}`, `--key-file=${mine.keyFile}`]);
  assert.match(old.one('credentials.dates', mine.certFile).seen, /the certificate of CN=mine expired on/);
  assert.equal(old.one('broker.mqtt').outcome, 'failed');
});

test('a wrong password and rules that refuse: what the broker says, in words', { skip }, async () => {
  await using dir = await tempDir();
  const acl = join(dir.path, 'acl');
  await writeFile(acl, 'user operator\ntopic readwrite #\nuser agent\ntopic read yggdrasil/host-1/+/in\n');
  await using broker = await startMosquitto({
    users: { agent: 'right-password', operator: 'secret' },
    config: [`acl_file ${acl}`],
  });
  await using home = await Home.make();
  const password = join(dir.path, 'password');
  await writeFile(password, 'wrong-password\n', { mode: 0o600 });
  await writeFile(home.path('config/config.toml'), 'client-id = "host-1"\n');
  const flags = [...directoriesOf(home), `--broker=${broker.url}`, '--username=agent', `--password-file=${password}`];
  const wrong = (await doctor(home, flags)).one('broker.mqtt');
  assert.equal(wrong.outcome, 'failed');
  assert.match(`${wrong.seen} ${wrong.todo}`, /password|authorised/);
  assert.doesNotMatch(JSON.stringify(wrong), /wrong-password/);

  await writeFile(password, 'right-password\n');
  const refused = await doctor(home, flags);
  const rules = refused.one('broker.rules');
  assert.equal(rules.outcome, 'failed', rules.seen);
  assert.match(
    rules.seen,
    /takes nothing from this user for host-1’s data\/out \((not authorised|it ends the connection)\)/,
  );
  assert.equal(refused.one('broker.queue').outcome, 'skipped');
  assert.equal(refused.one('broker.round-trip').outcome, 'ok');
});

test('somebody else is on line under our client id', { skip }, async () => {
  await using bench = await makeBench();
  await bench.start();
  await bench.operator.status(({ state }) => state === 'online');
  await using other = await Home.make();
  await writeFile(other.path('config/config.toml'), `broker = ["${bench.broker.url}"]\nclient-id = "host-1"\n`);
  const found = await doctor(other, directoriesOf(other));
  const id = found.one('broker.client-id');
  assert.equal(id.outcome, 'warning', id.seen);
  assert.match(id.todo, /another machine with this client id/);
});

test('a proxy that refuses, and one that carries', { skip }, async () => {
  await using broker = await startMosquitto();
  await using home = await Home.make();
  for (const [status, outcome] of [
    [407, 'failed'],
    [200, 'ok'],
  ] as const) {
    await using proxy = await startConnectProxy(status);
    const settings = `broker = ["${broker.url}"]\nproxy = "http://user:proxy-secret@127.0.0.1:${proxy.port}"\nno-proxy = []\n`;
    await writeFile(home.path('config/config.toml'), settings);
    const found = await doctor(home, directoriesOf(home));
    assert.equal(found.one('broker.proxy').outcome, outcome, found.one('broker.proxy').seen);
    assert.doesNotMatch(JSON.stringify(found.findings), /proxy-secret/);
    if (status === 407) assert.match(found.one('broker.proxy').todo, /credentials file/);
    else assert.equal(found.one('broker.mqtt').outcome, 'ok');
  }
});

test('a silent host and one that speaks no MQTT are given up', { skip: false }, async () => {
  await using home = await Home.make();
  for (const [answer, expected] of [
    ['', /did not answer in time/],
    ['SSH-2.0-OpenSSH_9.2\r\n', /could not be read as MQTT|closed the connection/],
    [Buffer.alloc(9 * 1024 * 1024, 0x31), /MQTT|nobody asked/],
  ] as const) {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => undefined);
      if (answer !== '') socket.write(answer);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const port = typeof address === 'object' ? address?.port : undefined;
    const words = [...directoriesOf(home), `--broker=mqtt://127.0.0.1:${port ?? 0}`, '--timeout=500ms'];
    const mqtt = (await doctor(home, words)).one('broker.mqtt');
    for (const socket of sockets) socket.destroy();
    server.close();
    assert.equal(mqtt.outcome, 'failed');
    assert.match(mqtt.seen, expected);
  }
});

test('a configuration that is wrong: every problem with its line, and all else is looked at', async () => {
  await using home = await Home.make();
  const secret = 'hunter2-in-the-file';
  await writeFile(
    home.path('config/config.toml'),
    `brokr = ["mqtt://x"]\nmqtt-version = "4"\nproxy = 7\nbroker = "http://u:${secret}@x"\nlog-level = "loud"\n`,
  );
  const found = await doctor(home, directoriesOf(home));
  assert.equal(found.code, 1);
  const texts = found.of('config').map(({ seen }) => seen);
  assert.equal(texts.length, 5, texts.join('\n'));
  assert.match(texts.join('\n'), /config\.toml:1: unknown setting `brokr`; did you mean “broker”/);
  assert.match(texts.join('\n'), /config\.toml:5: `log-level` must be one of/);
  assert.doesNotMatch(JSON.stringify(found.findings), new RegExp(secret));
  assert.equal(found.one('place', home.path('workers')).outcome, 'ok');
  assert.equal(found.one('disk.space').outcome, 'ok');
});

test('workers that cannot start: each with its reason', { skip: notRoot }, async () => {
  await using home = await Home.make();
  await home.addWorker('echo-worker', 'good-worker');
  await home.addProgram('gone-worker', '#!/opt/no/such/python3\n');
  await home.addProgram('env-worker', '#!/usr/bin/env -S no-such-interpreter -x\n');
  await home.addProgram('windows-worker', '#!/bin/sh\r\nexit\r\n');
  await home.addProgram('text-worker', 'echo hello\n');
  await home.addProgram('empty-worker', '');
  await home.addProgram('plain-worker', '#!/bin/sh\n');
  await chmod(home.path('workers/plain-worker'), 0o644);
  await home.addProgram('open-worker', '#!/bin/sh\n');
  await chmod(home.path('workers/open-worker'), 0o757);
  await home.addProgram('out-worker', '#!/bin/sh\n');
  await home.addProgram('elf-worker', '');
  const head = Buffer.alloc(64);
  head.write('\u007fELF\u0002\u0001\u0001', 'latin1');
  head.writeUInt16LE(8, 18);
  await writeFile(home.path('workers/elf-worker'), head);
  await home.writeWorkerFile('good-worker', 'concurency = 4\n');
  await home.writeWorkerFile('env-worker', 'user = "no-such-user"\n');
  await home.writeWorkerFile('nobody', 'args = []\n');
  await home.writeWorkerFile('original', `exec = "/usr/libexec/yggdrasil/gone-worker"\n`);
  await writeFile(home.path('config/config.toml'), 'exclude-worker = ["out-worker", "never-worker"]\n');
  const found = await doctor(home, [...directoriesOf(home), '--broker=mqtt://127.0.0.1:1']);
  const seen = (check: string, about: string): string => {
    const one = found.one(check, about);
    assert.equal(one.outcome, check === 'worker.excluded' ? one.outcome : 'failed', one.seen);
    return one.seen;
  };
  assert.match(seen('worker.file', 'gone-worker'), /\/opt\/no\/such\/python3 is not there/);
  assert.match(seen('worker.file', 'env-worker'), /no-such-interpreter is not there/);
  assert.match(seen('worker.settings', 'env-worker'), /there is no user "no-such-user"/);
  assert.match(seen('worker.file', 'windows-worker'), /as on Windows/);
  assert.match(seen('worker.file', 'text-worker'), /without a first line such as #!/);
  assert.match(seen('worker.file', 'empty-worker'), /it is empty/);
  assert.match(seen('worker.file', 'plain-worker'), /not executable/);
  assert.match(seen('worker.file', 'open-worker'), /can be written by every user/);
  assert.match(seen('worker.file', 'elf-worker'), /built for mips, and this machine is/);
  assert.match(seen('worker.settings', 'good-worker'), /unknown setting `concurency`; did you mean “concurrency”/);
  assert.equal(found.one('worker.excluded', 'out-worker').outcome, 'ok');
  assert.equal(found.one('worker.excluded', 'never-worker').outcome, 'warning');
  const orphans = found.of('worker.settings').filter(({ seen: text }) => text === 'it belongs to no executable');
  assert.deepEqual(
    orphans.map(({ about }) => about),
    [home.path('config/workers/nobody.toml')],
  );

  await chmod(home.path('workers'), 0o777);
  const open = (await doctor(home, [...directoriesOf(home), '--broker=mqtt://127.0.0.1:1'])).one('workers');
  assert.match(open.seen, /^no worker is started, since others could put anything there/);
  assert.equal(open.outcome, 'failed');
});

test('a worker that ends again and again, and dead messages, as the agent tells them', { skip }, async () => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  await home.addProgram('crash-worker', '#!/bin/sh\nexit 3\n');
  await home.addRun('flaky-worker', ['--handler', 'flaky'], ['/bin/sh', '-c', 'exit 75']);
  await bench.startWith(['flaky'], ['--max-attempts=1']);
  await operator.answerTo(await operator.send('flaky', '1'));
  let found = await doctor(home);
  // It may just be starting once more.
  while (found.one('agent.worker', 'crash-worker').outcome !== 'failed') found = await doctor(home);
  assert.equal(found.code, 1);
  const worker = found.one('agent.worker', 'crash-worker');
  assert.match(worker.seen, /^backoff: .*exit code 3/);
  assert.match(found.one('agent.dead').seen, /^1 messages were given up/);
});

test(
  'another user is told what could not be looked at, and why; nothing fails for it',
  { skip: skip || notRoot },
  async () => {
    await using dir = await tempDir();
    await chmod(dir.path, 0o755);
    const { authority, server, client } = await makeCertificates(dir.path);
    await chmod(client.keyFile, 0o600);
    await using broker = await startMosquitto({ tls: { caFile: authority.caFile, ...server } });
    await using home = await Home.make();
    await chmod(home.path(), 0o755);
    const flags = [
      `--broker=mqtts://127.0.0.1:${broker.tlsPort}`,
      ...[`--cert-file=${client.certFile}`, `--key-file=${client.keyFile}`, `--ca-root=${authority.caFile}`],
    ];
    await using yggd = await Yggd.start({ home, args: flags });
    const found = await doctor(home, [...directoriesOf(home), ...flags], NOBODY);
    assert.equal(found.one('agent').outcome, 'skipped');
    assert.match(found.one('agent').seen, /this user may not ask it/);
    const key = found.one('credentials.file', client.keyFile);
    assert.deepEqual([key.outcome, /may not read it/.test(key.seen)], ['skipped', true], key.seen);
    assert.equal(found.one('broker.tls').outcome, 'ok');
    assert.equal(found.one('broker.mqtt').outcome, 'skipped');
    assert.match(found.one('doctor.user').seen, /and the agent runs as root/);
    assert.deepEqual(
      found.findings.filter(({ outcome }) => outcome === 'failed'),
      [],
    );
    assert.equal(found.code, 0);
    assert.ok(yggd.pid > 0);
  },
);

test(
  'root gives no secret of its own to the broker of an agent that could not read it',
  { skip: notRoot },
  async () => {
    await using home = await Home.make();
    const sent: Buffer[] = [];
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.on('data', (chunk) => sent.push(chunk));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
    for (const name of ['', 'state', 'run']) {
      await mkdir(home.path(name), { recursive: true });
      await chown(home.path(name), NOBODY, NOBODY);
    }
    await using dir = await tempDir();
    const secret = join(dir.path, 'of-root');
    await writeFile(secret, 'only-root-knows-this\n', { mode: 0o600 });
    await using yggd = await Yggd.start({ home, args: [`--broker=mqtt://127.0.0.1:${port}`], uid: NOBODY });
    const config = 'username = "me"\nclient-id = "host-1"\n';
    await writeFile(home.path('config/mine'), 'mine\n');
    for (const [file, isTold] of [
      [home.path('config/mine'), true],
      [secret, false],
    ] as const) {
      await writeFile(home.path('config/config.toml'), `${config}password-file = "${file}"\n`);
      sent.length = 0;
      const found = await doctor(home, ['--timeout=500ms']);
      assert.match(found.one('config').seen, new RegExp(`running agent \\(pid ${yggd.pid}\\)`));
      const text = Buffer.concat(sent).toString('latin1');
      assert.equal(text.includes('ygg-doctor-'), isTold, text);
      assert.ok(!text.includes('only-root-knows-this'));
      const judged = found.of('credentials.file', file).map(({ outcome }) => outcome);
      assert.equal(judged.includes('failed'), !isTold, JSON.stringify(found.of('credentials.file', file)));
    }
    server.close();
  },
);

test('directories that others could change, or the agent cannot use', { skip: notRoot }, async () => {
  await using home = await Home.make();
  await mkdir(home.path('state'), { mode: 0o700 });
  await chmod(home.path('state'), 0o755);
  await chmod(home.path('config'), 0o777);
  await writeFile(home.path('config/password'), 'a-password\n', { mode: 0o644 });
  await appendFile(
    home.path('config/config.toml'),
    `password-file = "password"\nkey-file = "no.key"\ncert-file = "no.crt"\n`,
  );
  const found = await doctor(home, [...directoriesOf(home), '--broker=mqtt://127.0.0.1:1']);
  assert.match(found.one('place', home.path('config')).seen, /others could change it: .* can be written by every user/);
  const state = found.one('place', home.path('state'));
  assert.deepEqual([state.outcome, state.todo], ['warning', `chmod g-rx,o-rx ${home.path('state')}`]);
  const password = found.of('credentials.file', home.path('config/password')).map(({ seen }) => seen);
  assert.match(password.join('\n'), /every user of this machine can read it/);
  assert.match(found.one('credentials.file', home.path('config/no.key')).seen, /there is no such file/);
  await rm(home.path('workers'), { recursive: true });
  await writeFile(home.path('workers'), '');
  assert.match(
    (await doctor(home, [...directoriesOf(home), '--broker=mqtt://127.0.0.1:1'])).one('place', home.path('workers'))
      .seen,
    /is not a directory/,
  );
});

test('wrong words are refused', async () => {
  for (const [words, problem] of [
    [['--timeout=soon'], /a time such as 10s/],
    [['--backlog=1'], /a whole number from 2 to/],
    [['--brokr=x'], /Did you mean --broker\?/],
  ] as const) {
    const { code, stderr } = await ygg(undefined, ['doctor', ...words]);
    assert.notEqual(code, 0);
    assert.match(stderr, problem);
  }
});
