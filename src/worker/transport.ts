/**
 * Which transport a worker uses: the stream where the agent has it, else unary calls. And what comes after each session
 * with an agent: how long to wait, what to try then. Pure.
 */
import type { Data } from '../../protocol/generated/yggdrasil.js';
import type { AgentError } from '../errors.js';
import type { Backoff } from '../time.js';

/** `auto`: the stream, and unary calls with an agent that has none. */
export type TransportChoice = 'auto' | 'stream' | 'unary';
export type TransportName = 'stream' | 'unary';

/** How a session with an agent ended, or why none began. */
export type SessionEnd =
  /** This agent has no stream. */
  | { readonly kind: 'unsupported' }
  | { readonly kind: 'unreachable'; readonly error: AgentError }
  /** The worker cannot listen where the agent wants it to. */
  | { readonly kind: 'deaf'; readonly error: Error }
  /** It said no; only its operator, or the end of another worker, changes that. */
  | { readonly kind: 'refused'; readonly error: AgentError }
  /** It was there, and is gone. `wasUseful`: something came of it, so that the next attempt need not wait. */
  | { readonly kind: 'lost'; readonly reason: string; readonly wasUseful: boolean }
  /** The worker stops; what is under way goes on until it is closed. */
  | { readonly kind: 'stopped' };

/** A way to the agent. */
export interface Transport {
  readonly name: TransportName;
  /** Registers, and then brings messages until the agent is gone or `stop` ends. `onUp` is called between the two. */
  session(onUp: () => void, stop: AbortSignal): Promise<SessionEnd>;
  /** Hands a reply over; resolves when the agent has it. Rejects with AgentLost when the agent goes before that. */
  send(data: Data, scope: AbortSignal): Promise<void>;
  /** Waits until nothing is owed, and releases everything; at once when `hard` ends. */
  close(hard: AbortSignal): Promise<void>;
}

export interface Next {
  readonly transport: TransportName;
  /** Undefined: at once. */
  readonly backoff: Backoff | undefined;
  /** How many attempts in a row came to nothing. */
  readonly failures: number;
}

/** The agent may be on its way up, or busy for a moment. */
const SOON: Backoff = { first: 100, cap: 5_000 };
const LISTEN: Backoff = { first: 1_000, cap: 5_000 };
/** The agent said no. */
const LATER: Backoff = { first: 10_000, cap: 60_000 };

/** What to try first with an agent about which nothing is known. */
export function firstTransport(choice: TransportChoice): TransportName {
  return choice === 'unary' ? 'unary' : 'stream';
}

/**
 * What to do after a session. That an agent has no stream is remembered until it is gone: the next one may be another.
 * `failures` counts the attempts before that came to nothing.
 */
export function nextAttempt(
  choice: TransportChoice,
  end: Exclude<SessionEnd, { kind: 'stopped' }>,
  { failures, transport }: { failures: number; transport: TransportName },
): Next {
  const first = firstTransport(choice);
  switch (end.kind) {
    case 'unsupported':
      if (choice === 'auto') return { transport: 'unary', backoff: undefined, failures };
      return { transport: 'stream', backoff: LATER, failures: failures + 1 };
    case 'refused':
      return { transport, backoff: LATER, failures: failures + 1 };
    case 'unreachable':
      return { transport: first, backoff: SOON, failures: failures + 1 };
    case 'deaf':
      return { transport, backoff: LISTEN, failures: failures + 1 };
    case 'lost':
      if (end.wasUseful) return { transport: first, backoff: undefined, failures: 0 };
      return { transport: first, backoff: SOON, failures: failures + 1 };
    default:
      return end satisfies never;
  }
}
