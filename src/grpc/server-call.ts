/**
 * One call that came to us: what its client sends is given out as it comes, and answers go back until a status ends it.
 * Which messages those are is the method's affair.
 */
import { constants, type OutgoingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import { Readable } from 'node:stream';
import { status } from '@grpc/grpc-js';
import { FrameSplitter, type FrameProblem } from './frame.js';
import type { CallStatus } from './status.js';
import { writeTo, type Frame } from './stream-call.js';

/** What is told of a call with many messages. */
export interface CallHandlers {
  /** A message. It keeps no more memory than twice its bytes. */
  readonly onMessage: (message: Buffer) => void;
  /** A message is of no use once `onMessage` has returned: the next may come to stand in its place. */
  readonly isPassing?: boolean;
  /** What came cannot be taken, nor what comes behind it: the call must be ended. */
  readonly onProblem: (problem: FrameProblem) => void;
  /** The client has sent all it will. */
  readonly onEnd: () => void;
  /** The call is over and closed, whoever ended it. */
  readonly onClose: () => void;
}

/** What is told of a call before its messages are made out. */
export interface ChunkHandlers {
  readonly onChunk: (chunk: Buffer) => void;
  readonly onEnd: () => void;
}

export const OK: CallStatus = { code: status.OK, details: '' };

const HEADERS: OutgoingHttpHeaders = {
  ':status': 200,
  'content-type': 'application/grpc+proto',
  // What we take; of a message in another encoding its client is told that it is not implemented.
  'grpc-accept-encoding': 'identity',
};
const WITH_TRAILERS = { waitForTrailers: true };
const OK_TRAILERS: OutgoingHttpHeaders = { 'grpc-status': status.OK };

/** 'close' tells the same, and comes for every end. */
const ignored = (): void => undefined;

export class ServerCall {
  #status: CallStatus | undefined;

  constructor(private readonly stream: ServerHttp2Stream) {
    stream.on('error', ignored);
  }

  /** Whether a status has ended it, or its client has. */
  get isOver(): boolean {
    return this.#status !== undefined || this.#isClosed;
  }

  /** Gives out what comes, in the turn the call has come in: nobody else keeps it. `largest`: bytes of a message. */
  listen(handlers: CallHandlers, largest: number): void {
    const { isPassing = false } = handlers;
    const messages = new FrameSplitter(largest, isPassing);
    const onMessage = (message: Buffer): void => {
      if (!this.isOver) handlers.onMessage(isPassing ? message : sturdy(message));
    };
    const onChunk = (chunk: Buffer): void => {
      const problem = messages.push(chunk, onMessage);
      if (problem !== undefined && !this.isOver) handlers.onProblem(problem);
    };
    this.listenToChunks({ onChunk, onEnd: handlers.onEnd });
    this.closed(handlers.onClose);
  }

  /** As `listen`; nothing is told of a call that is over. */
  listenToChunks({ onChunk, onEnd }: ChunkHandlers): void {
    this.stream.on('data', (chunk: Buffer) => {
      if (!this.isOver) onChunk(chunk);
    });
    this.stream.on('end', () => {
      if (!this.isOver) onEnd();
    });
  }

  /** Calls back once its stream is closed: its client has read the status, or has gone. */
  closed(callback: () => void): void {
    this.stream.once('close', callback);
  }

  /** Sends a frame, which is not copied: nobody may write into it until it is `sent`. Behind the end it is for nobody. */
  write(frame: Frame, sent?: () => void): void {
    if (this.isOver) return;
    this.#begin();
    writeTo(this.stream, frame, sent);
  }

  /** Reads nothing more for now, or again: HTTP/2 makes the client wait. */
  hold(isHeld: boolean): void {
    const { stream } = this;
    if (isHeld && !this.isOver) {
      // What comes until the client's window is used up waits, and must not keep all that was read with it.
      stream.push = (chunk: unknown) =>
        Readable.prototype.push.call(stream, Buffer.isBuffer(chunk) ? sturdy(chunk) : chunk);
      stream.pause();
    } else {
      Reflect.deleteProperty(stream, 'push');
      stream.resume();
    }
  }

  /** Ends it, behind all that was written. What still comes is dropped. Idempotent. */
  end(how: CallStatus = OK): void {
    const { stream } = this;
    // Also where its client has gone: one that is held would never close.
    stream.resume();
    if (this.isOver) return;
    this.#status = how;
    if (stream.headersSent) stream.end();
    else stream.respond({ ...HEADERS, ...trailersOf(how) }, { endStream: true });
  }

  /** The answer of a call with one: it, and the end. */
  answer(frame: Buffer): void {
    if (this.isOver) return;
    this.#begin();
    this.#status = OK;
    this.stream.end(frame);
  }

  /** Answers a request that is none of gRPC. */
  refuse(): void {
    if (this.isOver) return;
    this.stream.respond({ ':status': constants.HTTP_STATUS_UNSUPPORTED_MEDIA_TYPE }, { endStream: true });
  }

  get #isClosed(): boolean {
    return this.stream.destroyed || this.stream.closed;
  }

  #begin(): void {
    const { stream } = this;
    if (stream.headersSent) return;
    stream.respond(HEADERS, WITH_TRAILERS);
    stream.once('wantTrailers', () => {
      // Its client may have gone while the last of it was on the way.
      if (!this.#isClosed) stream.sendTrailers(trailersOf(this.#status ?? OK));
    });
  }
}

/** A message that keeps little else in memory: what came with it in one read may be much more. */
export function sturdy(message: Buffer): Buffer {
  return message.buffer.byteLength > 2 * message.length ? Buffer.from(message) : message;
}

/** The status of a call whose message has such a problem. */
export function statusOfProblem({ kind, details }: FrameProblem): CallStatus {
  return { code: kind === 'too-large' ? status.RESOURCE_EXHAUSTED : status.UNIMPLEMENTED, details };
}

/** Halves of what takes two places in a text, alone: nothing can encode them. */
const HALVES = /[\ud800-\udfff]/gu;

/** As gRPC wants it: percent-encoded. */
function trailersOf({ code, details }: CallStatus): OutgoingHttpHeaders {
  if (code === status.OK) return OK_TRAILERS;
  return { 'grpc-status': code, 'grpc-message': encodeURI(details.replace(HALVES, '\ufffd')) };
}
