/**
 * A content that comes in chunks. It keeps what it may get without being asked, the first MiB, and gives credit for more
 * only as what came is used: so a body that nobody reads, or that waits for its turn, holds no more than that.
 */
import { Readable } from 'node:stream';
import type { Chunk } from '../../../protocol/generated/stream.js';
import type { IncomingBody } from '../delivery.js';
import { RuleBroken } from './rules.js';

/** What a sender may have on the way without a credit. */
export const BODY_WINDOW: number = 1024 * 1024;
const MOST_IN_CHUNK = 256 * 1024;
/** Kept by a stream beside what its reader holds. */
const READ_AHEAD = 256 * 1024;

export interface BodyPort {
  /** So many bytes were used. */
  credit(bytes: number): void;
  /** No more is wanted. */
  stop(): void;
}

interface Collecting {
  readonly whole: Buffer;
  at: number;
  readonly resolve: (whole: Buffer) => void;
  readonly reject: (error: Error) => void;
}

export class StreamBody implements IncomingBody {
  #kept: Buffer[] = [];
  #received = 0;
  /** How many bytes the sender may have sent in all. */
  #granted = BODY_WINDOW;
  #isLast = false;
  #isWhole = false;
  #isStopped = false;
  #failure: Error | undefined;
  #collecting: Collecting | undefined;
  #collected: Promise<Buffer> | undefined;
  #stream: Readable | undefined;

  constructor(
    readonly size: number,
    private readonly port: BodyPort,
  ) {}

  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Whether its last chunk came. */
  get isLast(): boolean {
    return this.#isLast;
  }

  collect(): Promise<Buffer> {
    this.#collected ??= new Promise((resolve, reject) => {
      if (this.#failure !== undefined) reject(this.#failure);
      else {
        this.#collecting = { whole: Buffer.allocUnsafe(this.size), at: 0, resolve, reject };
        this.#use();
      }
    });
    return this.#collected;
  }

  stream(): Readable {
    if (this.#stream === undefined) {
      this.#stream = new Readable({
        highWaterMark: READ_AHEAD,
        read: () => this.#use(),
        destroy: (error, done) => {
          this.stop();
          done(error);
        },
      });
      if (this.#failure !== undefined) this.#stream.destroy(this.#failure);
    }
    return this.#stream;
  }

  stop(): void {
    if (this.#isStopped || this.#isLast || this.#failure !== undefined) return;
    this.#isStopped = true;
    this.#kept = [];
    this.port.stop();
    this.#stream?.destroy();
  }

  /** The next chunk, whose data are there until this returns. Throws RuleBroken where it is none that may come now. */
  push({ id, offset, data, last, aborted }: Chunk): void {
    if (data.length > MOST_IN_CHUNK) throw new RuleBroken(`a chunk of body ${id} has ${data.length} bytes`);
    if (aborted && !last) throw new RuleBroken(`body ${id} is aborted by a chunk that is not its last`);
    if (this.#isLast) throw new RuleBroken(`a chunk of body ${id} after its last one`);
    if (Number(offset) !== this.#received) {
      throw new RuleBroken(`a chunk of body ${id} at ${offset} where ${this.#received} was to come`);
    }
    this.#received += data.length;
    if (this.#received > this.size) throw new RuleBroken(`body ${id} is longer than its ${this.size} bytes`);
    if (this.#received > this.#granted) throw new RuleBroken(`body ${id} came faster than its credits`);
    if (last && !aborted && this.#received < this.size) throw new RuleBroken(`body ${id} ends before its time`);
    this.#isLast = last;
    this.#isWhole = last && !aborted;
    if (this.#isStopped) return;
    if (data.length > 0 && this.#collecting === undefined) this.#kept.push(Buffer.from(data));
    else if (this.#collecting !== undefined) this.#copy(this.#collecting, data);
    if (aborted) this.fail(new Error('the agent could not read the content to its end'));
    else this.#use();
  }

  /** It will never be whole. */
  fail(failure: Error): void {
    if (this.#isStopped || this.#isWhole || this.#failure !== undefined) return;
    this.#failure = failure;
    this.#kept = [];
    this.#collecting?.reject(failure);
    this.#stream?.destroy(failure);
  }

  /** Gives on what was kept, as far as it is taken. */
  #use(): void {
    if (this.#collecting !== undefined) this.#collect(this.#collecting);
    else if (this.#stream !== undefined) this.#feed(this.#stream);
  }

  #copy(collecting: Collecting, data: Buffer): void {
    data.copy(collecting.whole, collecting.at);
    collecting.at += data.length;
    this.#grant(data.length);
  }

  #collect(collecting: Collecting): void {
    for (const chunk of this.#kept) this.#copy(collecting, chunk);
    this.#kept = [];
    if (this.#isWhole) collecting.resolve(collecting.whole);
  }

  #feed(stream: Readable): void {
    for (let chunk = this.#kept.shift(); chunk !== undefined; chunk = this.#kept.shift()) {
      this.#grant(chunk.length);
      if (!stream.push(chunk)) break;
    }
    if (this.#isWhole && this.#kept.length === 0) stream.push(null);
  }

  /** Credit for what was used, while the sender needs any to come to the end. */
  #grant(bytes: number): void {
    if (this.#granted >= this.size) return;
    this.#granted += bytes;
    this.port.credit(bytes);
  }
}
