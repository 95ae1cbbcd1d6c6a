/**
 * Where the metrics are served: a TCP address, or a Unix socket whose directory nobody else may change, with mode 0660.
 */
import { chmodSync } from 'node:fs';
import { chmod, lstat, mkdir, rm } from 'node:fs/promises';
import { connect, type Server } from 'node:net';
import { dirname } from 'node:path';
import { AgentError, errnoOf, errorText } from '../errors.js';

/** As config has it. */
export type ListenAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

export type WayCheck = (directory: string) => Promise<string | undefined>;

/** Listens; gives the address as a person would write it. Throws `metrics.listen_failed`. */
export async function listen(server: Server, address: ListenAddress, wayProblem?: WayCheck): Promise<string> {
  try {
    if (address.kind === 'tcp') return await listenOnTcp(server, address.host, address.port);
    await makeWay(address.path, wayProblem);
    await listenOnPath(server, address.path);
    return `unix:${address.path}`;
  } catch (error) {
    const where = address.kind === 'tcp' ? textOf(address.host, address.port) : address.path;
    const text = `cannot serve metrics at ${where}: ${reasonOf(error)}; see "metrics-listen"`;
    throw new AgentError('metrics.listen_failed', text, { address: where }, { cause: error });
  }
}

/** Whether only programs of this machine reach it. */
export function isLocal(address: ListenAddress): boolean {
  return address.kind === 'unix' || address.host === '::1' || /^127\./.test(address.host);
}

async function listenOnTcp(server: Server, host: string, port: number): Promise<string> {
  await bound(server, () => server.listen({ host, port }));
  const now = server.address();
  return textOf(host, typeof now === 'object' && now !== null ? now.port : port);
}

async function listenOnPath(server: Server, path: string): Promise<void> {
  await bound(server, () => {
    // Node binds in this call. Without rights for others from the first moment on, whatever the umask is.
    const before = process.umask(0o007);
    try {
      server.listen({ path });
      if (server.listening) chmodSync(path, 0o660);
    } finally {
      process.umask(before);
    }
  });
}

function bound(server: Server, begin: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (settled: () => void): void => {
      server.off('error', failed).off('listening', listening);
      settled();
    };
    const failed = (error: Error): void => settle(() => reject(error));
    const listening = (): void => settle(resolve);
    server.once('error', failed).once('listening', listening);
    begin();
  });
}

/** Makes the directory, and takes away what an agent that was killed has left. Nothing else is ever removed. */
async function makeWay(path: string, wayProblem?: WayCheck): Promise<void> {
  const directory = dirname(path);
  const isMade = (await mkdir(directory, { recursive: true, mode: 0o711 })) !== undefined;
  const problem = await wayProblem?.(directory);
  if (problem !== undefined) throw new Error(problem);
  // Whatever the umask is: it may be the runtime directory, which workers have to pass.
  if (isMade) await chmod(directory, 0o711);
  const present = await lstat(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (present === undefined) return;
  if (!present.isSocket()) throw new Error('there is something else at this path, which is no socket');
  if (await answers(path)) throw new Error('another program listens there');
  await rm(path, { force: true });
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const settle = (isAnswered: boolean) => (): void => {
      socket.destroy();
      resolve(isAnswered);
    };
    socket.once('connect', settle(true)).once('error', settle(false));
  });
}

function reasonOf(error: unknown): string {
  switch (errnoOf(error)) {
    case 'EADDRINUSE':
      return 'another program listens there';
    case 'EADDRNOTAVAIL':
      return 'this machine does not have this address';
    case 'EACCES':
      return 'the daemon’s user may not listen there';
    default:
      return errorText(error);
  }
}

function textOf(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
