/** A real HTTP or HTTPS server of a test's own, on a free port of the loopback, that remembers what it was asked. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { createServer as createSecureServer, type ServerOptions } from 'node:https';
import type { Socket } from 'node:net';
import { TLSSocket, type PeerCertificate } from 'node:tls';
import { Signal } from '../../src/signal/index.js';

/** One request, whole. */
export interface SeenRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
  /** The common name of the client's certificate, when it showed one. */
  readonly clientName: string | undefined;
}

export interface TestServer extends AsyncDisposable {
  /** `http://127.0.0.1:PORT`, or `https://localhost:PORT`. */
  readonly origin: string;
  readonly port: number;
  readonly requests: SeenRequest[];
  /** Tells of each request once its body is complete. */
  readonly seen: Signal<SeenRequest>;
  readonly server: Server;
  /** Connections that are open now. */
  readonly connections: number;
}

export type Answer = (request: SeenRequest, response: ServerResponse) => unknown;

/** `await using server = await startServer((request, response) => response.end('…'))`; with `tls` it speaks HTTPS. */
export async function startServer(answer: Answer, tls?: ServerOptions): Promise<TestServer> {
  const requests: SeenRequest[] = [];
  const seen = new Signal<SeenRequest>('seen');
  const sockets = new Set<Socket>();
  const listener: RequestListener = (request, response) => {
    void readRequest(request).then(
      (whole) => {
        requests.push(whole);
        seen.emit(whole);
        answer(whole, response);
      },
      () => response.destroy(),
    );
  };
  const server = tls === undefined ? createServer(listener) : createSecureServer(tls, listener);
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return {
    origin: tls === undefined ? `http://127.0.0.1:${port}` : `https://localhost:${port}`,
    port,
    requests,
    seen,
    server,
    get connections() {
      return sockets.size;
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function readRequest(request: IncomingMessage): Promise<SeenRequest> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) if (Buffer.isBuffer(chunk)) chunks.push(chunk);
  const { socket } = request;
  // Without a certificate Node gives an empty object, whatever its types say.
  const certificate: Partial<PeerCertificate> = socket instanceof TLSSocket ? socket.getPeerCertificate() : {};
  const name = certificate.subject?.CN;
  return {
    method: request.method ?? '',
    url: request.url ?? '',
    headers: request.headers,
    body: Buffer.concat(chunks),
    clientName: typeof name === 'string' ? name : undefined,
  };
}
