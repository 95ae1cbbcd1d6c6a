/**
 * One agent per state directory: a listening socket named `lock` in it. Whoever can connect finds a live agent; a
 * refused connection means that its owner is gone, however it went.
 */
import { randomBytes } from 'node:crypto';
import { chmod, link, open, rename, rm, type FileHandle } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { AgentError, errnoOf } from '../errors.js';

const NAME = 'lock';

export class StateLock {
  #server: Server | undefined;
  #directory: FileHandle | undefined;

  constructor(private readonly stateDir: string) {}

  /** Throws AgentError state.in_use when another agent holds it. */
  async acquire(): Promise<void> {
    // Through the descriptor, since a socket's path may have 107 bytes and a state directory's may be longer.
    this.#directory = await open(this.stateDir, 'r');
    const at = (name: string): string => `/proc/self/fd/${this.#directory?.fd ?? -1}/${name}`;
    const own = `${NAME}.${randomBytes(6).toString('hex')}`;
    try {
      this.#server = await listen(at(own));
      await chmod(at(own), 0o600);
      while (!(await linkNew(at(own), at(NAME)))) {
        if (await answers(at(NAME))) {
          throw new AgentError(
            'state.in_use',
            `another agent uses ${this.stateDir}. Stop it, or give this one a state-dir of its own`,
            { stateDir: this.stateDir },
          );
        }
        await this.#removeStale(at);
      }
      await rm(at(own), { force: true });
    } catch (error) {
      await rm(at(own), { force: true });
      await this.#close();
      throw error;
    }
  }

  /** Idempotent. */
  async release(): Promise<void> {
    if (this.#server !== undefined && this.#directory !== undefined) {
      await rm(`/proc/self/fd/${this.#directory.fd}/${NAME}`, { force: true });
    }
    await this.#close();
  }

  /** Moves the old lock aside first: if another agent was faster, what was moved is its live one, and goes back. */
  async #removeStale(at: (name: string) => string): Promise<void> {
    const aside = `${NAME}.${randomBytes(6).toString('hex')}`;
    try {
      await rename(at(NAME), at(aside));
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return;
      throw error;
    }
    if (await answers(at(aside))) await linkNew(at(aside), at(NAME));
    await rm(at(aside), { force: true });
  }

  async #close(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server !== undefined) await new Promise<void>((resolve) => server.close(() => resolve()));
    await this.#directory?.close();
    this.#directory = undefined;
  }
}

function listen(path: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once('error', reject);
    server.listen(path, () => {
      server.unref();
      resolve(server);
    });
  });
}

/** Whether `to` is now another name of `from`; false when the name was taken. */
async function linkNew(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false;
    throw error;
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const end = (isAlive: boolean) => (): void => {
      socket.destroy();
      resolve(isAlive);
    };
    socket.once('connect', end(true));
    socket.once('error', end(false));
  });
}
