/**
 * A small broker for first use and for tests: aedes on 127.0.0.1 with one random user. It speaks MQTT 3.1.1 only, and
 * keeps sessions and queues in memory: what it holds is gone when it stops, so it is no place for what must not be lost.
 */
import type { Aedes, Client } from 'aedes';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { AgentError, errnoOf, errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import { abortReason } from '../time.js';
import { loadCredentials, matchesCredentials, type Credentials } from './credentials.js';

const HOST = '127.0.0.1';
/** Connections at once; enough for one machine, far below the limit of open files. */
const MAX_CONNECTIONS = 512;
/** Who has not sent a CONNECT by then is cut, as mosquitto does. */
const CONNECT_TIMEOUT = 30_000;
/** Packets that may wait while a session is being set up; aedes drops the client above it, and its default is 42. */
const HANDSHAKE_QUEUE = 1_000;

export interface EmbeddedBrokerOptions {
  /** Where the password is kept, in `embedded-broker.json`. */
  readonly stateDir: string;
  /** The port to listen on; 0 takes a free one. */
  readonly port: number;
  readonly log: Log;
}

/** How to reach the broker. The password is secret: it goes to the example commands, never to a log. */
export interface BrokerAddress extends Credentials {
  readonly url: string;
  readonly host: string;
  readonly port: number;
}

export class EmbeddedBroker {
  readonly #options: EmbeddedBrokerOptions;
  readonly #sockets = new Set<Socket>();
  #starting: Promise<BrokerAddress> | undefined;
  #server: Server | undefined;
  #aedes: Aedes | undefined;

  constructor(options: EmbeddedBrokerOptions) {
    this.#options = options;
  }

  /**
   * Listens and tells the address. Throws `broker.listen_failed`, `state.unwritable`, or the scope's reason.
   * The broker goes on until `stop`; the scope only ends the start.
   */
  start(scope: AbortSignal): Promise<BrokerAddress> {
    this.#starting ??= this.#start(scope);
    return this.#starting;
  }

  /** Cuts all clients and closes the port. May be called at any time, also in the middle of a start, and again. */
  async stop(): Promise<void> {
    // A start in its middle is let through, then taken back: there is nothing half open to guess about.
    await this.#starting?.catch(() => undefined);
    this.#starting = undefined;
    await this.#release();
  }

  async #start(scope: AbortSignal): Promise<BrokerAddress> {
    const { stateDir, port, log } = this.#options;
    const credentials = await loadCredentials(join(stateDir, 'embedded-broker.json'));
    const { Aedes } = await import('aedes');
    try {
      this.#aedes = await Aedes.createBroker({
        connectTimeout: CONNECT_TIMEOUT,
        queueLimit: HANDSHAKE_QUEUE,
        authenticate: (client, username, password, done) => {
          const isKnown = matchesCredentials(credentials, username, password);
          if (!isKnown) this.#warnOf(client);
          // Refused with code 5, not authorised, as mosquitto does.
          done(null, isKnown);
        },
      });
      this.#observe(this.#aedes);
      const listening = await this.#listen(this.#aedes, port);
      if (scope.aborted) throw abortReason(scope);
      log.info('broker.listening', 'the embedded broker accepts clients', { host: HOST, port: listening });
      return { ...credentials, host: HOST, port: listening, url: `mqtt://${HOST}:${listening}` };
    } catch (error) {
      await this.#release();
      throw error;
    }
  }

  async #listen(aedes: Aedes, port: number): Promise<number> {
    // Without no-delay each QoS 1 exchange waits for a delayed acknowledgement, 44 ms.
    const server = createServer({ noDelay: true }, (socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      aedes.handle(socket);
    });
    server.maxConnections = MAX_CONNECTIONS;
    await new Promise<void>((resolve, reject) => {
      server.once('error', (cause) => reject(listenFailed(port, cause)));
      server.listen(port, HOST, resolve);
    });
    this.#server = server;
    return portOf(server.address());
  }

  #observe(aedes: Aedes): void {
    const { log } = this.#options;
    aedes.on('clientError', (client, error) => {
      log.debug('broker.client_error', 'a client of the embedded broker failed', {
        client: client.id,
        error: errorText(error),
      });
    });
    aedes.on('connectionError', (_client, error) => {
      log.debug('broker.connection_error', 'a connection to the embedded broker failed', { error: errorText(error) });
    });
  }

  #warnOf(client: Client): void {
    this.#options.log.warn('broker.refused', 'the embedded broker refused a client: wrong user or password', {
      client: client.id,
    });
  }

  async #release(): Promise<void> {
    const server = this.#server;
    const aedes = this.#aedes;
    this.#server = undefined;
    this.#aedes = undefined;
    const closed = server === undefined ? undefined : new Promise<void>((resolve) => server.close(() => resolve()));
    if (aedes !== undefined) await new Promise<void>((resolve) => aedes.close(resolve));
    // aedes knows only who has sent a CONNECT.
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

function portOf(address: AddressInfo | string | null): number {
  return typeof address === 'object' && address !== null ? address.port : 0;
}

function listenFailed(port: number, cause: Error): AgentError {
  const reason = errnoOf(cause) === 'EADDRINUSE' ? 'another program listens there' : cause.message;
  return new AgentError(
    'broker.listen_failed',
    `the embedded broker cannot listen on ${HOST}:${port}: ${reason}; choose another port with --embedded-broker PORT`,
    { host: HOST, port, errno: errnoOf(cause) },
    { cause },
  );
}
