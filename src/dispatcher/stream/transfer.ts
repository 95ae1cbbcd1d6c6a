/**
 * One Transfer: the second call of a stream, which carries its bodies. It proves by the token which Connect it belongs
 * to; then chunks and credits go both ways. Two frames are on their way at once at most.
 */
import { status } from '@grpc/grpc-js';
import { bodyFramePieces, decodeBodyFrame } from '../../../protocol/body-frame.js';
import type { BodyCredit, BodyFrame, Chunk } from '../../../protocol/generated/stream.js';
import { errorText } from '../../errors.js';
import { framedInPlace, PREFIX, type FrameProblem, type ServerCall } from '../../grpc/index.js';
import type { Clock, Millis } from '../../time.js';
import { MOST_EMPTY, statusOfUnfit, Violation } from './violation.js';

/** Bytes of the largest frame: a chunk, and what stands around it. */
const LARGEST_FRAME = 512 * 1024;

const MOST_ON_THE_WAY = 2;

/** Of all frames but the first. */
const NO_TOKEN = Buffer.alloc(0);

/** What a Transfer works for, once it has said so. */
export interface TransferOwner {
  /** The bytes of the chunks are there until it returns. Throws a Violation. */
  readonly receive: (chunks: readonly Chunk[], credits: readonly BodyCredit[]) => void;
  /** It has ended; `violation` when the worker broke a rule on it. */
  readonly ended: (violation: string | undefined) => void;
}

export interface TransferOptions {
  readonly clock: Clock;
  /** How long the token may take. */
  readonly tokenWithin: Millis;
  /** Finds the Connect of a token; undefined when there is none. Throws a Violation when it has a Transfer already. */
  readonly adopt: (token: Buffer, transfer: Transfer) => TransferOwner | undefined;
}

export class Transfer {
  #owner: TransferOwner | undefined;
  #isOver = false;
  #empties = 0;
  #onTheWay = 0;
  #turn: NodeJS.Immediate | undefined;
  /** By body, until the end of the turn. */
  readonly #credits = new Map<number, BodyCredit>();
  #whenRoom: (() => void)[] = [];
  readonly #token = new AbortController();

  /** A worker calls Transfer. From here on it lives by what comes. */
  static begin(call: ServerCall, options: TransferOptions): void {
    new Transfer(call, options).#listen();
  }

  private constructor(
    private readonly call: ServerCall,
    private readonly options: TransferOptions,
  ) {}

  #listen(): void {
    const { call, options } = this;
    call.listen(
      {
        onMessage: (bytes) => this.#received(bytes),
        isPassing: true,
        onProblem: (problem) => this.#unfit(problem),
        onEnd: () => this.#halfClosed(),
        onClose: () => this.#over(undefined),
      },
      LARGEST_FRAME,
    );
    const late = 'the token did not come in time';
    options.clock.after(options.tokenWithin, () => this.end(status.DEADLINE_EXCEEDED, late), this.#token.signal);
  }

  /** Lets more of a body come, or none; what is said of one body within a turn goes as one. */
  credit({ id, bytes, stop }: BodyCredit): void {
    if (this.#isOver) return;
    const before = this.#credits.get(id);
    this.#credits.set(id, { id, bytes: bytes + (before?.bytes ?? 0n), stop: stop || before?.stop === true });
    this.#turn ??= setImmediate(() => {
      this.#turn = undefined;
      this.#flush();
    });
  }

  /** Sends a chunk; resolves when there is room for the next, or the call is over. */
  chunk(chunk: Chunk): Promise<void> {
    if (this.#isOver) return Promise.resolve();
    this.#write({ token: NO_TOKEN, chunks: [chunk], credits: this.#takeCredits() });
    if (this.#onTheWay < MOST_ON_THE_WAY) return Promise.resolve();
    return new Promise((resolve) => this.#whenRoom.push(resolve));
  }

  /** Reads nothing more for now, or again: HTTP/2 makes the worker wait. */
  hold(isHeld: boolean): void {
    this.call.hold(isHeld);
  }

  /** Ends the call. */
  end(code: status, reason: string): void {
    if (this.#isOver) return;
    this.#over(code === status.INVALID_ARGUMENT ? reason : undefined);
    this.call.end({ code, details: reason });
  }

  #received(bytes: Buffer): void {
    if (this.#isOver) return;
    try {
      const { token, chunks, credits } = decoded(bytes);
      if (this.#owner === undefined) this.#introduced(token, chunks.length + credits.length);
      else {
        if (token.length > 0) throw new Violation('the token stands in the first frame and in no other');
        this.#empties = chunks.length + credits.length === 0 ? this.#empties + 1 : 0;
        if (this.#empties > MOST_EMPTY) throw new Violation('too many empty frames');
        this.#owner.receive(chunks, credits);
      }
    } catch (error) {
      this.end(error instanceof Violation ? status.INVALID_ARGUMENT : status.INTERNAL, errorText(error));
    }
  }

  #unfit(problem: FrameProblem): void {
    const { code, details } = statusOfUnfit(problem, `a frame of Transfer may have ${LARGEST_FRAME} bytes`);
    this.end(code, details);
  }

  #introduced(token: Buffer, others: number): void {
    if (others > 0 || token.length === 0)
      throw new Violation('the first frame of Transfer holds the token and nothing else');
    this.#owner = this.options.adopt(token, this);
    this.#token.abort();
    if (this.#owner === undefined) this.end(status.PERMISSION_DENIED, 'the token is that of no stream of this worker');
  }

  #flush(): void {
    if (this.#isOver || this.#credits.size === 0 || this.#onTheWay >= MOST_ON_THE_WAY) return;
    this.#write({ token: NO_TOKEN, chunks: [], credits: this.#takeCredits() });
  }

  #takeCredits(): BodyCredit[] {
    const credits = [...this.#credits.values()];
    this.#credits.clear();
    return credits;
  }

  #write(frame: BodyFrame): void {
    this.#onTheWay += 1;
    // The data of a chunk are not copied.
    this.call.write(framedInPlace(bodyFramePieces(frame, PREFIX)), () => {
      this.#onTheWay -= 1;
      this.#flush();
      if (this.#onTheWay < MOST_ON_THE_WAY) this.#wake();
    });
  }

  #wake(): void {
    for (const wake of this.#whenRoom.splice(0)) wake();
  }

  #halfClosed(): void {
    if (this.#isOver) return;
    this.#over(undefined);
    this.call.end();
  }

  #over(violation: string | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#token.abort();
    clearImmediate(this.#turn);
    this.#credits.clear();
    this.#wake();
    this.#owner?.ended(violation);
  }
}

function decoded(bytes: Buffer): BodyFrame {
  try {
    return decodeBodyFrame(bytes);
  } catch (error) {
    throw new Violation(`a frame is no BodyFrame: ${errorText(error)}`);
  }
}
