/** A small HTTP proxy that knows CONNECT only, records what it was asked and can cut what it carries. */
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';

export interface ConnectProxy extends AsyncDisposable {
  readonly port: number;
  readonly asked: readonly { readonly target: string; readonly headers: IncomingHttpHeaders }[];
  /** Ends all connections through it without a word. */
  cut(): void;
}

/** With `status`, it answers each CONNECT with that and carries nothing. */
export async function startConnectProxy(status = 200): Promise<ConnectProxy> {
  const asked: { target: string; headers: IncomingHttpHeaders }[] = [];
  const sockets = new Set<Duplex>();
  const keep = (socket: Duplex): void => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.once('close', () => sockets.delete(socket));
  };
  const server = createServer();
  server.on('connect', (request, client: Duplex) => {
    const target = request.url ?? '';
    asked.push({ target, headers: request.headers });
    keep(client);
    if (status !== 200) {
      client.end(`HTTP/1.1 ${status} No\r\ncontent-length: 0\r\n\r\n`);
      return;
    }
    const [host, port] = target.split(':');
    const upstream = connect(Number(port), host ?? '', () => {
      client.write('HTTP/1.1 200 Connected\r\n\r\n');
      client.pipe(upstream).pipe(client);
    });
    keep(upstream);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const cut = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    port: address !== null && typeof address === 'object' ? address.port : 0,
    asked,
    cut,
    [Symbol.asyncDispose]: async () => {
      cut();
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}
