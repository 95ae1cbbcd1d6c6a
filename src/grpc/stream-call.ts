/** One call with many messages each way: frames go out as they are given, and messages come in as they are whole. */
import {
  constants,
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type Http2Stream,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
} from 'node:http2';
import { status } from '@grpc/grpc-js';
import { FrameSplitter } from './frame.js';
import { DROPPED, statusFrom, statusFromClose, statusFromProblem, type CallStatus } from './status.js';
import type { Method, Startable } from './unary-call.js';

export interface StreamHandlers {
  /**
   * A message: a view of what came, which is never written again but where `isPassing`; to keep it keeps all of that in
   * memory.
   */
  readonly onMessage: (message: Buffer) => void;
  /** A message is of no use once `onMessage` has returned: the next may come to stand in its place. */
  readonly isPassing?: boolean;
  /** It is over; called once, in a later turn than what made it so. */
  readonly onEnd: (status: CallStatus) => void;
}

/** A frame (frame.ts), whole or in pieces. */
export type Frame = Buffer | readonly Buffer[];

/** 'close' tells the same, and comes for every end. */
const ignored = (): void => undefined;

export class StreamCall implements Startable {
  #session: ClientHttp2Session | undefined;
  #stream: ClientHttp2Stream | undefined;
  /** Frames that were written before there was a connection. */
  #early: { readonly frame: Frame; readonly sent: (() => void) | undefined }[] = [];
  #isEndWanted = false;
  #isCancelled = false;
  #isOver = false;
  #httpStatus: number | undefined;
  /** What the other side said of the end. */
  #told: CallStatus | undefined;
  readonly #messages: FrameSplitter;
  readonly #onMessage = (message: Buffer): void => {
    if (!this.#isOver) this.handlers.onMessage(message);
  };

  constructor(
    largest: number,
    private readonly method: Method,
    private readonly handlers: StreamHandlers,
  ) {
    this.#messages = new FrameSplitter(largest, handlers.isPassing);
  }

  get isOver(): boolean {
    return this.#isOver || this.#isCancelled;
  }

  start(session: ClientHttp2Session): void {
    const stream = session.request(this.method);
    this.#session = session;
    this.#stream = stream;
    stream.on('response', (headers, flags) => this.#onHeaders(headers, flags));
    stream.on('trailers', (trailers: IncomingHttpHeaders) => this.#onStatus(trailers));
    stream.on('data', (chunk: Buffer) => this.#onData(chunk));
    stream.on('end', () => this.#finishIfTold());
    stream.on('error', ignored);
    stream.on('close', () => this.#onClose(stream.rstCode));
    for (const { frame, sent } of this.#early.splice(0)) writeTo(stream, frame, sent);
    if (this.#isEndWanted) stream.end();
  }

  /**
   * Sends a frame, which is not copied: nobody may write into it until it is `sent`. What is written after the end is for
   * nobody.
   */
  write(frame: Frame, sent?: () => void): void {
    if (this.#stream === undefined) this.#early.push({ frame, sent });
    else if (!this.#stream.writableEnded && !this.#stream.destroyed) writeTo(this.#stream, frame, sent);
  }

  /** Nothing more is written. */
  end(): void {
    this.#isEndWanted = true;
    this.#stream?.end();
  }

  /** Cuts it off. */
  cancel(): void {
    if (this.#isOver || this.#isCancelled) return;
    this.#isCancelled = true;
    if (this.#stream === undefined) setImmediate(() => this.fail(CANCELLED));
    else this.#reset(this.#stream);
  }

  fail(failure: CallStatus): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.handlers.onEnd(failure);
    if (this.#stream !== undefined) this.#reset(this.#stream);
  }

  #reset(stream: ClientHttp2Stream): void {
    if (!stream.closed) stream.close(constants.NGHTTP2_CANCEL);
  }

  #onHeaders(headers: IncomingHttpHeaders & IncomingHttpStatusHeader, flags: number): void {
    this.#httpStatus = headers[':status'];
    if ((flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0) this.#onStatus(headers);
  }

  #onStatus(headers: IncomingHttpHeaders): void {
    // Its bytes may wait in the stream: 'end' comes after them.
    this.#told = statusFrom(headers, this.#httpStatus);
  }

  #onData(chunk: Buffer): void {
    if (this.#isOver) return;
    const problem = this.#messages.push(chunk, this.#onMessage);
    if (problem !== undefined) this.fail(statusFromProblem(problem, this.#httpStatus));
  }

  #finishIfTold(): void {
    if (this.#told === undefined || this.#isOver) return;
    this.#isOver = true;
    const stream = this.#stream;
    // What it has not read by now it never will.
    if (stream !== undefined && stream.writableLength > 0) this.#reset(stream);
    else stream?.end();
    this.handlers.onEnd(this.#told);
  }

  #onClose(reset: number): void {
    if (this.#isCancelled) this.fail(CANCELLED);
    this.#finishIfTold();
    this.fail(this.#session?.destroyed === true ? DROPPED : statusFromClose(reset, this.#httpStatus));
  }
}

/** Writes a frame in one go. */
export function writeTo(stream: Http2Stream, frame: Frame, sent: (() => void) | undefined): void {
  if (Buffer.isBuffer(frame)) {
    stream.write(frame, sent);
    return;
  }
  stream.cork();
  const last = frame.length - 1;
  for (const [index, piece] of frame.entries()) stream.write(piece, index === last ? sent : undefined);
  stream.uncork();
}

const CANCELLED: CallStatus = { code: status.CANCELLED, details: 'Cancelled on client' };
