/**
 * The worker of the benchmark: it sends each content back, or (`count`) reads all of it and answers with its size. Its
 * arguments: handler, concurrency, transport (`auto`, `unary` or `stream`), answers (`echo` or `count`).
 */
import { endWithError, jsonReply, serve, type ServeOptions } from '../../src/worker/index.js';

const [handler = 'echo', concurrency = '1', transport = 'auto', answers = 'echo'] = process.argv.slice(2);
const isCounter = answers === 'count';

/** The options of an SDK that has the stream; another one ignores them. */
interface StreamOptions {
  readonly transport: 'auto' | 'unary' | 'stream';
  readonly streamContent: boolean;
}

/** A message; its content as a stream where the SDK has that. */
interface Sized {
  readonly content: Uint8Array;
  readonly body?: () => AsyncIterable<Uint8Array>;
}

const options: ServeOptions & StreamOptions = {
  handler,
  concurrency: Number(concurrency),
  transport: transport === 'unary' || transport === 'stream' ? transport : 'auto',
  detachedContent: isCounter,
  streamContent: isCounter,
  ...(isCounter ? { maxMessageSize: 2 ** 29 } : {}),
};
await serve(options, async (message) => {
  return isCounter ? jsonReply({ size: await sizeOf(message) }) : { content: message.content };
}).catch(endWithError);

/** Not to be taken apart: of a content that is a stream there is no `content`. */
async function sizeOf(message: Sized): Promise<number> {
  if (message.body === undefined) return message.content.length;
  let size = 0;
  for await (const chunk of message.body()) size += chunk.length;
  return size;
}
