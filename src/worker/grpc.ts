/** Unary calls of grpc-js as promises that end with a scope, and what its errors mean to a worker. */
import { type ClientUnaryCall, type ServiceError, status } from '@grpc/grpc-js';
import type { CallStatus } from '../grpc/index.js';
import { abortReason } from '../time.js';

/** Resolves with the answer of a call; cancels the call and rejects when `scope` ends first. */
export function unary<T>(
  scope: AbortSignal,
  start: (done: (error: ServiceError | null, answer: T) => void) => ClientUnaryCall,
): Promise<T> {
  return new Promise((resolve, reject) => {
    if (scope.aborted) {
      reject(abortReason(scope));
      return;
    }
    const cancel = (): void => call.cancel();
    const call = start((error, answer) => {
      scope.removeEventListener('abort', cancel);
      if (error !== null) reject(error);
      else resolve(answer);
    });
    scope.addEventListener('abort', cancel, { once: true });
  });
}

/** Whether what was thrown is the error of a gRPC call. */
export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' && 'details' in error;
}

/** Whether the other side was away, starting, slow or full: nothing is wrong with the call itself. */
export function isPassing(error: CallStatus): boolean {
  switch (error.code) {
    case status.UNAVAILABLE:
    case status.DEADLINE_EXCEEDED:
    case status.CANCELLED:
    case status.ABORTED:
      return true;
    case status.RESOURCE_EXHAUSTED:
      return !isTooLarge(error);
    default:
      return false;
  }
}

/** Whether the message itself is at fault, so that it would be refused each time. */
export function isHopeless(error: CallStatus): boolean {
  return error.code === status.INVALID_ARGUMENT || isTooLarge(error);
}

// gRPC uses one code for "no room now" and "this message is over my limit, for ever", and all its implementations
// tell the second with these words only.
function isTooLarge(error: CallStatus): boolean {
  return error.code === status.RESOURCE_EXHAUSTED && /larger than max/i.test(error.details);
}

/** A status text that fits into an HTTP/2 header: well-formed (grpc-js throws on a lone surrogate) and short. */
export function statusText(text: string): string {
  return Buffer.from(text.slice(0, 1_000)).toString();
}
