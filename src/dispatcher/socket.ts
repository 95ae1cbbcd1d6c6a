/**
 * The directory and the sockets of one worker: `w/<name>/` with mode 0700, owned by the user the worker runs as.
 * While the agent works in it, the directory belongs to the agent, so that a worker that is root's guest cannot put a
 * link where root is about to change an owner.
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { chmod, chown, lchown, lstat, mkdir, open, rename, rm, rmdir } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { AgentError, errnoOf, errorText } from '../errors.js';
import type { WorkerName } from '../message/ids.js';

/** sun_path has 108 bytes on Linux, the last of them NUL. */
const MAX_SOCKET_PATH = 107;

/** Where one side listens. */
export interface Endpoint {
  /** What Node binds and connects to; an abstract name begins with NUL. */
  readonly path: string;
  /** What a worker is told: the path, or `@name`. */
  readonly announced: string;
}

export interface WorkerSockets {
  readonly kind: 'path' | 'abstract';
  readonly directory: string;
  /** Where the agent listens for this worker. */
  readonly dispatcher: Endpoint;
  /** Where the worker is asked to listen. */
  readonly worker: Endpoint;
}

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** The sockets of a worker; throws `runtime.path_too_long` or `worker.config` when they cannot be bound. */
export function socketsOf(runtimeDir: string, name: WorkerName, kind: 'path' | 'abstract'): WorkerSockets {
  const directory = join(workersDirectory(runtimeDir), name);
  if (kind === 'abstract') {
    if (!hasAbstractSockets()) throw abstractUnsupported(name);
    // Not a secret (the kernel lists them), but nobody can take the name before we do.
    const stem = `yggdrasil-${name}-${randomBytes(8).toString('hex')}`;
    return { kind, directory, dispatcher: abstractEndpoint(`${stem}-d`), worker: abstractEndpoint(`${stem}-w`) };
  }
  const path = join(directory, 'd.sock');
  checkLength(path, `the worker ${name}`);
  return { kind, directory, dispatcher: fileEndpoint(path), worker: fileEndpoint(join(directory, 'w.sock')) };
}

function checkLength(path: string, whom: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes <= MAX_SOCKET_PATH) return;
  throw new AgentError(
    'runtime.path_too_long',
    `cannot listen for ${whom} at ${path}: the path has ${bytes} bytes and a socket may have ${MAX_SOCKET_PATH}; set a shorter "runtime-dir"`,
    { path, bytes },
  );
}

/** Node before 22 pads an abstract name to the full length of an address, where no other language finds it. */
export function hasAbstractSockets(): boolean {
  return Number.parseInt(process.versions.node, 10) >= 22;
}

function fileEndpoint(path: string): Endpoint {
  return { path, announced: path };
}

function abstractEndpoint(name: string): Endpoint {
  return { path: `\0${name}`, announced: `@${name}` };
}

function abstractUnsupported(name: WorkerName): AgentError {
  return new AgentError(
    'worker.config',
    `cannot give ${name} an abstract socket: that takes Node 22 or newer and this is ${process.version}; set socket = "path" in its file, or run the agent on a newer Node`,
    { name, node: process.version },
  );
}

function workersDirectory(runtimeDir: string): string {
  return join(runtimeDir, 'w');
}

/** The shortest name of a worker: what its directory is called at least. */
const SHORTEST_NAME = 'worker';

/**
 * Makes the directory above those of the workers: anyone may pass, nobody may look around. Throws
 * `runtime.path_too_long` when no worker's socket would fit below it, and `runtime.unusable`, also where `wayProblem`
 * finds that others could put another directory in its place.
 */
export async function makeWorkersDirectory(
  runtimeDir: string,
  wayProblem: (directory: string) => Promise<string | undefined> = () => Promise.resolve(undefined),
): Promise<void> {
  const path = workersDirectory(runtimeDir);
  checkLength(join(path, SHORTEST_NAME, 'd.sock'), 'workers');
  await usable(path, async () => {
    const isMade = (await mkdir(runtimeDir, { recursive: true, mode: 0o711 })) !== undefined;
    await mkdir(path, { recursive: true, mode: 0o711 });
    const problem = await wayProblem(path);
    if (problem !== undefined) throw new Error(problem);
    // Whatever the umask is; a directory that somebody else made keeps its mode.
    if (isMade) await chmod(runtimeDir, 0o711);
    await chmod(path, 0o711);
  });
}

/** Makes a worker's directory, or takes it back: until it is given, only the agent can change what is in it. */
async function takeDirectory(sockets: WorkerSockets): Promise<void> {
  await usable(sockets.directory, async () => {
    await mkdir(sockets.directory, { recursive: true, mode: 0o700 });
    if (isRoot()) await chown(sockets.directory, 0, 0);
    await chmod(sockets.directory, 0o700);
  });
}

/** Hands the directory, with the socket that now listens in it, to the worker's user. */
async function giveDirectory(sockets: WorkerSockets, owner: Owner | undefined): Promise<void> {
  await usable(sockets.directory, async () => {
    await chmod(sockets.dispatcher.path, 0o600);
    if (!isRoot() || owner === undefined) return;
    await lchown(sockets.dispatcher.path, owner.uid, owner.gid);
    await chown(sockets.directory, owner.uid, owner.gid);
  });
}

/**
 * Removes the sockets and the directory. What else the worker may have left there stays, and the directory with it:
 * to delete trees that another user can rearrange is not safe for root.
 */
export async function removeDirectory(sockets: WorkerSockets): Promise<void> {
  if (sockets.kind === 'abstract') return;
  try {
    await rm(sockets.dispatcher.path, { force: true });
    await rm(sockets.worker.path, { force: true });
    await rmdir(sockets.directory);
  } catch {
    // Not empty, or gone already: neither keeps anybody from stopping.
  }
}

/** What listens, and which file it listens on. */
export interface Bound<S> {
  readonly server: S;
  /** Device and inode; undefined for an abstract socket. */
  readonly file: string | undefined;
}

/** Binds the agent's end: takes the directory, clears it of a stale file, listens, and gives it to the worker's user. */
export async function bindDispatcher<S>(
  sockets: WorkerSockets,
  owner: Owner | undefined,
  listen: (path: string) => Promise<S>,
): Promise<Bound<S>> {
  const { path } = sockets.dispatcher;
  if (sockets.kind === 'abstract') return { server: await listen(path), file: undefined };
  await takeDirectory(sockets);
  await usable(sockets.directory, () => clear(path));
  const server = await listen(path);
  const file = await socketAt(path);
  await giveDirectory(sockets, owner);
  return { server, file };
}

/**
 * Takes away what stands where a socket shall be. A directory, which a worker can leave there, is only moved aside under
 * another name beside it: it would keep the worker from ever starting again, and what is in it is not ours to look at.
 */
async function clear(path: string): Promise<void> {
  try {
    await rm(path, { force: true });
  } catch (error) {
    if (!(await lstat(path)).isDirectory()) throw error;
    await rename(path, `${path}.${randomBytes(8).toString('hex')}`);
  }
}

/**
 * Makes what was bound before the given user's. False when it must be bound again: the socket has gone, or another file
 * stands in its place. That could be a second name of somebody else's socket, which must not change its owner.
 */
export async function renewDispatcher(
  sockets: WorkerSockets,
  owner: Owner | undefined,
  bound: Bound<unknown>,
): Promise<boolean> {
  if (sockets.kind === 'abstract') return true;
  await takeDirectory(sockets);
  const file = await socketAt(sockets.dispatcher.path);
  if (file === undefined || file !== bound.file) return false;
  await giveDirectory(sockets, owner);
  return true;
}

/** Device and inode of the socket file, or undefined when none is there. */
async function socketAt(path: string): Promise<string | undefined> {
  try {
    const stat = await lstat(path, { bigint: true });
    return stat.isSocket() ? `${stat.dev}:${stat.ino}` : undefined;
  } catch {
    // Missing, or out of reach: either way it must be made again.
    return undefined;
  }
}

/** Removes a socket file that nobody listens on: a worker that finds one there cannot bind. */
export async function removeStaleSocket({ path }: Endpoint): Promise<void> {
  if (path.startsWith('\0')) return;
  if (!(await isListening(path))) await clear(path);
}

/** open(2): a descriptor that only names the file. Node has no name for it. */
const O_PATH = 0o10000000;

/**
 * Whether somebody listens on this very file. It is the worker's to replace, so it is held first and connected to by its
 * descriptor: a link that leads elsewhere is not followed.
 */
async function isListening(path: string): Promise<boolean> {
  try {
    const file = await open(path, O_PATH | constants.O_NOFOLLOW);
    try {
      return (await file.stat()).isSocket() && (await accepts(`/proc/self/fd/${file.fd}`));
    } finally {
      await file.close();
    }
  } catch {
    // Missing, or out of reach: nobody who could be spoken to.
    return false;
  }
}

function accepts(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    const answer = (isThere: boolean) => (): void => {
      socket.destroy();
      resolve(isThere);
    };
    socket.once('connect', answer(true));
    socket.once('error', answer(false));
  });
}

function isRoot(): boolean {
  return process.getuid?.() === 0;
}

async function usable(path: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    throw new AgentError(
      'runtime.unusable',
      `cannot prepare the sockets of workers in ${path}: ${errorText(error)}; check the owner and mode of "runtime-dir"`,
      { path, errno: errnoOf(error) },
      { cause: error },
    );
  }
}
