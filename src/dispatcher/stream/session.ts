/**
 * One Connect: Hello, Welcome, and then frames until either side ends it. It decodes, and decides how the call ends; what
 * the frames mean is the link's affair.
 */
import { timingSafeEqual } from 'node:crypto';
import { status } from '@grpc/grpc-js';
import type { Hello, Registered, WorkerFrame } from '../../../protocol/generated/stream.js';
import type { Config, RegistrationRequest } from '../../../protocol/generated/yggdrasil.js';
import { MessageReader } from '../../../protocol/message-reader.js';
import { errorText } from '../../errors.js';
import type { FrameProblem, ServerCall } from '../../grpc/index.js';
import type { Log } from '../../log/log.js';
import type { Clock, Millis } from '../../time.js';
import type { Link } from '../link-port.js';
import type { DispatchLimits, DispatchStore } from '../ports.js';
import { Bodies, type BodiesOptions } from './bodies.js';
import type { Books } from './books.js';
import { frameFrom } from './frame-reader.js';
import { MOST_IN_FRAME, Outbox } from './outbox.js';
import { Results } from './results.js';
import { StreamLink } from './stream-link.js';
import type { Transfer, TransferOwner } from './transfer.js';
import { statusOfUnfit, Violation } from './violation.js';
import { windowFrom, type WindowLimits } from './window.js';

/** Bytes of the largest frame: a completion with all that stands in frames, and its metadata. */
const LARGEST_FRAME = 4 * 1024 * 1024;

/** Deliveries in flight at one worker, whatever window it names. */
const DELIVERIES: WindowLimits = { messages: 1024, bytes: 4 * 1024 * 1024, bodies: 64 };

/** Results in flight from one worker. */
export const RESULTS: WindowLimits = { messages: 1024, bytes: 4 * 1024 * 1024, bodies: 8 };

/** Handlers that one Hello may name. */
const MOST_HANDLERS = 256;

export interface SessionOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: DispatchLimits;
  readonly books: Books;
  readonly store: BodiesOptions['store'] & Pick<DispatchStore, 'reserve'>;
  readonly config: () => Config;
  readonly token: Buffer;
  /** How long Hello may take. */
  readonly helloWithin: Millis;
  readonly register: (requests: readonly RegistrationRequest[], link: Link) => Promise<Registered[]>;
  /** Called while the link is up, when it may have room again. */
  readonly onRoom: () => void;
  /** Called once, when it is over. */
  readonly onEnd: () => void;
}

export class Session {
  #state: 'waiting' | 'registering' | 'open' | 'ended' = 'waiting';
  #link: StreamLink | undefined;
  readonly #outbox: Outbox;
  readonly #hello = new AbortController();
  readonly #bodies: Bodies;
  readonly #results: Results;
  readonly #reader = new MessageReader();

  constructor(
    private readonly call: ServerCall,
    private readonly options: SessionOptions,
  ) {
    const { store, limits: checks } = options;
    this.#bodies = new Bodies({
      store,
      mostIncoming: RESULTS.bodies,
      onBroken: (code, reason) => this.#refused(code, reason),
    });
    this.#results = new Results({ limits: RESULTS, checks, store, bodies: this.#bodies.incoming });
    this.#outbox = new Outbox({
      write: (frame, sent) => call.write(frame, sent),
      gather: () => {
        if (this.#link?.isReady === true) options.onRoom();
      },
    });
    // Attached at once: a stream that nobody listens to puts no pressure back.
    call.listen(
      {
        onMessage: (frame) => this.#received(frame),
        onProblem: (problem) => this.#unfit(problem),
        onEnd: () => this.#halfClosed(),
        onClose: () => this.#over(),
      },
      LARGEST_FRAME,
    );
    const late = 'Hello did not come in time';
    options.clock.after(options.helloWithin, () => this.end(status.DEADLINE_EXCEEDED, late), this.#hello.signal);
  }

  /** Ends the call. What is in flight on it is broken off. */
  end(code: status, reason: string): void {
    if (this.#state === 'ended') return;
    // gRPC sends what was written before the status.
    this.#outbox.tellSettled();
    this.#over();
    this.call.end({ code, details: reason });
  }

  /** A Transfer has shown this token; undefined when it is not that of this stream. Throws a Violation. */
  adopt(token: Buffer, transfer: Transfer): TransferOwner | undefined {
    const own = this.options.token;
    if (this.#state !== 'open' || token.length !== own.length || !timingSafeEqual(token, own)) return undefined;
    return this.#bodies.adopt(transfer);
  }

  #received(bytes: Buffer): void {
    if (this.#state === 'ended') return;
    try {
      const frame = decoded(bytes, this.#reader);
      if (this.#state === 'open') {
        checkSize(frame, bytes.length);
        this.#link?.receive(frame);
      } else this.#greeted(frame);
    } catch (error) {
      if (!(error instanceof Violation)) {
        this.options.log.error('dispatcher.stream_failed', `a frame could not be handled: ${errorText(error)}`);
      }
      const code = error instanceof Violation ? status.INVALID_ARGUMENT : status.INTERNAL;
      this.#refused(code, errorText(error));
    }
  }

  #unfit(problem: FrameProblem): void {
    if (this.#state === 'ended') return;
    const { code, details } = statusOfUnfit(problem, `a frame may have ${LARGEST_FRAME} bytes`);
    this.#refused(code, details);
  }

  #refused(code: status, reason: string): void {
    this.options.log.warn('dispatcher.stream_refused', `the stream of a worker was ended: ${reason}`);
    this.end(code, reason);
  }

  #greeted(frame: WorkerFrame): void {
    const { hello } = frame;
    if (hello === undefined || this.#state !== 'waiting') {
      throw new Violation('the first frame is Hello, and nothing comes before Welcome');
    }
    if (frame.completions.length + frame.refusals.length + frame.results.length + frame.pongs.length > 0) {
      throw new Violation('Hello stands alone in its frame');
    }
    const { registrations } = hello;
    if (registrations.length === 0 || registrations.length > MOST_HANDLERS) {
      throw new Violation(`Hello names at least one handler and at most ${MOST_HANDLERS}`);
    }
    this.#hello.abort();
    this.#state = 'registering';
    this.#register(hello).catch((error: unknown) =>
      this.#refused(status.UNAVAILABLE, `the agent could not register it: ${errorText(error)}`),
    );
  }

  async #register(hello: Hello): Promise<void> {
    const { limits, books, clock } = this.options;
    const link = new StreamLink({
      outbox: this.#outbox,
      books,
      clock,
      results: this.#results,
      bodies: this.#bodies.outgoing,
      window: windowFrom(hello.window, DELIVERIES),
      maxBody: hello.maxBody === 0n ? limits.workerMessageSize : Number(hello.maxBody),
      end: (reason) => this.end(status.ABORTED, reason),
    });
    this.#link = link;
    const registrations = await this.options.register(hello.registrations, link);
    if (this.#isOver()) return;
    this.#state = 'open';
    const { token, config } = this.options;
    const maxResult = BigInt(limits.resultSize);
    this.#outbox.welcome({ registrations, window: { ...RESULTS }, token, maxResult, config: config() });
    if (!registrations.some(({ registered }) => registered)) this.#close();
  }

  /** The worker has sent all it will. */
  #halfClosed(): void {
    if (this.#state === 'ended') return;
    if (this.#link === undefined) this.#refused(status.INVALID_ARGUMENT, 'the first frame is Hello');
    else this.#link.drain(() => this.#close());
  }

  /** Ends the call well, once what is to be sent is sent. */
  #close(): void {
    this.#outbox.drained(() => {
      if (this.#isOver()) return;
      this.#over();
      this.call.end();
    });
  }

  #isOver(): boolean {
    return this.#state === 'ended';
  }

  #over(): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#hello.abort();
    this.#outbox.close();
    this.#results.close();
    this.#bodies.close(status.ABORTED, 'the Connect of this Transfer has ended');
    this.#link?.gone();
    this.options.onEnd();
  }
}

function decoded(bytes: Buffer, reader: MessageReader): WorkerFrame {
  try {
    return frameFrom(bytes, reader);
  } catch (error) {
    throw new Violation(`a frame is no WorkerFrame: ${errorText(error)}`);
  }
}

function checkSize({ completions, refusals, results, pongs }: WorkerFrame, size: number): void {
  if (size > MOST_IN_FRAME && completions.length + refusals.length + results.length + pongs.length > 1) {
    throw new Violation(`a frame that holds more than one message may have ${MOST_IN_FRAME} bytes`);
  }
}
