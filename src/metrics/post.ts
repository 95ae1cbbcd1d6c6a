/**
 * The HTTP server for whoever watches the agent: `/metrics`, `/healthz`, `/readyz`, to be read and nothing else. It is
 * made for a few careful clients, and bounded so that any other costs little: few connections, small heads, short
 * waits, no bodies. What is asked again at once is answered from what was written a moment ago.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Log } from '../log/log.js';
import type { Clock, Millis } from '../time.js';
import { formatFor, render, type Format } from './format.js';
import { Health } from './health.js';
import { isHostAllowed } from './hosts.js';
import type { Registry } from './instruments.js';
import type { HealthDesk } from './ports.js';
import { isLocal, listen, type ListenAddress, type WayCheck } from './socket.js';

const MAX_CONNECTIONS = 32;
const MAX_HEAD = 8 * 1024;
/** For a whole head, and for a reader that takes nothing. */
const PATIENCE: Millis = 5_000;
/** Longer than a scraper waits between two requests, which then need no new connection. */
const KEEP_ALIVE: Millis = 65_000;
/** Two scrapers, or a page that is reloaded: each look reads files of /proc. */
const FRESH_FOR: Millis = 100;

export interface MetricsPostOptions {
  readonly address: ListenAddress;
  /** Names under which it may be asked for over TCP, besides addresses and `localhost`. */
  readonly hosts: readonly string[];
  readonly wayProblem?: WayCheck | undefined;
  readonly registry: Registry;
  readonly desk: HealthDesk;
  readonly clock: Clock;
  readonly log: Log;
}

/** What is answered: a status, its headers and a text. */
interface Reply {
  readonly status: number;
  readonly type: string;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export class MetricsPost {
  readonly #server: Server;
  readonly #health: Health;
  #collected: { readonly at: Millis; readonly done: Promise<void> } | undefined;

  constructor(private readonly options: MetricsPostOptions) {
    this.#health = new Health(options.desk, options.clock);
    const server = createServer(
      {
        maxHeaderSize: MAX_HEAD,
        headersTimeout: PATIENCE,
        requestTimeout: PATIENCE,
        keepAliveTimeout: KEEP_ALIVE,
        connectionsCheckingInterval: PATIENCE,
        // Told apart from other bad requests here.
        requireHostHeader: false,
      },
      (request, response) => void this.#answer(request, response),
    );
    server.maxConnections = MAX_CONNECTIONS;
    server.maxHeadersCount = 64;
    server.setTimeout(KEEP_ALIVE);
    server.on('connect', (_request, socket) => socket.destroy());
    server.on('upgrade', (_request, socket) => socket.destroy());
    this.#server = server;
  }

  /** Listens. Throws `metrics.listen_failed`. */
  async start(): Promise<void> {
    const { address, wayProblem, log } = this.options;
    const where = await listen(this.#server, address, wayProblem);
    // Nothing waits for it: the process may end while it listens.
    this.#server.unref();
    log.info('metrics.listening', `metrics and health are served at ${where}`, { address: where });
    if (isLocal(address)) return;
    const text = 'whoever reaches this address reads the metrics, without a password and in clear text';
    log.warn('metrics.exposed', `${text}; see that a firewall lets in your Prometheus only`, { address: where });
  }

  /** Breaks off what is asked just now. Idempotent. */
  stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    return closed;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let reply: Reply;
    try {
      reply = await this.#reply(request);
    } catch (error) {
      this.options.log.error('metrics.failed', 'a request for metrics or health could not be answered', { error });
      reply = plain(500, 'the agent could not answer; its log says why\n');
    }
    const { status, type, body, headers } = reply;
    // What it sent besides is not read; and who was refused begins anew, so that nothing of it is taken for a request.
    if (status >= 400 && status !== 503) response.shouldKeepAlive = false;
    response.writeHead(status, {
      'Content-Type': type,
      'Content-Length': Buffer.byteLength(body),
      'Cache-Control': 'no-store',
      'X-Content-Type-Options': 'nosniff',
      ...headers,
    });
    response.setTimeout(PATIENCE, () => request.socket.destroy());
    response.end(request.method === 'HEAD' ? undefined : body);
  }

  async #reply(request: IncomingMessage): Promise<Reply> {
    const refusal = this.#refusal(request);
    if (refusal !== undefined) return refusal;
    const [path] = (request.url ?? '').split('?', 1);
    switch (path) {
      case '/metrics':
        return this.#metrics(formatFor(request.headers.accept));
      case '/healthz':
        return json(await this.#health.alive());
      case '/readyz':
        return json(await this.#health.ready());
      default:
        return plain(404, 'there is /metrics, /healthz and /readyz\n');
    }
  }

  #refusal(request: IncomingMessage): Reply | undefined {
    const { address, hosts } = this.options;
    const { headers, rawHeaders, method } = request;
    const named = rawHeaders.filter((word, index) => index % 2 === 0 && word.toLowerCase() === 'host').length;
    if (named > 1) return plain(400, 'one Host header, please\n');
    if (address.kind === 'tcp' && !isHostAllowed(headers.host, hosts)) {
      return plain(421, 'this is not the host you asked for; names are listed in "metrics-hosts"\n');
    }
    if (method !== 'GET' && method !== 'HEAD') {
      return { ...plain(405, 'this can only be read\n'), headers: { Allow: 'GET, HEAD' } };
    }
    const hasBody = headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) !== 0;
    return hasBody ? plain(413, 'a request here has no body\n') : undefined;
  }

  async #metrics(format: Format): Promise<Reply> {
    await this.#collect();
    return { status: 200, type: format.contentType, body: render(this.options.registry.families, format) };
  }

  #collect(): Promise<void> {
    const now = this.options.clock.monotonic();
    if (this.#collected === undefined || now - this.#collected.at >= FRESH_FOR) {
      this.#collected = { at: now, done: this.options.desk.collect() };
    }
    return this.#collected.done;
  }
}

function plain(status: number, body: string): Reply {
  return { status, type: 'text/plain; charset=utf-8', body };
}

function json({ status, body }: { readonly status: number; readonly body: object }): Reply {
  return { status, type: 'application/json; charset=utf-8', body: `${JSON.stringify(body)}\n` };
}
