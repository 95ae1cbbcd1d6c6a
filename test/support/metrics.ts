/** Asking a running agent for its metrics and its health, as a scraper does, or as nobody should. */
import { spawnSync } from 'node:child_process';
import { request, type IncomingHttpHeaders, type RequestOptions } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import type { Yggd } from './yggd.js';

/** Why Prometheus' own check cannot be asked, or false. */
export const promtoolMissing: string | false =
  spawnSync('promtool', ['--version']).status === 0 ? false : 'there is no promtool (apt-get install prometheus)';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** Where a request goes: `host:port`, or the path of a socket. */
export type Where = { readonly port: number } | { readonly socketPath: string };

/** The port on which a daemon says that it serves metrics. */
export async function metricsOf(yggd: Yggd): Promise<{ readonly port: number }> {
  const { address } = await yggd.line('metrics.listening');
  return { port: Number(String(address).split(':').at(-1)) };
}

export function ask(where: Where, path: string, options: RequestOptions = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request({ host: '127.0.0.1', agent: false, path, ...where, ...options }, (response) => {
      text(response).then(
        (body) => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }),
        reject,
      );
    });
    asked.once('error', reject).end();
  });
}

/** What a server says to these bytes, until it closes the connection. */
export function say(port: number, bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let heard = '';
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes));
    socket.setEncoding('latin1');
    socket.on('data', (some) => (heard += String(some)));
    // Whoever is refused may be cut off in the middle of what it still says.
    socket.once('error', (error) => ('code' in error && error.code === 'ECONNRESET' ? resolve(heard) : reject(error)));
    socket.once('close', () => resolve(heard));
  });
}

/** The samples of a document: `name{label="value"}` → value. */
export function samplesIn(document: string): ReadonlyMap<string, number> {
  const lines = document.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => {
      const at = line.lastIndexOf(' ');
      return [line.slice(0, at), Number(line.slice(at + 1))];
    }),
  );
}

/** Scrapes until `isThere` holds; what was scraped then. */
export async function scrapeUntil(
  where: Where,
  isThere: (samples: ReadonlyMap<string, number>) => boolean,
): Promise<{ readonly samples: ReadonlyMap<string, number>; readonly document: string }> {
  for (const signal = AbortSignal.timeout(30_000); ;) {
    const { body: document } = await ask(where, '/metrics');
    const samples = samplesIn(document);
    if (isThere(samples)) return { samples, document };
    if (signal.aborted) throw new Error(`what was waited for never stood in the metrics:\n${document}`);
  }
}
