/**
 * The worker of the benchmark: it sends each content back. Its arguments: handler, concurrency, transport (`auto`,
 * `unary` or `stream`).
 */
import { endWithError, serve, type ServeOptions } from '../../src/worker/index.js';

const [handler = 'echo', concurrency = '1', transport = 'auto'] = process.argv.slice(2);

// A variable, since an SDK that knows no transport does not know the option either.
const options: ServeOptions & { readonly transport: string } = {
  handler,
  concurrency: Number(concurrency),
  transport,
};
await serve(options, ({ content }) => ({ content })).catch(endWithError);
