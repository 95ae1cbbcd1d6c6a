/**
 * The worker's own socket. It stands at the address of the last registration; only the worker's user can connect. A
 * file that vanished, or that is not ours any more, is bound anew.
 */
import { rm, stat } from 'node:fs/promises';
import { type Server, ServerCredentials } from '@grpc/grpc-js';
import { AgentError } from '../errors.js';
import { parseSocketAddress, type SocketAddress } from './address.js';

/** Read and write for the owner only: what is left of 0777 for a socket. */
const PRIVATE = 0o177;

interface Bound {
  readonly target: string;
  /** Device and inode of the socket's file; undefined for an abstract one. */
  readonly file: string | undefined;
}

export class Listener {
  #bound: Bound | undefined;

  constructor(private readonly server: Server) {}

  /** Listens at `address`; does nothing where it already does. Throws worker.unreachable where it cannot. */
  async listen(address: string): Promise<void> {
    const socket = parseSocketAddress(address);
    if (socket.kind === 'unknown') {
      throw new AgentError(
        'worker.unreachable',
        `cannot listen at the agent's address "${address}": not a Unix socket`,
      );
    }
    if (this.#bound?.target === socket.target && this.#bound.file === (await fileIdentity(socket))) return;
    // Node removes the file of a listener that closes, so the old one goes before the new one comes.
    if (this.#bound !== undefined) this.server.unbind(this.#bound.target);
    this.#bound = undefined;
    if (socket.kind === 'path') await rm(socket.path, { force: true });
    await this.#bind(socket.target, address);
    this.#bound = { target: socket.target, file: await fileIdentity(socket) };
  }

  /** Ends the listening, waits for the answers under way, and cuts them off when `hard` ends first. */
  close(hard: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const cut = (): void => {
        this.server.forceShutdown();
        resolve();
      };
      hard.addEventListener('abort', cut, { once: true });
      this.server.tryShutdown(() => {
        hard.removeEventListener('abort', cut);
        resolve();
      });
      if (hard.aborted) cut();
    });
  }

  async #bind(target: string, address: string): Promise<void> {
    const before = process.umask(PRIVATE);
    try {
      await new Promise<void>((resolve, reject) => {
        this.server.bindAsync(target, ServerCredentials.createInsecure(), (error) => {
          if (error === null) resolve();
          else reject(error);
        });
      });
    } catch (cause) {
      throw new AgentError(
        'worker.unreachable',
        `cannot listen at ${address}, where the agent expects this worker`,
        {},
        { cause },
      );
    } finally {
      process.umask(before);
    }
  }
}

async function fileIdentity(socket: SocketAddress): Promise<string | undefined> {
  if (socket.kind !== 'path') return undefined;
  try {
    const { dev, ino } = await stat(socket.path);
    return `${dev}:${ino}`;
  } catch {
    // Not there: the same as another file, it has to be bound anew.
    return 'missing';
  }
}
