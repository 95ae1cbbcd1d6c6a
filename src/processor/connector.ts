/**
 * Opens the sockets of the HTTP client: resolves the name, checks each address, and connects to a checked address and
 * no other, so that a name that changes its mind in between gains nothing (CONTRACT section 3, URLs). Through a proxy
 * it resolves and checks all the same, and asks for a tunnel to the address. It shows the agent's certificate only to
 * hosts the operator named. Every socket it opened ends with `close`.
 */
import { lookup } from 'node:dns/promises';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { connect as connectTcp, isIP, type LookupFunction, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import * as tls from 'node:tls';
import type { Clock, Millis } from '../time.js';
import type { Proxy, ProxyFor, Resolver, TlsMaterial } from './ports.js';
import { createSharedScope } from './scope.js';
import { describeUrl, hostnameOf, judgeUrl, literalAddress, portOf, refusalOf, type UrlPolicy } from './url-policy.js';

/** The URL, or what its name stands for, is not allowed: trying again gives the same. */
export class RefusedTarget extends Error {
  override readonly name = 'RefusedTarget';

  constructor(
    readonly url: URL,
    readonly reason: string,
  ) {
    super(`${describeUrl(url)} is not allowed: ${reason}`);
  }
}

export interface ConnectorOptions {
  readonly policy: UrlPolicy;
  readonly tls: TlsMaterial;
  readonly clock: Clock;
  readonly connectTimeout: Millis;
  readonly resolve: Resolver;
  readonly proxyFor: ProxyFor;
  /** For hosts listed in content-hosts the proxy resolves the name: no address is checked. */
  readonly proxyResolves: boolean;
}

/** The machine's own resolver: /etc/hosts, then DNS, in the system's order. */
export const systemResolver: Resolver = async (hostname) =>
  (await lookup(hostname, { all: true, order: 'verbatim' })).map(({ address }) => address);

export class Connector {
  readonly #open = new Set<Duplex>();
  readonly #closing = createSharedScope();
  readonly #anonymous: tls.SecureContext;
  readonly #identified: tls.SecureContext;

  /** Throws what OpenSSL says when certificate, key and authorities cannot be used. */
  constructor(private readonly options: ConnectorOptions) {
    const { ca, cert, key } = options.tls;
    const common = {
      minVersion: 'TLSv1.2' as const,
      ...(ca.length > 0 ? { ca: [...defaultAuthorities(), ...ca] } : {}),
    };
    this.#anonymous = tls.createSecureContext(common);
    this.#identified =
      cert !== undefined && key !== undefined ? tls.createSecureContext({ ...common, cert, key }) : this.#anonymous;
  }

  /** A connected socket for `url`'s origin; for https with its handshake done and the peer verified. */
  async open(url: URL): Promise<Socket> {
    const verdict = judgeUrl(this.options.policy, url);
    if (verdict.kind === 'refused') throw new RefusedTarget(url, verdict.reason);
    const attempt = new AbortController();
    const give = (reason: Error) => (): void => attempt.abort(reason);
    const closed = give(new Error('the client is closing'));
    if (this.#closing.signal.aborted) closed();
    this.#closing.signal.addEventListener('abort', closed, { once: true });
    const timer = new AbortController();
    const { connectTimeout } = this.options;
    const late = give(new Error(`no connection to ${url.host} within ${connectTimeout / 1000} s`));
    this.options.clock.after(connectTimeout, late, timer.signal);
    try {
      const raw = await this.#rawSocket(url, verdict.isListed, attempt.signal);
      const socket = url.protocol === 'https:' ? await this.#secure(raw, url, verdict.isTrusted, attempt.signal) : raw;
      socket.setNoDelay(true).setKeepAlive(true, KEEPALIVE_DELAY);
      return socket;
    } finally {
      timer.abort();
      this.#closing.signal.removeEventListener('abort', closed);
    }
  }

  /** Ends what is being opened and destroys what was. */
  close(): void {
    this.#closing.abort();
    for (const socket of this.#open) socket.destroy();
  }

  async #rawSocket(url: URL, isListed: boolean, scope: AbortSignal): Promise<Socket> {
    const proxy = this.options.proxyFor(url);
    const port = Number(portOf(url));
    if (proxy !== undefined && this.options.proxyResolves && isListed) {
      return this.#tunnel(proxy, hostnameOf(url), port, scope);
    }
    const addresses = await this.#checkedAddresses(url, isListed, scope);
    if (proxy === undefined) return this.#connect(addresses, port, scope);
    let failure: unknown;
    for (const address of addresses.slice(0, MOST_TUNNEL_TRIES)) {
      try {
        return await this.#tunnel(proxy, address, port, scope);
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  }

  /** Never empty. Addresses that are not allowed are left out; when none is left, the target is refused. */
  async #checkedAddresses(url: URL, isListed: boolean, scope: AbortSignal): Promise<readonly string[]> {
    const literal = literalAddress(url);
    const hostname = hostnameOf(url);
    const found = literal === undefined ? await unlessEnded(this.options.resolve(hostname), scope) : [literal];
    if (found.length === 0) throw new Error(`${hostname} has no address`);
    const allowed = found.filter((address) => refusalOf(address, isListed) === undefined);
    if (allowed.length > 0) return allowed;
    throw new RefusedTarget(url, found.map((address) => refusalOf(address, isListed)).join(', '));
  }

  /** Node tries the addresses side by side (RFC 8305); `lookup` gives it the checked ones and nothing else. */
  #connect(addresses: readonly string[], port: number, scope: AbortSignal): Promise<Socket> {
    const pinned: LookupFunction = (_hostname, _options, callback) => {
      callback(
        null,
        addresses.map((address) => ({ address, family: isIP(address) })),
      );
    };
    // The name is never resolved: `pinned` answers for it. It must be no address, or `lookup` would not be asked.
    const socket = connectTcp({ host: PINNED_NAME, port, lookup: pinned, autoSelectFamily: true });
    return this.#untilEvent(socket, 'connect', scope);
  }

  #secure(raw: Socket, url: URL, isTrusted: boolean, scope: AbortSignal): Promise<Socket> {
    const hostname = hostnameOf(url);
    const socket = tls.connect({
      socket: raw,
      // What the peer's certificate must stand for; an address goes into no SNI [RFC 6066, section 3].
      host: hostname,
      servername: isIP(hostname) === 0 ? hostname : '',
      secureContext: isTrusted ? this.#identified : this.#anonymous,
      ALPNProtocols: ['http/1.1'],
    });
    return this.#untilEvent(socket, 'secureConnect', scope);
  }

  #tunnel(proxy: Proxy, host: string, port: number, scope: AbortSignal): Promise<Socket> {
    const authority = isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
    return new Promise((resolve, reject) => {
      const isSecure = proxy.url.protocol === 'https:';
      const request = (isSecure ? httpsRequest : httpRequest)({
        host: hostnameOf(proxy.url),
        port: portOf(proxy.url),
        method: 'CONNECT',
        path: authority,
        headers: {
          host: authority,
          ...(proxy.authorization === undefined ? {} : { 'proxy-authorization': proxy.authorization }),
        },
        agent: false,
        signal: scope,
        ...(isSecure ? { secureContext: this.#anonymous } : {}),
      });
      request.once('error', reject);
      request.once('connect', (response, socket: Socket, head) => {
        if (response.statusCode === 200) {
          if (head.length > 0) socket.unshift(head);
          this.#track(socket);
          resolve(socket);
          return;
        }
        socket.destroy();
        reject(new Error(`the proxy ${proxy.url.host} answered ${response.statusCode ?? 0} to CONNECT ${authority}`));
      });
      request.end();
    });
  }

  #untilEvent<S extends Socket>(socket: S, event: 'connect' | 'secureConnect', scope: AbortSignal): Promise<S> {
    this.#track(socket);
    return new Promise((resolve, reject) => {
      const failed = (error: Error): void => {
        scope.removeEventListener('abort', ended);
        socket.destroy();
        reject(error);
      };
      const closed = (): void => failed(new Error('the connection ended before it stood'));
      const ended = (): void => {
        failed(scope.reason instanceof Error ? scope.reason : new Error('the scope has ended'));
      };
      socket.once('error', failed).once('close', closed);
      socket.once(event, () => {
        scope.removeEventListener('abort', ended);
        socket.off('error', failed).off('close', closed);
        resolve(socket);
      });
      if (scope.aborted) ended();
      else scope.addEventListener('abort', ended, { once: true });
    });
  }

  #track(socket: Socket): void {
    this.#open.add(socket);
    socket.once('close', () => this.#open.delete(socket));
    // Between two owners an error has no listener; the next one learns of it by the socket's end.
    socket.on('error', () => undefined);
  }
}

const KEEPALIVE_DELAY: Millis = 60_000;
const MOST_TUNNEL_TRIES = 3;
const PINNED_NAME = 'checked-address.invalid';

/**
 * What Node trusts by itself. Naming any authority replaces that, so it is given again beside the operator's; from
 * Node 22.15 on with what NODE_EXTRA_CA_CERTS and --use-system-ca add.
 */
function defaultAuthorities(): readonly string[] {
  return hasCertificateLists(tls) ? tls.getCACertificates('default') : tls.rootCertificates;
}

function hasCertificateLists(module: object): module is { getCACertificates(of: 'default'): readonly string[] } {
  return 'getCACertificates' in module;
}

/** The outcome of `work`, or the scope's reason when that ends first; `work` itself cannot be broken off. */
async function unlessEnded<T>(work: Promise<T>, scope: AbortSignal): Promise<T> {
  let ended = (): void => undefined;
  const end = new Promise<never>((_resolve, reject) => {
    ended = () => reject(scope.reason instanceof Error ? scope.reason : new Error('the scope has ended'));
    if (scope.aborted) ended();
    else scope.addEventListener('abort', ended, { once: true });
  });
  try {
    return await Promise.race([work, end]);
  } finally {
    scope.removeEventListener('abort', ended);
  }
}
