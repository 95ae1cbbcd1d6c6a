/** The sockets themselves: modes, owners, stale files, lengths, abstract names, and the bytes on the wire. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, link, lstat, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { credentials, makeGenericClientConstructor, type MethodDefinition } from '@grpc/grpc-js';
import { Dispatcher } from '../../src/dispatcher/index.js';
import { hasAbstractSockets } from '../../src/dispatcher/socket.js';
import { AgentError } from '../../src/errors.js';
import { Harness, SETTINGS, workerName } from '../unit/dispatcher/harness.js';

const run = promisify(execFile);
const mode = async (path: string): Promise<string> => ((await stat(path)).mode & 0o777).toString(8);
const isRoot = process.getuid?.() === 0;

test('each worker has a directory that only its user can enter', async () => {
  await using harness = await Harness.inMemory();
  await harness.worker();
  const w = join(harness.directory.path, 'w');
  assert.equal(await mode(w), '711');
  assert.equal(await mode(join(w, 'echo-worker')), '700');
  assert.equal(await mode(join(w, 'echo-worker', 'd.sock')), '600');
});

test(
  'as root, the worker’s user reaches its own socket and nobody else does',
  { skip: isRoot ? false : 'changing the owner of a socket needs root' },
  async () => {
    await using harness = await Harness.inMemory();
    await chmod(harness.directory.path, 0o711);
    const [uid, stranger] = [54_321, 54_322];
    const { address } = await harness.dispatcher.prepare({
      name: workerName('echo-worker'),
      settings: SETTINGS,
      uid,
      gid: uid,
    });
    const path = address.slice('unix:'.length);
    assert.equal((await stat(path)).uid, uid);
    const reach = `require('node:net').connect(${JSON.stringify(path)})
      .on('connect', () => { console.log('reached'); process.exit(); }).on('error', (e) => console.log(e.code));`;
    const as = async (id: number): Promise<string> =>
      (await run(process.execPath, ['-e', reach], { uid: id, gid: id, cwd: '/' })).stdout.trim();
    assert.equal(await as(uid), 'reached');
    assert.equal(await as(stranger), 'EACCES');
  },
);

test('a socket file that an agent killed before left behind is replaced', async () => {
  await using harness = await Harness.inMemory();
  const directory = join(harness.directory.path, 'w', 'echo-worker');
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, 'd.sock'), '');
  const worker = await harness.worker();
  assert.equal((await worker.register('echo')).registered, true);
});

test('a directory that a worker left in the place of a socket is moved aside, with all that is in it', async () => {
  await using harness = await Harness.inMemory();
  const directory = join(harness.directory.path, 'w', 'echo-worker');
  for (const name of ['d.sock', 'w.sock']) {
    await mkdir(join(directory, name), { recursive: true });
    await writeFile(join(directory, name, 'mine'), name);
  }
  const worker = await harness.worker();
  assert.equal((await worker.join('echo')).registered, true);
  const aside = (await readdir(directory)).filter((name) => name.includes('.sock.')).toSorted();
  const kept = await Promise.all(aside.map((name) => readFile(join(directory, name, 'mine'), 'utf8')));
  assert.deepEqual(kept, ['d.sock', 'w.sock']);
});

test('preparing a worker again keeps its socket, and makes it again when the file has gone', async () => {
  await using harness = await Harness.inMemory();
  const worker = await harness.worker();
  const first = await harness.dispatcher.prepare({ name: workerName('echo-worker'), settings: SETTINGS });
  assert.equal((await worker.register('echo')).registered, true);
  await run('rm', [first.address.slice('unix:'.length)]);
  const again = await harness.worker();
  assert.equal((await again.register('echo')).registered, true);
});

test('a stale socket of the worker is removed before its path is handed out, one that is listened on is kept', async () => {
  await using harness = await Harness.inMemory();
  const worker = await harness.worker();
  const path = join(harness.directory.path, 'w', 'echo-worker', 'w.sock');
  await writeFile(path, '');
  await worker.register('echo');
  await assert.rejects(stat(path), { code: 'ENOENT' });
  harness.died();
  const listener = await listening(path);
  const next = await harness.worker();
  await next.register('echo');
  assert.ok((await stat(path)).isSocket());
  await new Promise((resolve) => listener.close(resolve));
});

test('a path over 107 bytes is an error that names the setting', async () => {
  await using harness = await Harness.inMemory();
  const name = workerName(`${'x'.repeat(64 - '-worker'.length)}-worker`);
  const room = 107 - harness.directory.path.length - `/w/${name}/d.sock`.length;
  assert.ok(room < 107);
  const deep = new Dispatcher({
    runtimeDir: join(harness.directory.path, 'y'.repeat(room)),
    store: harness.store,
    clock: { now: () => 0, monotonic: () => 0, after: () => undefined },
    random: () => 0,
    log: harness.log,
    agentConfig: () => ({ logLevel: '', clientId: '', server: '', certFile: '', keyFile: '', caRoot: '' }),
  });
  await assert.rejects(
    deep.prepare({ name, settings: SETTINGS }),
    (error: unknown) =>
      error instanceof AgentError && error.code === 'runtime.path_too_long' && error.message.includes('runtime-dir'),
  );
});

test('a runtime directory that cannot be used is an error that names it', async () => {
  await using harness = await Harness.inMemory();
  await writeFile(join(harness.directory.path, 'w', 'echo-worker'), 'a file where the directory should be');
  await assert.rejects(
    harness.worker(),
    (error: unknown) => error instanceof AgentError && error.code === 'runtime.unusable',
  );
});

test('a stop takes the sockets away, and a stopped dispatcher prepares nothing', async () => {
  await using harness = await Harness.inMemory();
  await harness.worker();
  await harness.dispatcher.stop(0);
  assert.deepEqual(await readdir(join(harness.directory.path, 'w')), []);
  await assert.rejects(harness.worker(), /the agent is stopping/);
});

test(
  'an abstract socket is refused by a Node that cannot make one',
  { skip: hasAbstractSockets() ? 'this Node has abstract sockets' : false },
  async () => {
    await using harness = await Harness.inMemory();
    await assert.rejects(
      harness.worker('echo-worker', { socket: 'abstract' }),
      (error: unknown) =>
        error instanceof AgentError && error.code === 'worker.config' && /Node 22/.test(error.message),
    );
  },
);

test(
  'a worker whose file asks for it registers and is called over abstract sockets',
  { skip: hasAbstractSockets() ? false : 'abstract sockets need Node 22' },
  async () => {
    await using harness = await Harness.inMemory();
    const { address } = await harness.dispatcher.prepare({
      name: workerName('echo-worker'),
      settings: { ...SETTINGS, socket: 'abstract' },
    });
    assert.match(address, /^unix:@yggdrasil-echo-worker-/);
    const worker = await harness.worker(
      'echo-worker',
      { socket: 'abstract' },
      { address: `unix:\0${address.slice(6)}` },
    );
    const key = harness.store.add();
    const response = await worker.register('echo');
    assert.match(response.address, /^@yggdrasil-echo-worker-/);
    await worker.listen(`\0${response.address.slice(1)}`);
    assert.equal(await harness.store.endOf(key), 'delivered');
    await harness.worker('echo-worker');
    assert.deepEqual(harness.news, ['+echo-worker/echo', '-echo-worker/echo']);
  },
);

test('Register and Send answer with the bytes that workers of the original expect', async () => {
  await using harness = await Harness.inMemory();
  const { address } = await harness.dispatcher.prepare({ name: workerName('echo-worker'), settings: SETTINGS });
  const Raw = makeGenericClientConstructor(
    { register: raw('/yggdrasil.Dispatcher/Register'), send: raw('/yggdrasil.Dispatcher/Send') },
    'yggdrasil.Dispatcher',
  );
  const client = new Raw(address, credentials.createInsecure());
  const call = (method: string, bytes: Buffer): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      client.makeUnaryRequest(
        method,
        (value: Buffer) => value,
        (value: Buffer) => value,
        bytes,
        (error: Error | null, value?: Buffer) => (error === null ? resolve(value!) : reject(error)),
      );
    });
  // handler "echo", pid 300, detached_content true, features {"a": "b"}
  const register = Buffer.from('0a046563686f' + '10ac02' + '1801' + '22060a0161120162', 'hex');
  const path = `${harness.directory.path}/w/echo-worker/w.sock`;
  assert.deepEqual(
    await call('/yggdrasil.Dispatcher/Register', register),
    Buffer.concat([Buffer.from([0x08, 1, 0x12, path.length]), Buffer.from(path)]),
  );
  assert.equal(harness.store.workers.get(workerName('echo-worker'))?.handlers[0]?.detachedContent, true);
  // message_id "r1", metadata {"a": "b"}, content "{}", response_to "m1", directive "echo"
  const send = Buffer.from('0a027231' + '12060a0161120162' + '1a027b7d' + '22026d31' + '2a046563686f', 'hex');
  assert.deepEqual(await call('/yggdrasil.Dispatcher/Send', send), Buffer.alloc(0));
  assert.deepEqual(harness.store.results[0]?.content, Buffer.from('{}'));
  client.close();
});

function raw(path: string): MethodDefinition<Buffer, Buffer> {
  return {
    path,
    requestStream: false,
    responseStream: false,
    requestSerialize: (value) => value,
    requestDeserialize: (value) => value,
    responseSerialize: (value) => value,
    responseDeserialize: (value) => value,
  };
}

function listening(path: string): Promise<Server> {
  const server = createServer((socket) => socket.destroy());
  return new Promise((resolve) => server.listen(path, () => resolve(server)));
}

/** Connects to a path from a process of its own; what came of it. */
async function connectFromElsewhere(path: string): Promise<string> {
  const script = `const s = require('node:net').connect(process.argv[1]);
    s.on('connect', () => s.write('PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\x00\\x00\\x00\\x04\\x00\\x00\\x00\\x00\\x00'));
    s.on('data', () => { console.log('answered'); process.exit(); }).on('close', () => console.log('closed'));
    s.on('error', () => undefined);`;
  return (await run(process.execPath, ['-e', script, path])).stdout.trim();
}

test('a process that is none of the worker’s is turned away before it can call, and the log says so once', async () => {
  await using harness = await Harness.inMemory({
    isPeer: (_name, { pid, uid }) => pid === process.pid && uid === process.getuid?.(),
  });
  const worker = await harness.worker();
  assert.equal((await worker.join('echo')).registered, true);
  const path = join(harness.directory.path, 'w', 'echo-worker', 'd.sock');
  for (let i = 0; i < 3; i++) assert.equal(await connectFromElsewhere(path), 'closed');
  const told = harness.log.lines.filter(({ event }) => event === 'dispatcher.peer_refused');
  assert.equal(told.length, 1);
  assert.match(
    told[0]?.text ?? '',
    /^process \d+ of user \d+ is not of this worker's processes: the connection was closed$/,
  );
  // Who is the worker goes on as if nothing had been.
  const key = harness.store.add();
  harness.dispatcher.enqueue(key);
  assert.equal(await harness.store.endOf(key), 'delivered');
});

test('a worker that puts a link to another’s socket where it should listen is not spoken to through it', async () => {
  const isOurs = { value: true };
  await using harness = await Harness.inMemory({ isPeer: () => isOurs.value });
  const heard: Buffer[] = [];
  const victim = createServer((socket) => socket.on('data', (bytes: Buffer) => heard.push(bytes)));
  const place = join(harness.directory.path, 'victim.sock');
  await new Promise<void>((resolve) => victim.listen(place, resolve));
  const worker = await harness.worker();
  const path = join(harness.directory.path, 'w', 'echo-worker', 'w.sock');
  await symlink(place, path);
  await worker.register('echo');
  await assert.rejects(lstat(path), { code: 'ENOENT' }, 'a link is no socket to keep');
  // Now that it has registered, and whoever listens there is somebody else.
  isOurs.value = false;
  const refused = harness.log.written.next(
    AbortSignal.timeout(10_000),
    ({ event }) => event === 'dispatcher.peer_refused',
  );
  await symlink(place, path);
  await refused;
  assert.deepEqual(heard, []);
  victim.close();
});

test(
  'a second name of somebody’s socket in the place of the worker’s never changes its owner',
  { skip: isRoot ? false : 'changing the owner of a socket needs root' },
  async () => {
    await using harness = await Harness.inMemory();
    const [name, uid] = [workerName('echo-worker'), 54_321];
    const victim = createServer();
    const place = join(harness.directory.path, 'victim.sock');
    await new Promise<void>((resolve) => victim.listen(place, resolve));
    const before = await stat(place);
    const prepare = (): Promise<{ address: string }> =>
      harness.dispatcher.prepare({ name, settings: SETTINGS, uid, gid: uid });
    const path = (await prepare()).address.slice('unix:'.length);
    await rm(path);
    await link(place, path);
    assert.equal((await prepare()).address, `unix:${path}`);
    const after = await stat(place);
    assert.deepEqual([after.uid, after.mode], [before.uid, before.mode]);
    assert.notEqual((await stat(path)).ino, before.ino);
    assert.equal((await stat(path)).uid, uid);
    await new Promise((resolve) => victim.close(resolve));
  },
);
