/**
 * The states of a worker's process, and where each end of a life leads. Plain data and pure functions; instants are of
 * the monotonic clock.
 *
 *     (none) → starting → running → stopping → (none) | backoff | stopped
 *                 └→ waiting (its file is wrong) | backoff (could not start)
 */
import type { WorkerName } from '../message/index.js';
import { fullJitter, type Backoff, type Millis, type Random } from '../time.js';

/** An executable that may run. */
export interface Candidate {
  readonly name: WorkerName;
  readonly path: string;
  /** From `identityOf`: when it differs, it is another executable. */
  readonly identity: string;
  /** Why it is not to run although it may: somebody stopped it by hand. */
  readonly hold?: string;
}

/** Why the agent stops a worker. `unwanted`: the executable is gone or refused, or the agent ends; `held`: by hand. */
export type StopCause = 'unwanted' | 'held' | 'replaced' | 'not-registered' | 'unhealthy' | 'restart' | 'reconfigured';

export interface StopRequest {
  readonly cause: StopCause;
  readonly detail: string;
}

interface Alive {
  readonly since: Millis;
  readonly identity: string;
  /** Failures in a row before this life. */
  readonly failures: number;
  /** Somebody asked for its stop. */
  readonly request: StopRequest | undefined;
}

export type WorkerState =
  /** Settings are read, sockets made, the process spawned; it has not registered yet. */
  | (Alive & { readonly kind: 'starting'; readonly pid: number | undefined; readonly registerBy: Millis | undefined })
  /** It has registered. */
  | (Alive & { readonly kind: 'running'; readonly pid: number })
  | { readonly kind: 'stopping'; readonly identity: string; readonly pid: number | undefined; readonly detail: string }
  | {
      readonly kind: 'backoff';
      readonly identity: string;
      readonly until: Millis;
      readonly failures: number;
      readonly detail: string;
    }
  /** Its file is wrong: tried again when that changes. */
  | { readonly kind: 'waiting'; readonly identity: string; readonly detail: string }
  /** It ended and its file says `restart = "never"`, or it was stopped by hand. */
  | { readonly kind: 'stopped'; readonly identity: string; readonly detail: string };

/** How the life of one process ended. */
export type LifeEnd =
  | { readonly kind: 'cancelled' }
  | { readonly kind: 'invalid'; readonly problems: readonly string[] }
  | { readonly kind: 'failed'; readonly reason: string }
  | { readonly kind: 'died'; readonly reason: string }
  | { readonly kind: 'stopped'; readonly cause: StopCause; readonly reason: string };

/** What of a life counts for what comes after it. */
export interface LifeFacts {
  readonly identity: string;
  readonly failures: number;
  /** When it registered; undefined when it never did. */
  readonly registeredAt: Millis | undefined;
  readonly restart: 'always' | 'never';
}

export const RESTART_BACKOFF: Backoff = { first: 1000, cap: 60_000 };

/** A run of this length after registering clears the failures before it. */
export const STABLE_RUN: Millis = 60_000;

/** The state after a life; undefined = none, so that the planner may start the worker afresh at once. */
export function stateAfter(end: LifeEnd, life: LifeFacts, now: Millis, random: Random): WorkerState | undefined {
  switch (end.kind) {
    case 'cancelled':
      return undefined;
    case 'invalid':
      return { kind: 'waiting', identity: life.identity, detail: end.problems.join('; ') };
    case 'stopped':
      if (end.cause !== 'not-registered' && end.cause !== 'unhealthy') return undefined;
      return afterFailure(end.reason, life, now, random);
    case 'failed':
    case 'died':
      return afterFailure(end.reason, life, now, random);
  }
}

function afterFailure(detail: string, life: LifeFacts, now: Millis, random: Random): WorkerState {
  if (life.restart === 'never') return { kind: 'stopped', identity: life.identity, detail };
  const isStable = life.registeredAt !== undefined && now - life.registeredAt >= STABLE_RUN;
  const failures = isStable ? 0 : life.failures;
  const until = now + fullJitter(RESTART_BACKOFF, failures, random);
  return { kind: 'backoff', identity: life.identity, until, failures: failures + 1, detail };
}
