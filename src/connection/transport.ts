/**
 * Opens the byte stream to a broker: TCP, directly or through a proxy, then TLS, then a websocket, as its address
 * says. The socket has no delay (a small packet would wait for the peer's acknowledgement: 44 ms a round trip) and
 * keep-alive probes. Whatever is half open when the scope ends is destroyed.
 */
import { request } from 'node:http';
import { connect as connectTcp, isIP, type OnReadOpts, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls, type SecureContext } from 'node:tls';
import type * as Ws from 'ws';
import { unescaped, urlFrom } from '../message/index.js';
import { abortReason, type Millis } from '../time.js';
import type { BrokerAddress } from './broker-address.js';
import type { ReadMemory } from './read-memory.js';

const PROBE_AFTER: Millis = 30_000;
/** The largest MQTT packet [MQTT-2.2.3]; ws would refuse a frame above 100 MiB. */
const LARGEST_FRAME = 5 + 268_435_455;

export interface TransportOptions {
  readonly broker: BrokerAddress;
  /** URL of an HTTP proxy; its user and password go into Proxy-Authorization. */
  readonly proxy: string | undefined;
  /** For addresses with TLS. */
  readonly secureContext: SecureContext | undefined;
  /** What a plain connection straight to the broker reads into, from `resume()` on; all others into memory of their own. */
  readonly memory?: ReadMemory;
}

/** The proxy was the reason. The message never holds its user or password. */
export class ProxyError extends Error {
  override readonly name = 'ProxyError';
}

/** The websocket's handshake was answered, but not with 101. */
export class HandshakeError extends Error {
  override readonly name = 'HandshakeError';
  constructor(readonly status: number) {
    super(`the websocket's handshake was answered with HTTP ${status}`);
  }
}

/**
 * Resolves with a stream on which MQTT can begin. Rejects with the socket's error, a ProxyError, a HandshakeError, or
 * the scope's reason.
 */
export async function openTransport(options: TransportOptions, scope: AbortSignal): Promise<Duplex> {
  const { broker, proxy, memory } = options;
  if (memory !== undefined && proxy === undefined && !broker.isTls && !broker.isWebSocket)
    return openTcp(broker.host, broker.port, scope, memory);
  // Few brokers need it. Before there is a socket, whose errors would have no one to hear them meanwhile.
  const ws = broker.isWebSocket ? await import('ws') : undefined;
  const socket = await openSocket(broker, proxy, scope);
  const stream = broker.isTls ? await openTls(socket, broker.host, options.secureContext, scope) : socket;
  return ws === undefined ? stream : await openWebSocket(ws, stream, broker, scope);
}

/** The socket below it all: to the broker, or to the proxy that has connected it to the broker. */
export async function openSocket(
  broker: BrokerAddress,
  proxy: string | undefined,
  scope: AbortSignal,
): Promise<Socket> {
  return proxy === undefined ? openTcp(broker.host, broker.port, scope) : openThroughProxy(broker, proxy, scope);
}

async function openTcp(host: string, port: number, scope: AbortSignal, memory?: ReadMemory): Promise<Socket> {
  const base = { host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: PROBE_AFTER };
  const socket: Socket = connectTcp({ ...base, ...(memory && { onread: readInto(memory, () => socket) }) });
  // What is read is announced once, and nobody listens yet.
  if (memory !== undefined) socket.pause();
  await ready(socket, 'connect', scope);
  return socket;
}

function readInto(memory: ReadMemory, socket: () => Socket): OnReadOpts {
  return {
    buffer: memory.next,
    callback: (size) => {
      socket().emit('data', memory.read(size));
      return true;
    },
  };
}

async function openTls(
  socket: Socket,
  host: string,
  secureContext: SecureContext | undefined,
  scope: AbortSignal,
): Promise<Socket> {
  const secure = connectTls({
    socket,
    host,
    minVersion: 'TLSv1.2',
    ...(isIP(host) === 0 && { servername: host }),
    ...(secureContext !== undefined && { secureContext }),
  });
  await ready(secure, 'secureConnect', scope);
  return secure;
}

/** Resolves with the stream's event; destroys it when it fails, closes or the scope ends before. */
export function ready(stream: Socket, event: string, scope: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (outcome: () => void): void => {
      scope.removeEventListener('abort', onAbort);
      stream.removeListener(event, onReady);
      stream.removeListener('error', onError);
      stream.removeListener('close', onClose);
      outcome();
    };
    const fail = (error: Error): void =>
      settle(() => {
        // Destroying may bring one more error, which nobody waits for any more.
        stream.on('error', () => undefined);
        stream.destroy();
        reject(error);
      });
    const onReady = (): void => settle(resolve);
    const onError = (error: Error): void => fail(error);
    const onClose = (): void =>
      fail(Object.assign(new Error('the connection was closed while it was being made'), { code: 'ECONNRESET' }));
    const onAbort = (): void => fail(abortReason(scope));
    stream.once(event, onReady);
    stream.once('error', onError);
    stream.once('close', onClose);
    scope.addEventListener('abort', onAbort, { once: true });
    if (scope.aborted) onAbort();
  });
}

async function openThroughProxy(broker: BrokerAddress, proxy: string, scope: AbortSignal): Promise<Socket> {
  const url = proxyUrl(proxy);
  const isTls = url.protocol === 'https:';
  const name = `the proxy ${url.protocol}//${url.host}`;
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  let socket: Socket;
  try {
    socket = await openTcp(host, url.port === '' ? (isTls ? 443 : 80) : Number(url.port), scope);
    if (isTls) socket = await openTls(socket, host, undefined, scope);
  } catch (error) {
    if (scope.aborted) throw error;
    const what = error instanceof Error && 'code' in error ? String(error.code) : 'no connection';
    throw new ProxyError(`${name} cannot be reached: ${what}. Check the setting \`proxy\` (or HTTPS_PROXY).`, {
      cause: error,
    });
  }
  return await askProxy(
    socket,
    `${isIP(broker.host) === 6 ? `[${broker.host}]` : broker.host}:${broker.port}`,
    url,
    name,
    scope,
  );
}

function proxyUrl(proxy: string): URL {
  const url = urlFrom(proxy);
  if (url === undefined || !['http:', 'https:'].includes(url.protocol))
    throw new ProxyError('the proxy’s address is none. Write the setting `proxy` as http://host:port.');
  return url;
}

function askProxy(socket: Socket, target: string, url: URL, name: string, scope: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const user = `${unescaped(url.username)}:${unescaped(url.password)}`;
    const asked = request({
      method: 'CONNECT',
      path: target,
      headers: {
        host: target,
        ...(user !== ':' && { 'proxy-authorization': `Basic ${Buffer.from(user).toString('base64')}` }),
      },
      // With any `agent` setting, also false, Node would ignore this.
      createConnection: () => socket,
    });
    const fail = (error: Error): void => {
      scope.removeEventListener('abort', onAbort);
      socket.on('error', () => undefined);
      asked.on('error', () => undefined);
      asked.destroy();
      socket.destroy();
      reject(error);
    };
    const onAbort = (): void => fail(abortReason(scope));
    scope.addEventListener('abort', onAbort, { once: true });
    asked.once('error', (error) => fail(new ProxyError(`${name} broke off: ${error.message}`, { cause: error })));
    asked.once('response', (response) => fail(refusedByProxy(name, response.statusCode)));
    asked.once('connect', (response, _tunnel, head) => {
      if (response.statusCode === undefined || response.statusCode < 200 || response.statusCode > 299) {
        fail(refusedByProxy(name, response.statusCode));
        return;
      }
      scope.removeEventListener('abort', onAbort);
      if (head.length > 0) socket.unshift(head);
      resolve(socket);
    });
    asked.end();
    if (scope.aborted) onAbort();
  });
}

function refusedByProxy(name: string, status: number | undefined): ProxyError {
  const todo =
    status === 407
      ? 'Check the user and password in its credentials file.'
      : 'Check that it lets CONNECT through to the broker’s port.';
  return new ProxyError(`${name} answered HTTP ${status ?? 'nothing'}. ${todo}`);
}

function openWebSocket(ws: typeof Ws, socket: Socket, broker: BrokerAddress, scope: AbortSignal): Promise<Duplex> {
  const host = isIP(broker.host) === 6 ? `[${broker.host}]` : broker.host;
  return new Promise((resolve, reject) => {
    // Any TLS is done already, so to ws this is a plain socket.
    const webSocket = new ws.WebSocket(`ws://${host}:${broker.port}${broker.path}`, ['mqtt'], {
      createConnection: () => socket,
      perMessageDeflate: false,
      maxPayload: LARGEST_FRAME,
    });
    const fail = (error: Error): void => {
      scope.removeEventListener('abort', onAbort);
      // Ending a handshake makes ws report an error of its own, later.
      webSocket.on('error', () => undefined);
      webSocket.terminate();
      socket.destroy();
      reject(error);
    };
    const onAbort = (): void => fail(abortReason(scope));
    scope.addEventListener('abort', onAbort, { once: true });
    webSocket.once('error', fail);
    webSocket.once('unexpected-response', (_request, response) => fail(new HandshakeError(response.statusCode ?? 0)));
    webSocket.once('open', () => {
      scope.removeEventListener('abort', onAbort);
      webSocket.removeListener('error', fail);
      resolve(ws.createWebSocketStream(webSocket));
    });
    if (scope.aborted) onAbort();
  });
}
