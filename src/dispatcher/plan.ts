/**
 * The decisions of dispatch, pure: whose turn it is, what an answer means for a message, who is to blame when a worker
 * dies, and who may register what. CONTRACT section 1.4–1.6 and section 2 are the source; queue.ts and seat.ts act.
 */
import { status } from '@grpc/grpc-js';
import { errorText, isDamaged } from '../errors.js';
import { directiveKey, NAME_RULE, parseDirective } from '../message/ids.js';
import type { Directive, DirectiveKey, MessageKey, WorkerName } from '../message/ids.js';
import { quoted } from '../message/quoted.js';
import type { Backoff } from '../time.js';

/** Between attempts of one message, and between tries of a worker that answers UNAVAILABLE. */
export const RETRY: Backoff = { first: 1000, cap: 60_000 };

/** How busy one directive of a worker is. */
export interface Load {
  readonly directive: DirectiveKey;
  readonly inFlight: number;
  /** Calls this directive may have in flight. */
  readonly limit: number;
  readonly isPaused: boolean;
}

/** The directives that may take a call now, in the order of their turns: the one after `last` begins. */
export function turnOrder<L extends Load>(loads: readonly L[], last: DirectiveKey | undefined): readonly L[] {
  const [first] = loads;
  if (first !== undefined && loads.length === 1) return isFree(first) ? loads : NONE;
  const start = loads.findIndex((load) => load.directive === last) + 1;
  const rotated = [...loads.slice(start), ...loads.slice(0, start)];
  return rotated.filter(isFree);
}

const NONE: readonly never[] = [];

function isFree({ isPaused, inFlight, limit }: Load): boolean {
  return !isPaused && inFlight < limit;
}

/** Calls a worker may have in flight over all its directives. Suspects go one at a time until the guilty is known. */
export function workerLimit(loads: readonly Load[], hasSuspects: boolean): number {
  if (hasSuspects) return 1;
  return loads.reduce((most, load) => Math.max(most, load.limit), 0);
}

/** Every eighth turn of a directive goes to the oldest message, whatever its priority. */
export function isOldestTurn(turn: number): boolean {
  return turn % 8 === 7;
}

/** How a call to a worker ended. */
export type Answer =
  | { readonly kind: 'receipt'; readonly response: Buffer }
  /** It has ended as delivered, together with its results; how their commit went is reported later. */
  | { readonly kind: 'completed' }
  /** It was to be given up, and the worker did. */
  | { readonly kind: 'cancelled' }
  /** Its content cannot be read. */
  | { readonly kind: 'unreadable'; readonly error: unknown }
  | { readonly kind: 'status'; readonly code: status; readonly details: string; readonly isConnected: boolean };

export type Verdict =
  | { readonly kind: 'delivered' }
  | { readonly kind: 'completed' }
  | { readonly kind: 'cancelled' }
  /** The connection broke under the call: whether the worker died decides what it means. */
  | { readonly kind: 'broken' }
  /** The worker says it cannot now: counts nothing. */
  | { readonly kind: 'unavailable' }
  | { readonly kind: 'retry' }
  | { readonly kind: 'dead'; readonly text: string };

/** What a link reports of a call: its answer, and after one that is `completed` how the commit went. */
export type Report =
  | Answer
  | { readonly kind: 'written' }
  /** The store tries again. */
  | { readonly kind: 'unwritten'; readonly error: unknown };

const DELIVERED: Verdict = { kind: 'delivered' };

/** What an answer means for a message that has failed `attempts` times before. */
export function verdictOn(answer: Answer, attempts: number, maxAttempts: number): Verdict {
  if (answer.kind === 'receipt') return DELIVERED;
  if (answer.kind === 'unreadable') return onUnreadable(answer.error, attempts, maxAttempts);
  if (answer.kind !== 'status') return answer;
  if (!answer.isConnected && isTransportFailure(answer.code, answer.details)) return { kind: 'broken' };
  if (answer.code === status.UNAVAILABLE) return { kind: 'unavailable' };
  return afterFailure(attempts, maxAttempts, `the worker answered ${status[answer.code]}: ${answer.details}`);
}

/** What is damaged stays so; a disk that cannot be read just now may be read later. */
export function onUnreadable(error: unknown, attempts: number, maxAttempts: number): Verdict {
  const text = `its content cannot be read: ${errorText(error)}`;
  return isDamaged(error) ? { kind: 'dead', text } : afterFailure(attempts, maxAttempts, text);
}

/** A failure that counts: again later, or dead when it was the last that is allowed. */
export function afterFailure(attempts: number, maxAttempts: number, text: string): Verdict {
  return attempts + 1 >= maxAttempts
    ? { kind: 'dead', text: `${text} (attempt ${attempts + 1} of ${maxAttempts})` }
    : { kind: 'retry' };
}

/** A status that gRPC made itself because the stream or connection ended without one. */
function isTransportFailure(code: status, details: string): boolean {
  return code === status.UNAVAILABLE || details.startsWith('Received RST_STREAM') || details === 'Call cancelled';
}

/** A call that had no answer when its worker died. */
export interface Unanswered {
  readonly key: MessageKey;
  /** Its deadline had passed. */
  readonly isOverdue: boolean;
}

export interface Judgement {
  /** Failed an attempt that counts. */
  readonly guilty: readonly MessageKey[];
  /** Go back to their places; nothing counts. */
  readonly innocent: readonly MessageKey[];
  /** Go back too, but one of them did it: they go one at a time. */
  readonly suspects: readonly MessageKey[];
}

/**
 * Who is to blame for a death. `isBlameless`: the agent stopped the worker for reasons of its own. A call past its
 * deadline is why the worker was stopped, and the others in flight are not.
 */
export function judgeDeath(unanswered: readonly Unanswered[], isBlameless: boolean): Judgement {
  const keys = (calls: readonly Unanswered[]): MessageKey[] => calls.map((call) => call.key);
  const overdue = unanswered.filter((call) => call.isOverdue);
  if (overdue.length > 0) {
    return { guilty: keys(overdue), innocent: keys(unanswered.filter((call) => !call.isOverdue)), suspects: [] };
  }
  if (isBlameless) return { guilty: [], innocent: keys(unanswered), suspects: [] };
  if (unanswered.length === 1) return { guilty: keys(unanswered), innocent: [], suspects: [] };
  return { guilty: [], innocent: [], suspects: keys(unanswered) };
}

export interface RegistrationFacts {
  readonly worker: WorkerName;
  readonly handler: string;
  /** `handlers` of the worker's own file. */
  readonly allowed: readonly string[] | undefined;
  /** Who has it registered now. */
  readonly holderOf: (directive: DirectiveKey) => WorkerName | undefined;
  /** Who owns it durably. */
  readonly ownerOf: (directive: DirectiveKey) => WorkerName | undefined;
  /** Whose file binds it. */
  readonly boundTo: (directive: DirectiveKey) => WorkerName | undefined;
  /** Whether the file of this worker binds it. */
  readonly binds: (worker: WorkerName, directive: DirectiveKey) => boolean;
}

export type RegistrationDecision =
  | {
      readonly kind: 'granted';
      readonly directive: Directive;
      readonly directiveKey: DirectiveKey;
      readonly isNewOwner: boolean;
      /** Who holds it now and must give it up. */
      readonly takenFrom: WorkerName | undefined;
    }
  | { readonly kind: 'refused'; readonly reason: string };

/** Who may register a handler: the worker whose file binds it, else the executable that registered it first. */
export function decideRegistration(facts: RegistrationFacts): RegistrationDecision {
  const { worker, handler, allowed } = facts;
  const directive = parseDirective(handler);
  if (directive === undefined) return refused(`a handler must be ${NAME_RULE}`);
  const key = directiveKey(directive);
  const taken = (by: WorkerName, how: string): RegistrationDecision =>
    refused(`the handler ${directive} is ${how} ${by}; give one of the two another handler, or remove ${by}`);
  const holder = facts.holderOf(key);
  const rival = holder === worker ? undefined : holder;
  const owner = facts.ownerOf(key);
  if (allowed !== undefined) {
    if (!isAllowed(allowed, key)) {
      return refused(
        `the file of ${worker} allows only ${allowed.join(', ') || 'no handler'}; add ${directive} to "handlers" there`,
      );
    }
    // What a file says counts for more than who came first; between two files the first keeps it.
    if (rival !== undefined && facts.binds(rival, key)) return taken(rival, 'registered by');
  } else {
    if (rival !== undefined) return taken(rival, 'registered by');
    const bound = facts.boundTo(key);
    if (bound !== undefined && bound !== worker) return taken(bound, 'bound by its file to');
    if (owner !== undefined && owner !== worker) return taken(owner, 'owned by');
  }
  return { kind: 'granted', directive, directiveKey: key, isNewOwner: owner !== worker, takenFrom: rival };
}

export interface ReleaseFacts extends Pick<RegistrationFacts, 'holderOf' | 'ownerOf' | 'binds'> {
  readonly handler: string;
}

export type ReleaseDecision =
  | {
      readonly kind: 'released';
      readonly directive: DirectiveKey;
      /** Who had it. */
      readonly worker: WorkerName;
      readonly wasRegistered: boolean;
    }
  | { readonly kind: 'unknown'; readonly reason: string }
  | { readonly kind: 'refused'; readonly reason: string };

/** Whether a handler can be taken from a worker by hand: not when that worker's file binds it, since it would come back. */
export function decideRelease({ handler, holderOf, ownerOf, binds }: ReleaseFacts): ReleaseDecision {
  const directive = parseDirective(handler);
  const key = directive === undefined ? undefined : directiveKey(directive);
  const holder = key === undefined ? undefined : holderOf(key);
  const worker = holder ?? (key === undefined ? undefined : ownerOf(key));
  if (key === undefined || worker === undefined) {
    return { kind: 'unknown', reason: `no worker has registered the handler ${quoted(handler)}: it is free` };
  }
  if (binds(worker, key)) {
    const reason = `the file of ${worker} binds the handler ${key}: take it out of "handlers" there, and \`ygg reload\``;
    return { kind: 'refused', reason };
  }
  return { kind: 'released', directive: key, worker, wasRegistered: holder !== undefined };
}

/** Whether the `handlers` of a worker's file name this directive. */
export function isAllowed(handlers: readonly string[], key: DirectiveKey): boolean {
  return handlers.some((name) => {
    const directive = parseDirective(name);
    return directive !== undefined && directiveKey(directive) === key;
  });
}

function refused(reason: string): RegistrationDecision {
  return { kind: 'refused', reason };
}

/** What a health check said; `silence`: no answer in time while the worker had nothing else to do. */
export type Health = 'serving' | 'not-serving' | 'silence' | 'unknown' | 'unimplemented';

/** Checks in a row that must fail before a worker counts as unhealthy. */
const SICK_AFTER = 3;

/** The number of failed checks in a row, or what to do now. */
export function afterCheck(failures: number, health: Health): number | 'unhealthy' | 'ask-no-more' {
  if (health === 'unimplemented') return 'ask-no-more';
  if (health === 'serving') return 0;
  if (health === 'unknown') return failures;
  return failures + 1 >= SICK_AFTER ? 'unhealthy' : failures + 1;
}
