/**
 * The streams of one worker: which calls are open. A call that says nothing, or is not read to
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
    Transfer.begin(call, {
      clock,
      tokenWithin: helloWithin,
      adopt: (token, own) => {
        for (const session of this.#sessions) {
          const owner = session.adopt(token, own);
          if (owner !== undefined) return owner;
        }
        return undefined;
      },
    });
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
