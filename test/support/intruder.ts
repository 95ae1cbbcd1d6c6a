/**
 * A program of another user: it tries every way in that it is given, one after the other, and prints what it tried and
 * what succeeded. It is run by `intrude`, as whoever is to be the attacker.
 */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { credentials, Metadata, status, type ServiceError } from '@grpc/grpc-js';
import { HealthClient } from '../../protocol/generated/health.js';
import { DispatcherClient, Event, WorkerClient } from '../../protocol/generated/yggdrasil.js';
import { ROOT } from './yggd.js';

/** What there is to attack. */
export interface Targets {
  /** Files, directories and sockets; also names that are not there. */
  readonly paths: readonly string[];
  /** Sockets, on which every gRPC method is tried too. */
  readonly sockets: readonly string[];
  readonly pids: readonly number[];
}

export interface Intrusion {
  /** How many ways were tried. */
  readonly tried: number;
  /** Those that succeeded: `what target`. */
  readonly succeeded: readonly string[];
}

const execute = promisify(execFile);
const PATIENCE_MS = 5000;

/** Runs the attack as this user, with its group alone. */
export async function intrude(uid: number, targets: Targets): Promise<Intrusion> {
  const env = { PATH: process.env['PATH'], NODE_V8_COVERAGE: '', TSX_DISABLE_CACHE: '1' };
  const script = fileURLToPath(import.meta.url);
  // In a session of its own: within one, SIGCONT is anybody's to send.
  const words = ['-w', process.execPath, '--import', 'tsx', script, JSON.stringify(targets)];
  const { stdout } = await execute('setsid', words, { uid, gid: uid, cwd: ROOT, env });
  return JSON.parse(stdout) as Intrusion;
}

class Attempts {
  tried = 0;
  readonly succeeded: string[] = [];

  /** One way in; it is shut when this throws. */
  async attempt(what: string, target: string | number, act: () => unknown): Promise<void> {
    this.tried += 1;
    try {
      await act();
      this.succeeded.push(`${what} ${target}`);
    } catch {
      // Refused: as it should be.
    }
  }
}

async function attackPath(on: Attempts, path: string, own: string): Promise<void> {
  const { O_RDONLY, O_WRONLY, O_NONBLOCK } = fs.constants;
  const ways: Readonly<Record<string, () => unknown>> = {
    read: () => fs.closeSync(fs.openSync(path, O_RDONLY | O_NONBLOCK)),
    write: () => fs.closeSync(fs.openSync(path, O_WRONLY | O_NONBLOCK)),
    list: () => fs.readdirSync(path),
    watch: () => fs.watch(path).close(),
    create: () => fs.writeFileSync(join(path, 'intruder'), ''),
    'create it': () => fs.closeSync(fs.openSync(path, 'wx')),
    'make a directory of it': () => fs.mkdirSync(path),
    'make a link of it': () => fs.symlinkSync(own, path),
    'listen on it': () => bind(path),
    'put a file over it': () => fs.renameSync(fileIn(own), path),
    'put a second name over it': () => fs.linkSync(fileIn(own), path),
    rename: () => fs.renameSync(path, `${path}.moved`),
    'take away': () => fs.renameSync(path, join(own, 'taken')),
    unlink: () => fs.unlinkSync(path),
    rmdir: () => fs.rmdirSync(path),
    'give a second name': () => fs.linkSync(path, join(own, 'linked')),
    chmod: () => fs.chmodSync(path, 0o777),
    chown: () => fs.lchownSync(path, process.getuid?.() ?? 0, process.getgid?.() ?? 0),
    truncate: () => fs.truncateSync(path),
    touch: () => fs.utimesSync(path, 0, 0),
  };
  for (const [what, act] of Object.entries(ways)) await on.attempt(what, path, act);
}

function fileIn(own: string): string {
  const path = join(own, 'planted');
  fs.writeFileSync(path, '');
  return path;
}

function bind(path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const server = net.createServer().once('error', reject);
    server.listen(path, () => server.close(() => resolve()));
  });
}

async function attackSocket(on: Attempts, path: string): Promise<void> {
  await on.attempt('connect', path, () => stayConnected(path));
  const address = `unix:${path}`;
  const plain = credentials.createInsecure();
  const dispatcher = new DispatcherClient(address, plain);
  const worker = new WorkerClient(address, plain);
  const health = new HealthClient(address, plain);
  const data = { messageId: '', metadata: {}, content: Buffer.from('{}'), responseTo: '', directive: 'intruder' };
  const asked = { handler: 'intruder', pid: 1n, detachedContent: false, features: {} };
  const none = new Metadata();
  const soon = (): { deadline: number } => ({ deadline: Date.now() + PATIENCE_MS });
  const unary: Readonly<Record<string, (done: Done) => unknown>> = {
    'Dispatcher.Register': (done) => dispatcher.register(asked, none, soon(), done),
    'Dispatcher.Send': (done) => dispatcher.send(data, none, soon(), done),
    'Dispatcher.GetConfig': (done) => dispatcher.getConfig({}, none, soon(), done),
    'Worker.Send': (done) => worker.send(data, none, soon(), done),
    'Worker.NotifyEvent': (done) =>
      worker.notifyEvent({ name: Event.RECEIVED_DISCONNECT, detail: '', metadata: {} }, none, soon(), done),
    'Health.Check': (done) => health.check({ service: '' }, none, soon(), done),
    'Health.Watch': (done) => {
      const stream = health.watch({ service: '' }, none, soon());
      stream.on('data', () => done(null)).on('error', done);
    },
  };
  for (const [method, call] of Object.entries(unary)) {
    await on.attempt(
      method,
      path,
      () => new Promise<void>((resolve, reject) => call((error) => settle(error, resolve, reject))),
    );
  }
  for (const client of [dispatcher, worker, health]) client.close();
}

type Done = (error: ServiceError | Error | null) => void;

/** Only a connection that could not be had counts as refused; any answer means that somebody listened to us. */
function settle(error: ServiceError | Error | null, resolve: () => void, reject: (error: Error) => void): void {
  if (error !== null && 'code' in error && error.code === status.UNAVAILABLE) reject(error);
  else resolve();
}

/** Connected, and not put out at once. */
function stayConnected(path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(path);
    socket.once('error', reject).once('close', () => reject(new Error('closed')));
    // The preface of HTTP/2: a server that lets us in answers with its settings.
    socket.once('connect', () => socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00'));
    socket.once('data', () => {
      socket.destroy();
      resolve();
    });
  });
}

async function attackProcess(on: Attempts, pid: number): Promise<void> {
  const proc = `/proc/${pid}`;
  for (const name of ['environ', 'maps', 'mem', 'auxv', 'stack', 'syscall', 'io', 'fd', 'fdinfo', 'map_files']) {
    await on.attempt('read', join(proc, name), () => readAny(join(proc, name)));
  }
  for (const name of ['root', 'cwd', 'exe', 'fd/0', 'fd/1', 'fd/2', 'ns/mnt']) {
    await on.attempt('follow', join(proc, name), () => fs.readlinkSync(join(proc, name)));
  }
  for (const name of ['mem', 'oom_score_adj', 'coredump_filter', 'clear_refs', 'timerslack_ns']) {
    await on.attempt('write', join(proc, name), () => fs.writeFileSync(join(proc, name), '0'));
  }
  for (const signal of ['SIGCONT', 'SIGHUP', 'SIGUSR1'] as const) {
    await on.attempt(signal, pid, () => process.kill(pid, signal));
  }
  await on.attempt('priority', pid, () => os.setPriority(pid, 19));
  await attackByCalls(on, pid);
}

function readAny(path: string): void {
  if (fs.statSync(path).isDirectory()) fs.readdirSync(path);
  // What it may open it may still not read, as `mem`.
  else fs.readSync(fs.openSync(path, 'r'), Buffer.alloc(1), 0, 1, 0);
}

const PTRACE_ATTACH = 16;
const PTRACE_SEIZE = 0x4206;

/** What only libc can ask for. */
async function attackByCalls(on: Attempts, pid: number): Promise<void> {
  const koffi = await import('koffi').then(
    (module) => module.default,
    () => undefined,
  );
  if (koffi === undefined) return;
  const libc = koffi.load(null);
  const ptrace = libc.func('long ptrace(long request, int pid, void *address, void *data)');
  const syscall = libc.func('long syscall(long number, long one, long two, long three)');
  const refused = (result: unknown): void => {
    if (Number(result) < 0) throw new Error('refused');
  };
  await on.attempt('ptrace attach', pid, () => refused(ptrace(PTRACE_ATTACH, pid, null, null)));
  await on.attempt('ptrace seize', pid, () => refused(ptrace(PTRACE_SEIZE, pid, null, null)));
  if (process.arch !== 'x64' && process.arch !== 'arm64') return;
  // These two numbers are the same on both.
  const handle = Number(syscall(434, pid, 0, 0));
  for (const fd of [0, 1, 2, 3, 20])
    await on.attempt(`pidfd_getfd ${fd}`, pid, () => refused(syscall(438, handle, fd, 0)));
}

async function main(targets: Targets): Promise<Intrusion> {
  const on = new Attempts();
  const own = fs.mkdtempSync(join(os.tmpdir(), 'intruder-'));
  try {
    for (const path of targets.paths) await attackPath(on, path, own);
    for (const path of targets.sockets) await attackSocket(on, path);
    for (const pid of targets.pids) await attackProcess(on, pid);
  } finally {
    fs.rmSync(own, { recursive: true, force: true });
  }
  return { tried: on.tried, succeeded: on.succeeded };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const answer = await main(JSON.parse(process.argv[2] ?? '{}') as Targets);
  process.stdout.write(JSON.stringify(answer), () => process.exit());
}
