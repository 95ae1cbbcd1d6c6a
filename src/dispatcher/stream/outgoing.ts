/**
 * Bodies of deliveries on their way out, read bit by bit: one chunk of each in turn, as far as its credits go, so that
 * memory is flat whatever their size and one worker's slow body holds up none of its others. One that has begun and may go
 * to its end without a credit does so first: short ones side by side would all be in memory until the last of them is
 * through, at both ends, and none would be there sooner. Each ends with one `last`.
 */
import type { BodyCredit, Chunk } from '../../../protocol/generated/stream.js';
import type { ContentReader, DispatchStore, FileContent } from '../ports.js';
import { FIRST_WINDOW, MOST_IN_CHUNK } from './incoming.js';
import { Violation } from './violation.js';

/** Less than this is not worth a frame, unless it is the rest. */
const LEAST_IN_CHUNK = 64 * 1024;

const NO_BYTES = Buffer.alloc(0);

interface Outgoing {
  readonly id: number;
  readonly content: FileContent;
  readonly onUnreadable: (error: unknown) => void;
  reader: ContentReader | undefined;
  sent: number;
  credited: number;
  isStopped: boolean;
}

/** Takes a chunk to the wire; resolves when there is room for the next. */
export type WriteChunk = (chunk: Chunk) => Promise<void>;

export class OutgoingBodies {
  readonly #bodies = new Map<number, Outgoing>();
  /** Whose turn it was, while it may go to its end. */
  #ending: Outgoing | undefined;
  #write: WriteChunk | undefined;
  #isRunning = false;
  /** The greatest id that ever had a body: a credit for one that is done comes late, one beyond it is made up. */
  #lastId = 0;

  constructor(private readonly store: Pick<DispatchStore, 'openContent'>) {}

  /** Bodies that have not been sent to their end. */
  get count(): number {
    return this.#bodies.size;
  }

  /** Sends a body from now on, or once there is a way. `onUnreadable` is called when it breaks off for that. */
  send(id: number, content: FileContent, onUnreadable: (error: unknown) => void): void {
    this.#lastId = Math.max(this.#lastId, id);
    this.#bodies.set(id, {
      id,
      content,
      onUnreadable,
      reader: undefined,
      sent: 0,
      credited: 0,
      isStopped: false,
    });
    this.#run();
  }

  /** The worker used some of a body, or wants no more of it. Throws a Violation. */
  credit({ id, bytes, stop }: BodyCredit): void {
    const body = this.#bodies.get(id);
    if (body === undefined) {
      if (id === 0 || id > this.#lastId) throw new Violation(`the credit for ${id} is for no body`);
      return;
    }
    // No more can have been used than was sent.
    if (bytes > BigInt(body.sent - body.credited)) throw new Violation(`more of the body ${id} was used than was sent`);
    body.credited += Number(bytes);
    if (stop) body.isStopped = true;
    this.#run();
  }

  /** The message it belongs to is settled: the rest is of no use. */
  stop(id: number): void {
    const body = this.#bodies.get(id);
    if (body === undefined) return;
    body.isStopped = true;
    this.#run();
  }

  /** There is a way to the worker. */
  attach(write: WriteChunk): void {
    this.#write = write;
    this.#run();
  }

  /** The way is gone. */
  detach(): void {
    this.#write = undefined;
  }

  /** Sends no more of any. */
  close(): void {
    this.detach();
    for (const body of this.#bodies.values()) this.#forget(body);
  }

  #run(): void {
    if (this.#isRunning) return;
    // It ends by itself when no body may go on, and is called again when one may.
    void this.#sendAll();
  }

  async #sendAll(): Promise<void> {
    this.#isRunning = true;
    for (let body = this.#next(); body !== undefined && this.#write !== undefined; body = this.#next()) {
      // Behind the others for its next turn.
      this.#bodies.delete(body.id);
      this.#bodies.set(body.id, body);
      const chunk = await this.#chunkOf(body);
      body.sent += chunk.data.length;
      this.#ending = !chunk.last && allowed(body) >= body.content.size - body.sent ? body : undefined;
      const isWanted = this.#bodies.get(body.id) === body;
      if (chunk.last || !isWanted) this.#forget(body);
      if (isWanted) await this.#way()?.(chunk);
    }
    this.#isRunning = false;
  }

  /** It may have gone while a chunk was read. */
  #way(): WriteChunk | undefined {
    return this.#write;
  }

  #next(): Outgoing | undefined {
    if (this.#ending !== undefined && this.#bodies.get(this.#ending.id) === this.#ending) return this.#ending;
    for (const body of this.#bodies.values()) {
      const rest = body.content.size - body.sent;
      if (body.isStopped || allowed(body) >= Math.min(LEAST_IN_CHUNK, rest)) return body;
    }
    return undefined;
  }

  async #chunkOf(body: Outgoing): Promise<Chunk> {
    const { id, content, sent } = body;
    const chunk = { id, offset: BigInt(sent), data: NO_BYTES, last: true, aborted: true };
    if (body.isStopped) return chunk;
    try {
      body.reader ??= await this.store.openContent(content);
      const { bytes, isLast } = await body.reader.next(Math.min(MOST_IN_CHUNK, allowed(body)));
      return { ...chunk, data: bytes, last: isLast, aborted: false };
    } catch (error) {
      if (this.#bodies.get(id) === body) body.onUnreadable(error);
      return chunk;
    }
  }

  #forget(body: Outgoing): void {
    if (this.#bodies.get(body.id) === body) this.#bodies.delete(body.id);
    // What cannot be closed is read no more all the same.
    body.reader?.close().catch(() => undefined);
    body.reader = undefined;
  }
}

function allowed({ sent, credited }: Outgoing): number {
  return FIRST_WINDOW + credited - sent;
}
