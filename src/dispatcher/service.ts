/**
 * The gRPC services a worker finds on its socket, and the server that carries them. Workers give a call 1 s: an answer
 * comes before that, and a receipt only when the result is on stable storage. The server of gRPC gets a connection only
 * once it was let in.
 */
import { createServer, type Server as Listener, type Socket } from 'node:net';
import { status } from '@grpc/grpc-js';
import { DispatcherService as StreamService } from '../../protocol/generated/stream.js';
import {
  DispatcherService,
  type Config,
  type Data,
  type RegistrationRequest,
  type RegistrationResponse,
} from '../../protocol/generated/yggdrasil.js';
import type { Log } from '../log/log.js';
import { AgentError, errorText } from '../errors.js';
import { GrpcServer, type CallStatus, type ServerCall, type ServerMethod } from '../grpc/index.js';
import type { Clock, Millis } from '../time.js';
import { Patience } from './patience.js';

/** Calls one worker may have open at us: a flood waits in its own queue, not in our memory. */
const MAX_OPEN_CALLS = 128;

/** Connections of one worker. Some make a new one for each call; none may use up the agent's open files. */
const MAX_CONNECTIONS = 256;

/** A call that ends with this status and text. */
export class Refusal extends Error {
  constructor(
    readonly code: status,
    message: string,
  ) {
    super(message);
  }
}

export interface WorkerCalls {
  readonly register: (request: RegistrationRequest) => Promise<RegistrationResponse>;
  /** Calls `done` when the result is durable; with a Refusal, or an error, when it is not taken. */
  readonly send: (data: Data, done: (error?: unknown) => void) => void;
  readonly config: () => Config;
  /** Connect and Transfer of the stream: each has its call to itself. */
  readonly connect: (call: ServerCall) => void;
  readonly transfer: (call: ServerCall) => void;
}

export interface ServeOptions {
  readonly path: string;
  /** Whether whoever connected may call. */
  readonly admits: (socket: Socket) => boolean;
  readonly maxReceive: number;
  readonly answerWithin: Millis;
  readonly clock: Clock;
  readonly log: Log;
  readonly calls: WorkerCalls;
}

/** A server that listens. */
export interface WorkerServer {
  /** Breaks off its calls and removes its socket file. */
  close(): Promise<void>;
}

/** Listens on a Unix socket for one worker; throws `runtime.unusable` when it cannot. */
export async function serve(options: ServeOptions): Promise<WorkerServer> {
  const { calls, path, admits } = options;
  const patience = new Patience(options.clock, options.answerWithin);
  const all = { ...options, patience };
  const { register, send, getConfig } = DispatcherService;
  const server = new GrpcServer({
    methods: new Map<string, ServerMethod>([
      [register.path, answering(register, all, calls.register)],
      [send.path, sending(all, calls.send)],
      [getConfig.path, answering(getConfig, all, () => Promise.resolve(calls.config()))],
      [StreamService.connect.path, { kind: 'stream', call: calls.connect }],
      [StreamService.transfer.path, { kind: 'stream', call: calls.transfer }],
    ]),
    mostCalls: MAX_OPEN_CALLS,
    clock: options.clock,
  });
  const listener = createServer((socket) => {
    // In this turn, before a byte is read.
    if (admits(socket)) server.serve(socket);
    else socket.destroy();
  });
  listener.maxConnections = MAX_CONNECTIONS;
  listener.on('drop', () => server.sweep());
  await listen(listener, path);
  // Out of descriptors, for one: who could not be accepted tries again.
  listener.on('error', (error) =>
    options.log.warn('dispatcher.accept_failed', `cannot accept a connection on ${path}: ${errorText(error)}`),
  );
  return {
    close: async () => {
      patience.close();
      const closed = new Promise<void>((resolve) => listener.close(() => resolve()));
      server.close();
      await closed;
    },
  };
}

function listen(listener: Listener, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (cause: Error): void =>
      reject(new AgentError('runtime.unusable', `cannot listen on ${path}: ${cause.message}`, { path }, { cause }));
    listener.once('error', failed);
    listener.listen(path, () => {
      listener.off('error', failed);
      resolve();
    });
  });
}

/** How a method reads its requests and writes its answers. */
interface Codec<Q, A> {
  readonly path: string;
  readonly requestDeserialize: (bytes: Buffer) => Q;
  readonly responseSerialize: (answer: A) => Buffer;
}

type Options = ServeOptions & { readonly patience: Patience };

/** A method that answers once: with what `work` gives, with its refusal, or in time with UNAVAILABLE. */
function answering<Q, A>(codec: Codec<Q, A>, options: Options, work: (request: Q) => Promise<A>): ServerMethod {
  return once(codec, options, (request, done) => {
    work(request)
      .then(codec.responseSerialize)
      .then((message) => done(undefined, message), done);
  });
}

/** Send, of which there is one for each message: as `answering`, without a promise of its own. */
function sending(options: Options, send: WorkerCalls['send']): ServerMethod {
  const answer = DispatcherService.send.responseSerialize({ response: Buffer.alloc(0) });
  return once(DispatcherService.send, options, (request, done) => send(request, (error) => done(error, answer)));
}

function once<Q>(
  { path, requestDeserialize }: Pick<Codec<Q, never>, 'path' | 'requestDeserialize'>,
  { log, patience, answerWithin, maxReceive }: Options,
  work: (request: Q, done: (error: unknown, answer?: Buffer) => void) => void,
): ServerMethod {
  const method = path.slice(path.lastIndexOf('/') + 1);
  const late = lateStatus(method, answerWithin);
  return {
    kind: 'unary',
    largest: maxReceive,
    call: (bytes, answer) => {
      let request;
      try {
        request = requestDeserialize(bytes);
      } catch {
        answer(UNREADABLE, NO_BYTES);
        return;
      }
      const number = patience.begin(() => answer(late, NO_BYTES));
      const done = (error: unknown, message: Buffer = NO_BYTES): void => {
        const failure = error === undefined ? undefined : statusFrom(error, method, log);
        if (patience.end(number)) answer(failure, message);
      };
      try {
        work(request, done);
      } catch (error) {
        done(error);
      }
    },
  };
}

const NO_BYTES = Buffer.alloc(0);
const UNREADABLE: CallStatus = { code: status.INTERNAL, details: 'Error deserializing request' };

function lateStatus(method: string, within: Millis): CallStatus {
  const details = `the journal did not answer within ${within} ms; call ${method} again with the same ids`;
  return { code: status.UNAVAILABLE, details };
}

function statusFrom(error: unknown, method: string, log: Log): CallStatus {
  if (error instanceof Refusal) return { code: error.code, details: error.message };
  log.error('dispatcher.call_failed', `${method} of a worker failed: ${errorText(error)}`);
  return { code: status.UNAVAILABLE, details: `the agent could not keep it: ${errorText(error)}` };
}
