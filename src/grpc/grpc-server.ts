/**
 * The server's side of gRPC over Node's HTTP/2, for connections that somebody else has accepted. It finds the method of
 * each call and puts together the one message of a unary one. No compression, and no deadline: a client that waits no
 * longer takes its call back, and how long an answer may take is its method's affair.
 */
import {
  performServerHandshake,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type ServerOptions,
} from 'node:http2';
import type { Socket } from 'node:net';
import { status } from '@grpc/grpc-js';
import { framed, OneMessage } from './frame.js';
import { ServerCall, statusOfProblem, sturdy } from './server-call.js';
import type { CallStatus } from './status.js';
import type { Clock, Millis } from '../time.js';

/** Ends a unary call: with an answer, or with a status that is not OK. The first one counts. */
export type Answer = (failure: CallStatus | undefined, answer: Uint8Array) => void;

export type ServerMethod =
  | {
      readonly kind: 'unary';
      /** Bytes of a request. */
      readonly largest: number;
      readonly call: (request: Buffer, answer: Answer) => void;
    }
  | { readonly kind: 'stream'; readonly call: (call: ServerCall) => void };

export interface GrpcServerOptions {
  /** By path, as gRPC has it: `/package.Service/Method`. */
  readonly methods: ReadonlyMap<string, ServerMethod>;
  /** Calls that one connection may have open. */
  readonly mostCalls: number;
  readonly clock: Clock;
}

/**
 * Bytes that a connection, and each of its calls, may have on the way to us: with the usual 64 KiB six messages of 10 KB
 * came at a time. It must not be as large the other way: Node reads nothing while a write waits, so that two of it whose
 * buffers are full (208 KiB of a Unix socket) wait for each other. What we write to a Node stays within its 64 KiB.
 */
const WINDOW = 256 * 1024;

/** How long the last words may take to somebody who does not read. */
const LAST_WORDS: Millis = 500;

/** How long a ping may take to leave: nobody who is well leaves his socket full for so long, however busy. */
export const PING_LEAVES_WITHIN: Millis = 30_000;

const STOPPING: CallStatus = { code: status.UNAVAILABLE, details: 'the server is stopping' };

const ignored = (): void => undefined;

export class GrpcServer {
  readonly #connections = new Map<Socket, ServerHttp2Session>();
  /** Those that were sent a ping, and have not answered it. */
  readonly #pinged = new Set<Socket>();
  #sweptAt: Millis = -Infinity;
  readonly #calls = new Set<ServerCall>();
  readonly #settings: ServerOptions;
  #cutting: NodeJS.Timeout | undefined;

  constructor(private readonly options: GrpcServerOptions) {
    this.#settings = {
      settings: { maxConcurrentStreams: options.mostCalls, initialWindowSize: WINDOW },
      // What is in flight is bounded by the methods, and Node's own bound ends the session.
      maxSessionMemory: Number.MAX_SAFE_INTEGER,
      // The text of a status is ours, however long.
      maxSendHeaderBlockLength: Number.MAX_SAFE_INTEGER,
    };
  }

  /** Serves a connection, of which nothing was read. */
  serve(connection: Socket): void {
    this.sweep();
    // All was said by then, and whoever never hangs up would keep it.
    connection.once('finish', () => connection.destroy());
    connection.once('close', () => this.#forget(connection));
    const session = performServerHandshake(connection, this.#settings);
    this.#connections.set(connection, session);
    session.setLocalWindowSize(WINDOW);
    session.on('error', ignored);
    session.on('stream', (stream, headers) => this.#begin(stream, headers));
  }

  /**
   * Lets go of dead connections; called whenever another one comes, or has no place. When a peer breaks certain rules of
   * HTTP/2, Node gives its connection up and neither closes it nor sees the peer hang up, but a ping never leaves it then.
   * The ping to a peer that is only slow does, unless its socket is full all the while.
   */
  sweep(): void {
    const now = this.options.clock.monotonic();
    if (now - this.#sweptAt < PING_LEAVES_WITHIN) return;
    this.#sweptAt = now;
    for (const [connection, session] of this.#connections) {
      if (!this.#pinged.has(connection)) {
        this.#pinged.add(connection);
        if (!session.destroyed) session.ping(() => this.#pinged.delete(connection));
      } else if (session.destroyed || session.state.outboundQueueSize !== 0) connection.destroy();
    }
  }

  /** Ends the calls that have no status, and all connections once each call has its status, or does not read it. */
  close(): void {
    for (const call of this.#calls) call.end(STOPPING);
    for (const session of this.#connections.values()) session.close();
    // It keeps the process alive, which a connection that is dead does not.
    if (this.#connections.size > 0) this.#cutting = setTimeout(() => this.#cut(), LAST_WORDS);
  }

  #cut(): void {
    for (const connection of this.#connections.keys()) connection.destroy();
  }

  #forget(connection: Socket): void {
    this.#connections.delete(connection);
    this.#pinged.delete(connection);
    if (this.#connections.size === 0) clearTimeout(this.#cutting);
  }

  #begin(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    const call = new ServerCall(stream);
    if (headers['content-type']?.startsWith('application/grpc') !== true) {
      call.refuse();
      return;
    }
    this.#calls.add(call);
    call.closed(() => this.#calls.delete(call));
    const path = headers[':path'] ?? '';
    const method = this.options.methods.get(path);
    if (method === undefined) {
      call.end({ code: status.UNIMPLEMENTED, details: `The server does not implement the method ${path}` });
    } else if (method.kind === 'stream') method.call(call);
    else serveOnce(call, method.largest, method.call);
  }
}

function serveOnce(call: ServerCall, largest: number, method: (request: Buffer, answer: Answer) => void): void {
  const request = new OneMessage(largest);
  const answer: Answer = (failure, message) => {
    if (failure === undefined) call.answer(framed(message));
    else call.end(failure);
  };
  call.listenToChunks({
    onChunk: (chunk) => {
      const problem = request.push(chunk);
      if (problem !== undefined) call.end(statusOfProblem(problem));
    },
    onEnd: () => {
      const { message } = request;
      if (message === undefined) call.end({ code: status.UNIMPLEMENTED, details: 'Received no whole message' });
      else method(sturdy(message), answer);
    },
  });
}
