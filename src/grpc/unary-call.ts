/**
 * One unary call: headers and the message out, the answer and its status in. grpc-js does the same with some twenty
 * objects and four promises or ticks for each call, which took more than all else that is done for a message.
 */
import {
  constants,
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
} from 'node:http2';
import { status } from '@grpc/grpc-js';
import { OneMessage } from './frame.js';
import { DROPPED, statusFrom, statusFromClose, statusFromProblem, type CallStatus } from './status.js';

/** What stands in the headers of a method's calls. */
export type Method = Readonly<Record<string, string>>;

/** The method at this path, as gRPC has it: `/package.Service/Method`. */
export function methodAt(path: string): Method {
  return {
    ':method': 'POST',
    ':scheme': 'http',
    ':authority': 'localhost',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
    'user-agent': 'grpc-node-yggdrasil',
  };
}

/** A call that a channel makes when it is connected. */
export interface Startable {
  /** Whether nobody is told of it any more. */
  readonly isOver: boolean;
  /** Throws where the session takes no more streams. */
  start(session: ClientHttp2Session): void;
  /** Ends it with this status, unless it has ended. */
  fail(failure: CallStatus): void;
}

/** How a call ended: with an answer, or with a status that is not OK. */
export type Ended = (failure: CallStatus | undefined, answer: Buffer) => void;

const NO_BYTES = Buffer.alloc(0);

/** 'close' tells the same, and comes for every end. */
const ignored = (): void => undefined;

export class UnaryCall implements Startable {
  #session: ClientHttp2Session | undefined;
  #stream: ClientHttp2Stream | undefined;
  #httpStatus: number | undefined;
  #status: CallStatus | undefined;
  readonly #answer: OneMessage;

  /** `largest`: bytes of an answer. `ended` is called once, unless the call is cancelled. */
  constructor(
    largest: number,
    private readonly method: Method,
    private readonly frame: Buffer,
    private ended: Ended | undefined,
  ) {
    this.#answer = new OneMessage(largest);
  }

  /** Whether nobody is told of it any more. */
  get isOver(): boolean {
    return this.ended === undefined;
  }

  /** Sends it. Throws where the session takes no more streams. */
  start(session: ClientHttp2Session): void {
    const stream = session.request(this.method);
    this.#session = session;
    this.#stream = stream;
    stream.on('response', (answer, flags) => this.#onHeaders(answer, flags));
    stream.on('trailers', (trailers: IncomingHttpHeaders) => this.#onStatus(trailers));
    stream.on('data', (chunk: Buffer) => this.#onData(chunk));
    stream.on('end', () => this.#finishIfWhole());
    stream.on('error', ignored);
    stream.on('close', () => this.#onClose(stream.rstCode));
    stream.end(this.frame);
  }

  /** Ends it; nobody is told. */
  cancel(): void {
    this.ended = undefined;
    this.#reset();
  }

  /** Ends it with this status, unless it has ended. */
  fail(failure: CallStatus): void {
    const { ended } = this;
    this.ended = undefined;
    ended?.(failure, NO_BYTES);
    this.#reset();
  }

  #reset(): void {
    if (this.#stream?.closed === false) this.#stream.close(constants.NGHTTP2_CANCEL);
  }

  #onHeaders(headers: IncomingHttpHeaders & IncomingHttpStatusHeader, flags: number): void {
    this.#httpStatus = headers[':status'];
    if ((flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0) this.#onStatus(headers);
  }

  #onStatus(headers: IncomingHttpHeaders): void {
    this.#status = statusFrom(headers, this.#httpStatus);
    if (this.#status.code !== status.OK) this.fail(this.#status);
    // Nearly always; else its bytes wait in the stream, and 'end' comes after them.
    else if (this.#answer.message !== undefined) this.#finishIfWhole();
  }

  #onData(chunk: Buffer): void {
    if (this.isOver) return;
    const problem = this.#answer.push(chunk);
    if (problem !== undefined) this.fail(statusFromProblem(problem, this.#httpStatus));
  }

  #finishIfWhole(): void {
    const { ended } = this;
    // Without trailers 'close' tells why.
    if (ended === undefined || this.#status === undefined) return;
    const { message } = this.#answer;
    if (message === undefined) this.fail({ code: status.UNIMPLEMENTED, details: 'No message received' });
    else {
      this.ended = undefined;
      // Who answers before it has read the whole message would keep the rest of it here.
      if (this.#stream?.writableFinished === false) this.#reset();
      ended(undefined, message);
    }
  }

  #onClose(reset: number): void {
    if (this.isOver) return;
    this.#finishIfWhole();
    this.fail(this.#session?.destroyed === true ? DROPPED : statusFromClose(reset, this.#httpStatus));
  }
}
