/**
 * Receives the body of a response with flat memory: up to 64 KiB in memory, more into a content file. The limit holds
 * for the bytes on the wire and for those after decompression, and is checked chunk by chunk, so that a gzip bomb gets
 * no further than one chunk over it. A body that is cut short is an error, never a shorter body.
 */
import { createHash } from 'node:crypto';
import type { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createBrotliDecompress, createGunzip, createInflate } from 'node:zlib';
import { INLINE_LIMIT, type Content } from '../message/index.js';
import type { ContentWriter } from './ports.js';

/** The body is larger than the limit. */
export class BodyTooLarge extends Error {
  override readonly name = 'BodyTooLarge';
}

/** The content file could not be written: a fault of this machine, not of the message or its server. */
export class StorageFault extends Error {
  override readonly name = 'StorageFault';
}

export interface BodyFiles {
  newContentFile(): ContentWriter;
}

export interface BodyOptions {
  /** The value of Content-Encoding, if any. */
  readonly encoding: string | undefined;
  /** The value of Content-Length, if any: lets a large body be refused before it comes. */
  readonly announced: string | undefined;
  /** Bytes. */
  readonly limit: number;
  readonly files: BodyFiles;
  /** Called with each chunk that came; what it throws ends the transfer. */
  readonly onChunk: () => void;
}

export interface ReceivedBody {
  /** A content file is on stable storage. */
  readonly content: Content;
  /** SHA-256 of the body after decompression, in lower-case hex. */
  readonly digest: string;
}

/** Rejects with BodyTooLarge, StorageFault, or what broke the transfer; then no content file is left. */
export async function receiveBody(body: Readable, options: BodyOptions): Promise<ReceivedBody> {
  if (Number(options.announced) > options.limit) {
    body.destroy();
    throw new BodyTooLarge(`its Content-Length of ${options.announced ?? ''} is over ${options.limit} bytes`);
  }
  const sink = new BodySink(options.files);
  const hash = createHash('sha256');
  const overLimit = (): Error => new BodyTooLarge(`it is larger than ${options.limit} bytes`);

  let received = 0;
  async function* counted(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of source) {
      options.onChunk();
      received += chunk.length;
      if (received > options.limit) throw overLimit();
      yield chunk;
    }
  }
  let storing = Promise.resolve();
  const write = async (source: AsyncIterable<Buffer>): Promise<void> => {
    for await (const chunk of source) {
      if (sink.size + chunk.length > options.limit) throw overLimit();
      hash.update(chunk);
      await sink.write(chunk);
    }
  };
  const store = (source: AsyncIterable<Buffer>): Promise<void> => (storing = write(source));

  try {
    const decoder = decoderFor(options.encoding);
    if (decoder === undefined) await pipeline(body, counted, store);
    else await decompress(body, counted, decoder, store, () => received === 0);
    return { content: await sink.finish(), digest: hash.digest('hex') };
  } catch (error) {
    body.destroy();
    // A pipeline that breaks does not wait for its last step, which may just be opening the file.
    await storing.catch(() => undefined);
    await sink.discard();
    throw error;
  }
}

/** No bytes at all are an empty body under any encoding, which the decoders themselves would call cut short. */
async function decompress(
  body: Readable,
  counted: (source: AsyncIterable<Buffer>) => AsyncGenerator<Buffer>,
  decoder: Transform,
  store: (source: AsyncIterable<Buffer>) => Promise<void>,
  isEmpty: () => boolean,
): Promise<void> {
  let isComplete = false;
  async function* noted(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    yield* counted(source);
    isComplete = true;
  }
  const isEmptyAndComplete = (): boolean => isComplete && isEmpty();
  try {
    await pipeline(body, noted, decoder, store);
  } catch (error) {
    if (!isEmptyAndComplete()) throw error;
  }
}

function decoderFor(encoding: string | undefined): Transform | undefined {
  switch (encoding?.trim().toLowerCase()) {
    case undefined:
    case '':
    case 'identity':
      return undefined;
    case 'gzip':
    case 'x-gzip':
      return createGunzip();
    case 'deflate':
      return createInflate();
    case 'br':
      return createBrotliDecompress();
    default:
      throw new Error('it came in a Content-Encoding that was not asked for');
  }
}

/** Gathers bytes in memory until there are too many for a record, then in a file. */
class BodySink {
  #chunks: Buffer[] = [];
  #file: ContentWriter | undefined;
  size = 0;

  constructor(private readonly files: BodyFiles) {}

  async write(chunk: Buffer): Promise<void> {
    this.#chunks.push(chunk);
    this.size += chunk.length;
    if (this.size <= INLINE_LIMIT) return;
    const file = (this.#file ??= this.files.newContentFile());
    await asStorageFault(file.write(this.#chunks));
    this.#chunks = [];
  }

  async finish(): Promise<Content> {
    if (this.#file === undefined) return { kind: 'inline', bytes: Buffer.concat(this.#chunks) };
    return asStorageFault(this.#file.finish(this.#chunks));
  }

  async discard(): Promise<void> {
    await this.#file?.discard();
  }
}

async function asStorageFault<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw new StorageFault('the content file cannot be written', { cause: error });
  }
}
