/** Serves one large body over HTTP, made as it is read: the content behind a URL. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import { Readable } from 'node:stream';

export interface BodyServer extends AsyncDisposable {
  readonly origin: string;
}

const CHUNK = Buffer.alloc(65_536, 0x78);

/** Each GET gets so many bytes. */
export async function serveBody(size: number): Promise<BodyServer> {
  const server = createServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': size });
    Readable.from(chunks(size))
      .on('error', () => response.destroy())
      .pipe(response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  return {
    origin: `http://127.0.0.1:${address.port}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

function* chunks(size: number): Generator<Buffer> {
  for (let left = size; left > 0; left -= CHUNK.length) yield left < CHUNK.length ? CHUNK.subarray(0, left) : CHUNK;
}
