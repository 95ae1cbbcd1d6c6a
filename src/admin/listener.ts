/**
 * The listening socket of the operator's service. It knows its connections, since it must be able to end them: gRPC's own
 * server ends none that has a call open (without channelz `forceShutdown` finds no session), and an operator who follows a
 * log would keep the agent from stopping.
 */
import { once } from 'node:events';
import { createServer, type Server as NetServer, type Socket } from 'node:net';
import { ServerCredentials, type Server } from '@grpc/grpc-js';
import { errorText } from '../errors.js';
import type { Log } from '../log/log.js';

const MAX_CONNECTIONS = 64;

export class Listener {
  readonly #connections = new Set<Socket>();

  private constructor(
    private readonly listening: NetServer,
    private readonly server: Server,
  ) {
    const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
    listening.maxConnections = MAX_CONNECTIONS;
    listening.on('connection', (socket: Socket) => {
      this.#connections.add(socket);
      socket.once('close', () => this.#connections.delete(socket));
      injector.injectConnection(socket);
    });
  }

  /** Listens on the path; rejects when it cannot. */
  static async open(path: string, server: Server, log: Log): Promise<Listener> {
    const listening = createServer();
    const listener = new Listener(listening, server);
    listening.listen(path);
    await once(listening, 'listening');
    // Out of descriptors, for one: who could not be accepted tries again.
    listening.on('error', (error) =>
      log.warn('admin.accept_failed', `cannot accept a connection on ${path}: ${errorText(error)}`),
    );
    return listener;
  }

  /** Breaks off what is asked just now; the socket's file goes. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.listening.close(() => resolve()));
    for (const socket of this.#connections) socket.destroy();
    this.server.forceShutdown();
    await closed;
  }
}
