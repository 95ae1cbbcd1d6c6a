/**
 * The bodies of results on their way to the agent, side by side: a chunk of each in turn, as far as its credits go. Pure
 * state; the transfer writes what `next` gives.
 */
import type { BodyCredit, Chunk } from '../../../protocol/generated/stream.js';
import { BODY_WINDOW } from './stream-body.js';

const CHUNK: number = 128 * 1024;

interface Outgoing {
  readonly content: Buffer;
  offset: number;
  credit: number;
  isBegun: boolean;
  isStopped: boolean;
}

export class OutgoingBodies {
  /** By the number of the result; the first of them is next. */
  readonly #bodies = new Map<number, Outgoing>();
  /** Those that have begun, or may: no more side by side than the agent takes. */
  most = 4;
  #begun = 0;

  add(id: number, content: Buffer): void {
    this.#bodies.set(id, { content, offset: 0, credit: BODY_WINDOW, isBegun: false, isStopped: false });
  }

  /** The agent used some of it, or wants no more. One that is unknown has ended in the meantime. */
  credited({ id, bytes, stop }: BodyCredit): void {
    const body = this.#bodies.get(id);
    if (body === undefined) return;
    body.credit += Number(bytes);
    if (stop) body.isStopped = true;
  }

  /** It is not wanted any more: it ends with its next chunk. Does nothing where it has ended. */
  stop(id: number): void {
    const body = this.#bodies.get(id);
    if (body !== undefined) body.isStopped = true;
  }

  /** The next chunk, of at most `most` bytes, or undefined where no body has credit. */
  next(most: number): Chunk | undefined {
    for (const [id, body] of this.#bodies) {
      if (!body.isBegun && this.#begun >= this.most) continue;
      if (body.isStopped) {
        this.#end(id, body);
        return { id, offset: BigInt(body.offset), data: Buffer.alloc(0), last: true, aborted: true };
      }
      const end = Math.min(body.offset + Math.min(CHUNK, most, body.credit), body.content.length);
      if (end === body.offset && end < body.content.length) continue;
      const chunk = {
        id,
        offset: BigInt(body.offset),
        data: body.content.subarray(body.offset, end),
        last: end === body.content.length,
        aborted: false,
      };
      body.credit -= chunk.data.length;
      body.offset = end;
      if (!body.isBegun) this.#begun += 1;
      body.isBegun = true;
      if (chunk.last) this.#end(id, body);
      else {
        this.#bodies.delete(id);
        this.#bodies.set(id, body); // Behind the others.
      }
      return chunk;
    }
    return undefined;
  }

  #end(id: number, body: Outgoing): void {
    this.#bodies.delete(id);
    if (body.isBegun) this.#begun -= 1;
  }
}
