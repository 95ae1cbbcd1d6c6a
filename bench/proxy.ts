/** A door before the broker that counts the bytes that go through it, both ways. */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

export interface CountingProxy extends AsyncDisposable {
  readonly url: string;
  /** Bytes so far, both ways. */
  readonly bytes: number;
}

/** Listens on a free port of the loopback address. */
export async function startProxy(brokerPort: number): Promise<CountingProxy> {
  let bytes = 0;
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (inside) => {
    const outside = connect({ host: '127.0.0.1', port: brokerPort, noDelay: true });
    for (const [from, to] of [
      [inside, outside],
      [outside, inside],
    ] as const) {
      sockets.add(from);
      from.on('data', (chunk) => (bytes += chunk.length));
      from.on('error', () => to.destroy());
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port');
  return {
    url: `mqtt://127.0.0.1:${address.port}`,
    get bytes() {
      return bytes;
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
