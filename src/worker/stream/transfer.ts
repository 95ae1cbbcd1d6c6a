/**
 * The Transfer call of one Connect: the bodies of deliveries in, those of results out. It begins with the first body,
 * and ends with its Connect; an agent that breaks a rule here ends both.
 */
import { bodyFramePieces, decodeBodyFrame } from '../../../protocol/body-frame.js';
import type { BodyCredit, BodyFrame, Chunk } from '../../../protocol/generated/stream.js';
import { errorText } from '../../errors.js';
import { framedInPlace, PREFIX, type StreamCall, type StreamHandlers } from '../../grpc/index.js';
import { AgentLost, type IncomingBody } from '../delivery.js';
import { OutgoingBodies } from './outgoing.js';
import { RuleBroken } from './rules.js';
import { BODY_WINDOW, StreamBody } from './stream-body.js';

export type TransferCall = Pick<StreamCall, 'write' | 'end' | 'cancel'>;

export interface TransferOptions {
  /** Makes the call. */
  readonly open: (handlers: StreamHandlers) => TransferCall;
  /** How many deliveries may have a body at once. */
  readonly bodies: number;
  /** The largest body that was allowed. */
  readonly maxBody: number;
  /** The call is of no use any more; its Connect has to end, too. */
  readonly onFail: (error: Error) => void;
}

/** Frames that may wait for the connection: enough to keep it busy. */
const MOST_UNSENT = 4;
const FRAME: number = 192 * 1024;
/** Less is not worth a chunk; more than what a chunk takes beside its data. */
const SCRAP = 64;
/** Chunks of one body before the frame that names it: more than any that fill the window. */
const MOST_AHEAD = 16_384;
/** Of all frames but the first. */
const NO_TOKEN = Buffer.alloc(0);

export class Transfer {
  #call: TransferCall | undefined;
  #token: Buffer = Buffer.alloc(0);
  #isOver = false;
  /** By tag, until the last chunk came. */
  readonly #incoming = new Map<number, StreamBody>();
  /** Chunks that came before the frame which names their body: two calls keep no order between them. */
  readonly #ahead = new Map<number, { readonly chunks: Chunk[]; bytes: number }>();
  readonly #outgoing = new OutgoingBodies();
  #credits: BodyCredit[] = [];
  #unsent = 0;
  #isScheduled = false;

  constructor(private readonly options: TransferOptions) {}

  /** What the agent's Welcome gives for the call: its token, and how many bodies it takes at once. */
  welcome(token: Buffer, bodies = 0): void {
    this.#token = token;
    this.#outgoing.most = bodies === 0 ? this.#outgoing.most : bodies;
  }

  /** The body of the delivery with this tag. Throws RuleBroken for one that is larger than allowed. */
  expect(tag: number, size: number): IncomingBody {
    const { maxBody } = this.options;
    if (size > maxBody)
      throw new RuleBroken(`the body of delivery ${tag} has ${size} bytes, and ${maxBody} are allowed`);
    if (this.#incoming.has(tag)) throw new RuleBroken(`the tag ${tag}, of which a body is under way, names another`);
    const body = new StreamBody(size, {
      credit: (bytes) => this.#credit({ id: tag, bytes: BigInt(bytes), stop: false }),
      stop: () => this.#credit({ id: tag, bytes: 0n, stop: true }),
    });
    this.#incoming.set(tag, body);
    const ahead = this.#ahead.get(tag)?.chunks ?? [];
    this.#ahead.delete(tag);
    for (const chunk of ahead) this.#give(body, chunk);
    this.#start();
    return body;
  }

  /** Sends the content of the result with this number. */
  send(number: number, content: Buffer): void {
    this.#outgoing.add(number, content);
    this.#start();
    this.#schedule();
  }

  /** The result is not wanted any more. */
  stop(number: number): void {
    this.#outgoing.stop(number);
    this.#schedule();
  }

  /** Nothing more goes this way. */
  end(): void {
    this.#call?.end();
  }

  /** The Connect is over. */
  close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const body of this.#incoming.values()) body.fail(new AgentLost('the agent went before the content was whole'));
    this.#incoming.clear();
    this.#ahead.clear();
    this.#call?.cancel();
  }

  #start(): void {
    if (this.#call !== undefined || this.#isOver) return;
    this.#call = this.options.open({
      onMessage: (bytes) => this.#onFrame(bytes),
      isPassing: true,
      onEnd: ({ details }) => {
        if (!this.#isOver) this.options.onFail(new Error(`the agent ended the transfer of bodies: ${details}`));
      },
    });
    this.#call.write(framed({ token: this.#token, chunks: [], credits: [] }));
  }

  #onFrame(bytes: Buffer): void {
    if (this.#isOver) return;
    try {
      const frame = decoded(bytes);
      for (const chunk of frame.chunks) this.#onChunk(chunk);
      for (const credit of frame.credits) this.#outgoing.credited(credit);
      this.#schedule();
    } catch (error) {
      if (!(error instanceof RuleBroken)) throw error;
      this.options.onFail(error);
    }
  }

  #onChunk(chunk: Chunk): void {
    const body = this.#incoming.get(chunk.id);
    if (body === undefined) this.#keep(chunk);
    else this.#give(body, chunk);
  }

  #give(body: StreamBody, chunk: Chunk): void {
    body.push(chunk);
    if (body.isLast) this.#incoming.delete(chunk.id);
  }

  #keep(chunk: Chunk): void {
    const ahead = this.#ahead.get(chunk.id) ?? { chunks: [], bytes: 0 };
    if (ahead.chunks.length === 0 && this.#ahead.size >= this.options.bodies) {
      throw new RuleBroken(`chunks of more bodies than the window has, of body ${chunk.id} for one`);
    }
    // A copy: the next frame comes to stand where this one did.
    ahead.chunks.push({ ...chunk, data: Buffer.from(chunk.data) });
    ahead.bytes += chunk.data.length;
    // What is wrong with their order is found when the body is known; here only what is kept is bounded.
    if (ahead.bytes > BODY_WINDOW || ahead.chunks.length > MOST_AHEAD) {
      throw new RuleBroken(`chunks of body ${chunk.id}, which no delivery names, beyond its window`);
    }
    this.#ahead.set(chunk.id, ahead);
  }

  #credit(credit: BodyCredit): void {
    if (this.#isOver) return;
    this.#credits.push(credit);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled || this.#isOver) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    const call = this.#call;
    if (call === undefined || this.#isOver) return;
    while (this.#unsent < MOST_UNSENT) {
      const chunks: Chunk[] = [];
      let room = FRAME;
      while (room > SCRAP) {
        const chunk = this.#outgoing.next(room);
        if (chunk === undefined) break;
        chunks.push(chunk);
        room -= chunk.data.length + SCRAP;
      }
      const credits = this.#credits;
      if (chunks.length === 0 && credits.length === 0) return;
      this.#credits = [];
      this.#unsent += 1;
      call.write(framed({ token: NO_TOKEN, chunks, credits }), () => {
        this.#unsent -= 1;
        this.#schedule();
      });
    }
  }
}

/** A frame in the frame of gRPC; the data of its chunks are not copied. */
function framed(frame: BodyFrame): readonly Buffer[] {
  return framedInPlace(bodyFramePieces(frame, PREFIX));
}

function decoded(bytes: Buffer): BodyFrame {
  try {
    return decodeBodyFrame(bytes);
  } catch (error) {
    throw new RuleBroken(`a frame is no BodyFrame: ${errorText(error)}`);
  }
}
