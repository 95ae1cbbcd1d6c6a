/**
 * GET with redirects and POST without, over connections that the `Connector` opens. undici is loaded at the first
 * request, so that a start without detached content does not pay for it. undici's own time limits are off: the callers
 * watch progress with a clock of their own, and end a request by its scope.
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import type { Agent } from 'undici';
import { urlFrom } from '../message/index.js';
import { Connector, RefusedTarget, type ConnectorOptions } from './connector.js';
import type { TlsMaterial } from './ports.js';
import { describeUrl, judgeUrl, parseHttpUrl, type UrlPolicy } from './url-policy.js';

export interface HttpResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Must be read to its end, or destroyed. */
  readonly body: Readable;
}

export interface HttpClientOptions extends ConnectorOptions {
  readonly userAgent: string;
}

interface Request {
  readonly method: 'GET' | 'POST';
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Buffer | Readable;
}

interface Engine {
  readonly connector: Connector;
  readonly agent: Agent;
}

export const MAX_REDIRECTS = 5;

/** Bytes of a body nobody wants that are read so that the connection can be used again. */
const DISCARD_LIMIT = 64 * 1024;

export class HttpClient {
  #engine: Promise<Engine> | undefined;
  #isClosed = false;

  constructor(private options: HttpClientOptions) {}

  /** The policy that holds now. */
  get policy(): UrlPolicy {
    return this.options.policy;
  }

  /**
   * Follows at most five redirects, each checked like the first URL. Rejects with RefusedTarget for what is not
   * allowed, with the scope's reason when that ends, else with what the network said.
   */
  async get(url: URL, scope: AbortSignal): Promise<HttpResponse> {
    let target = url;
    for (let redirects = 0; ; redirects += 1) {
      const headers = { accept: '*/*', 'accept-encoding': 'gzip, br' };
      const response = await this.#request(target, { method: 'GET', headers }, scope);
      const { location } = response.headers;
      if (!REDIRECTS.has(response.status) || location === undefined) return response;
      await discardBody(response);
      if (redirects === MAX_REDIRECTS) throw new Error(`${describeUrl(url)} redirects more than ${redirects} times`);
      const next = parseHttpUrl(urlFrom(location, target.href)?.href ?? '');
      if (next === undefined) throw new Error(`${describeUrl(target)} redirects to what is no http URL`);
      target = next;
    }
  }

  /** One request, no redirects; rejects like `get`. `contentLength` is that of `body`. */
  post(
    url: URL,
    headers: Readonly<Record<string, string>>,
    body: Buffer | Readable,
    scope: AbortSignal,
  ): Promise<HttpResponse> {
    return this.#request(url, { method: 'POST', headers, body }, scope);
  }

  /**
   * From now on connections are opened by these settings; requests under way end on the old ones. Throws what OpenSSL
   * says when the TLS material cannot be used, and then nothing has changed.
   */
  reconfigure(change: { readonly policy?: UrlPolicy; readonly tls?: TlsMaterial }): void {
    const options = { ...this.options, ...change };
    new Connector(options).close();
    this.options = options;
    const old = this.#engine;
    this.#engine = undefined;
    // Its requests end by their own scopes, so closing cannot hang; a failed load has been reported by its request.
    void old?.then(({ agent }) => agent.close()).catch(() => undefined);
  }

  /** Breaks off all requests and closes all sockets. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const engine = await this.#engine?.catch(() => undefined);
    this.#engine = undefined;
    engine?.connector.close();
    await engine?.agent.destroy();
  }

  async #request(url: URL, request: Request, scope: AbortSignal): Promise<HttpResponse> {
    const verdict = judgeUrl(this.options.policy, url);
    if (verdict.kind === 'refused') throw new RefusedTarget(url, verdict.reason);
    if (this.#isClosed) throw new Error('the HTTP client is closed');
    this.#engine ??= startEngine(this.options);
    const { agent } = await this.#engine;
    const { statusCode, headers, body } = await agent.request({
      origin: url.origin,
      path: `${url.pathname}${url.search}`,
      method: request.method,
      headers: { ...request.headers, 'user-agent': this.options.userAgent },
      signal: scope,
      ...(request.body === undefined ? {} : { body: request.body }),
    });
    // Breaking off a body that nobody reads any more is no error.
    body.on('error', () => undefined);
    return { status: statusCode, headers, body };
  }
}

const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/** Takes a body that is not wanted off the connection; never rejects. */
export async function discardBody(response: HttpResponse): Promise<void> {
  let size = 0;
  try {
    for await (const chunk of response.body) {
      size += Buffer.isBuffer(chunk) ? chunk.length : 0;
      if (size > DISCARD_LIMIT) break;
    }
  } catch {
    // The status has been read; a body that breaks off changes nothing.
  }
}

async function startEngine(options: HttpClientOptions): Promise<Engine> {
  // By the default export, the one that a bundle of this CommonJS package keeps.
  const { default: undici } = await import('undici');
  const connector = new Connector(options);
  const agent = new undici.Agent({
    headersTimeout: 0,
    bodyTimeout: 0,
    allowH2: false,
    connect: ({ protocol, host, hostname }, callback) => {
      connector.open(new URL(`${protocol}//${host ?? hostname}`)).then(
        (socket) => callback(null, socket),
        (error: unknown) => callback(error instanceof Error ? error : new Error(String(error)), null),
      );
    },
  });
  return { connector, agent };
}
