/** A Transfer from the worker's side: shows every chunk it gets, sends bodies as an honest worker does, or as none would. */
import type { ClientDuplexStream, StatusObject } from '@grpc/grpc-js';
import type { BodyCredit, BodyFrame, Chunk } from '../../protocol/generated/stream.js';
import { Signal } from '../../src/signal/index.js';

const NEVER = new AbortController().signal;
const CHUNK = 256 * 1024;

export function chunk(id: number, offset: number, data: Buffer, parts: Partial<Chunk> = {}): Chunk {
  return { id, offset: BigInt(offset), data, last: false, aborted: false, ...parts };
}

export class WorkerTransfer {
  readonly chunks: Chunk[] = [];
  readonly credits: BodyCredit[] = [];
  readonly came = new Signal<BodyFrame>('came');
  readonly end: Promise<StatusObject>;
  /** Whether it says of each chunk that it was used. */
  isCrediting = true;
  /** Called with each chunk; by default it is kept. */
  onChunk: (each: Chunk) => void = (each) => void this.chunks.push(each);
  #allowed = new Map<number, number>();

  constructor(
    readonly call: ClientDuplexStream<BodyFrame, BodyFrame>,
    token: Buffer,
  ) {
    this.end = new Promise((resolve) => call.on('status', resolve));
    call.on('error', () => undefined);
    call.on('data', (frame: BodyFrame) => this.#take(frame));
    this.send({ token });
  }

  send(parts: Partial<BodyFrame>): void {
    this.call.write({ token: Buffer.alloc(0), chunks: [], credits: [], ...parts });
  }

  /** The bytes of a body that came, once it is whole. */
  async body(id: number): Promise<Buffer> {
    await this.until(() => this.chunks.find((each) => each.id === id && each.last));
    return Buffer.concat(this.chunks.filter((each) => each.id === id).map(({ data }) => data));
  }

  /** Sends a whole body, as its credits allow. */
  async sendBody(id: number, bytes: Buffer): Promise<void> {
    for (let sent = 0; sent < bytes.length || sent === 0;) {
      const room = await this.until(() => {
        const left = (this.#allowed.get(id) ?? 1024 * 1024) - sent;
        return left > 0 ? left : undefined;
      });
      const data = bytes.subarray(sent, sent + Math.min(CHUNK, room));
      this.send({ chunks: [chunk(id, sent, data, { last: sent + data.length === bytes.length })] });
      sent += data.length;
      if (bytes.length === 0) return;
    }
  }

  async until<T>(find: () => T | undefined): Promise<T> {
    const ended = this.end.then(({ details }) => {
      throw new Error(`Transfer ended: ${details}`);
    });
    ended.catch(() => undefined);
    for (;;) {
      const found = find();
      if (found !== undefined) return found;
      await Promise.race([this.came.next(NEVER), ended]);
    }
  }

  #take(frame: BodyFrame): void {
    this.credits.push(...frame.credits);
    for (const { id, bytes } of frame.credits) {
      this.#allowed.set(id, (this.#allowed.get(id) ?? 1024 * 1024) + Number(bytes));
    }
    for (const each of frame.chunks) {
      this.onChunk(each);
      if (this.isCrediting && each.data.length > 0) {
        this.send({ credits: [{ id: each.id, bytes: BigInt(each.data.length), stop: false }] });
      }
    }
    this.came.emit(frame);
  }
}
