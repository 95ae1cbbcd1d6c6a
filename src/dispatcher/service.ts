/**
 * The gRPC services a worker finds on its socket, and the server that carries them. Workers give a call 1 s: an answer
 * comes before that, and a receipt only when the result is on stable storage. The socket is our own and gRPC gets a
 * connection only once it was let in, since gRPC shows nobody who connects.
 */
import { createServer, type Server as Listener, type Socket } from 'node:net';
import { Server, ServerCredentials, status, type handleUnaryCall, type StatusObject } from '@grpc/grpc-js';
import { DispatcherService, type DispatcherServer } from '../../protocol/generated/yggdrasil.js';
import type {
  Config,
  Data,
  RegistrationRequest,
  RegistrationResponse,
  Response,
} from '../../protocol/generated/yggdrasil.js';
import type { Log } from '../log/log.js';
import { AgentError, errorText } from '../errors.js';
import type { Clock, Millis } from '../time.js';
import { Patience } from './patience.js';
import { RawStreamService, type RawCall } from './stream/raw-call.js';

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
  readonly connect: (call: RawCall) => void;
  readonly transfer: (call: RawCall) => void;
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

const EMPTY = { response: Buffer.alloc(0) };

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
  const services: DispatcherServer = {
    register: answering('Register', all, calls.register),
    send: sending(all, calls.send),
    getConfig: answering('GetConfig', all, () => Promise.resolve(calls.config())),
  };
  const server = new Server({
    'grpc.max_receive_message_length': options.maxReceive,
    'grpc.max_concurrent_streams': MAX_OPEN_CALLS,
    'grpc.enable_channelz': 0,
  });
  server.addService(DispatcherService, services);
  server.addService(RawStreamService, { connect: calls.connect, transfer: calls.transfer });
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const listener = createServer((socket) => {
    // In this turn, before a byte is read.
    if (admits(socket)) injector.injectConnection(socket);
    else socket.destroy();
  });
  listener.maxConnections = MAX_CONNECTIONS;
  await listen(listener, path);
  // Out of descriptors, for one: who could not be accepted tries again.
  listener.on('error', (error) =>
    options.log.warn('dispatcher.accept_failed', `cannot accept a connection on ${path}: ${errorText(error)}`),
  );
  return {
    close: async () => {
      patience.close();
      await close(listener, server);
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

async function close(listener: Listener, server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => listener.close(() => resolve()));
  // tryShutdown waits for what forceShutdown then breaks off, so it ends when all is closed.
  const shut = new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
  server.forceShutdown();
  await Promise.all([closed, shut]);
}

/** A method that answers once: with what `work` gives, with its refusal, or in time with UNAVAILABLE. */
function answering<Q, A>(
  method: string,
  { log, patience, answerWithin }: ServeOptions & { readonly patience: Patience },
  work: (request: Q) => Promise<A>,
): handleUnaryCall<Q, A> {
  const late = lateStatus(method, answerWithin);
  return (call, callback) => {
    const number = patience.begin(() => callback(late));
    work(call.request).then(
      (value) => {
        if (patience.end(number)) callback(null, value);
      },
      (error: unknown) => {
        const refusal = statusFrom(error, method, log);
        if (patience.end(number)) callback(refusal);
      },
    );
  };
}

/** Send, of which there is one for each message: as `answering`, without a promise of its own. */
function sending(
  { log, patience, answerWithin }: ServeOptions & { readonly patience: Patience },
  send: WorkerCalls['send'],
): handleUnaryCall<Data, Response> {
  const late = lateStatus('Send', answerWithin);
  return (call, callback) => {
    const number = patience.begin(() => callback(late));
    const done = (error?: unknown): void => {
      const refusal = error === undefined ? null : statusFrom(error, 'Send', log);
      if (patience.end(number)) callback(refusal, EMPTY);
    };
    try {
      send(call.request, done);
    } catch (error) {
      done(error);
    }
  };
}

function lateStatus(method: string, within: Millis): Partial<StatusObject> {
  const details = `the journal did not answer within ${within} ms; call ${method} again with the same ids`;
  return { code: status.UNAVAILABLE, details };
}

function statusFrom(error: unknown, method: string, log: Log): Partial<StatusObject> {
  if (error instanceof Refusal) return { code: error.code, details: error.message };
  log.error('dispatcher.call_failed', `${method} of a worker failed: ${errorText(error)}`);
  return { code: status.UNAVAILABLE, details: `the agent could not keep it: ${errorText(error)}` };
}
