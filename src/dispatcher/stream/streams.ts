/**
 * The streams of one worker: which calls are open, and the end of them all. A call that says nothing, or is not read to
 * its end, stays until its connection closes; so few of them may be there at once.
 */
import { randomBytes } from 'node:crypto';
import { status } from '@grpc/grpc-js';
import type { ServerCall } from '../../grpc/index.js';
import { Transfer } from './transfer.js';
import { Session, type SessionOptions } from './session.js';

/** Calls of one worker that are not closed, ended or not: each holds two frames at most. */
const MOST_CALLS = 16;

const TOKEN_BYTES = 32;

export type StreamsOptions = Omit<SessionOptions, 'token' | 'onEnd'>;

export class Streams {
  readonly #sessions = new Set<Session>();
  readonly #transfers = new Set<Transfer>();
  /** Calls that gRPC has not closed. */
  #calls = 0;

  constructor(private readonly options: StreamsOptions) {}

  /** A worker calls Connect. */
  connect(call: ServerCall): void {
    if (!this.#admit(call)) return;
    const session: Session = new Session(call, {
      ...this.options,
      token: randomBytes(TOKEN_BYTES),
      onEnd: () => this.#sessions.delete(session),
    });
    this.#sessions.add(session);
  }

  /** A worker calls Transfer. */
  transfer(call: ServerCall): void {
    if (!this.#admit(call)) return;
    const { clock, helloWithin } = this.options;
    const transfer: Transfer = new Transfer(call, {
      clock,
      tokenWithin: helloWithin,
      adopt: (token, own) => {
        for (const session of this.#sessions) {
          const owner = session.adopt(token, own);
          if (owner !== undefined) return owner;
        }
        return undefined;
      },
      onEnd: () => this.#transfers.delete(transfer),
    });
    this.#transfers.add(transfer);
  }

  /** Ends them all. */
  close(): void {
    for (const transfer of this.#transfers) transfer.end(status.UNAVAILABLE, 'the agent is stopping');
    for (const session of this.#sessions) session.end(status.UNAVAILABLE, 'the agent is stopping');
  }

  #admit(call: ServerCall): boolean {
    if (this.#calls >= MOST_CALLS) {
      call.end({ code: status.RESOURCE_EXHAUSTED, details: `${MOST_CALLS} streams of this worker are open` });
      return false;
    }
    this.#calls += 1;
    call.closed(() => (this.#calls -= 1));
    return true;
  }
}
