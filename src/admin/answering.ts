/**
 * How the calls of admin.proto are answered: a plain function gives the answer or throws a `Refusal`; a stream is written
 * to as fast as its reader reads, and no faster. Whatever else is thrown is a fault of ours and stands in the log.
 */
import { once } from 'node:events';
import {
  status,
  type handleServerStreamingCall,
  type handleUnaryCall,
  type ServerWritableStream,
  type StatusObject,
} from '@grpc/grpc-js';
import { errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import type { Answer } from './ports.js';

/** A call that ends with this status and text. */
export class Refusal extends Error {
  constructor(
    readonly code: status,
    message: string,
  ) {
    super(message);
  }
}

/** What a stream is written to. */
export interface Outlet<A> {
  /** Ends when the caller goes away, or the agent does. */
  readonly gone: AbortSignal;
  /** Resolves when there is room for more; rejects when the caller is gone. */
  readonly write: (answer: A) => Promise<void>;
}

export function answering<Q, A>(log: Log, work: (request: Q) => A | Promise<A>): handleUnaryCall<Q, A> {
  return (call, callback) => {
    const answer = async (): Promise<void> => {
      try {
        const answered = await work(call.request);
        callback(null, answered);
      } catch (error) {
        callback(statusOf(log, error));
      }
    };
    void answer();
  };
}

export function streaming<Q, A>(
  log: Log,
  work: (request: Q, outlet: Outlet<A>) => Promise<void>,
): handleServerStreamingCall<Q, A> {
  const serve = async (call: ServerWritableStream<Q, A>): Promise<void> => {
    const gone = new AbortController();
    call.once('cancelled', () => gone.abort());
    const write = async (answer: A): Promise<void> => {
      // Whoever reads slowly holds up its own stream and fills no memory.
      if (!call.write(answer)) await once(call, 'drain', { signal: gone.signal });
    };
    try {
      await work(call.request, { gone: gone.signal, write });
      call.end();
    } catch (error) {
      // To one who has gone away there is nothing to say.
      if (!gone.signal.aborted) call.emit('error', Object.assign(new Error(), statusOf(log, error)));
    }
  };
  return (call) => void serve(call);
}

/** The value of an answer; throws a `Refusal` that says why there is none. */
export function valueOf<T>(answer: Answer<T>): T {
  switch (answer.kind) {
    case 'done':
      return answer.value;
    case 'unknown':
      throw new Refusal(status.NOT_FOUND, answer.reason);
    case 'refused':
      throw new Refusal(status.FAILED_PRECONDITION, answer.reason);
  }
}

function statusOf(log: Log, error: unknown): Partial<StatusObject> {
  if (error instanceof Refusal) return { code: error.code, details: error.message };
  log.error('admin.failed', 'what an operator asked for failed', { error });
  return { code: status.INTERNAL, details: errorText(error) };
}
