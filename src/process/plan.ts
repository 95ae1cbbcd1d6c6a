/**
 * Decides what to do about the workers: a pure function from what should run and what does to steps. The process
 * manager is its only executor. Same input, same steps; when all is as it should be, there are none.
 */
import type { WorkerName } from '../message/index.js';
import type { Millis } from '../time.js';
import type { Candidate, StopRequest, WorkerState } from './state.js';

export type Step =
  | { readonly kind: 'start'; readonly candidate: Candidate; readonly failures: number }
  | { readonly kind: 'stop'; readonly name: WorkerName; readonly request: StopRequest }
  /** It does not run and is not to: that is shown. */
  | { readonly kind: 'hold'; readonly candidate: Candidate; readonly detail: string }
  /** It does not run, and nothing is left to remember of it. */
  | { readonly kind: 'forget'; readonly name: WorkerName };

/** The steps that bring `observed` nearer to `desired` at the monotonic instant `now`; at most one for each worker. */
export function plan(
  desired: ReadonlyMap<WorkerName, Candidate>,
  observed: ReadonlyMap<WorkerName, WorkerState>,
  now: Millis,
): Step[] {
  const steps: Step[] = [];
  for (const candidate of desired.values()) {
    const step = stepFor(candidate, observed.get(candidate.name), now);
    if (step !== undefined) steps.push(step);
  }
  for (const [name, state] of observed) {
    if (desired.has(name) || state.kind === 'stopping') continue;
    if (state.kind === 'starting' || state.kind === 'running') {
      steps.push({ kind: 'stop', name, request: { cause: 'unwanted', detail: 'it is not wanted any more' } });
    } else {
      steps.push({ kind: 'forget', name });
    }
  }
  return steps;
}

function stepFor(candidate: Candidate, state: WorkerState | undefined, now: Millis): Step | undefined {
  if (candidate.hold !== undefined) return stepToHold(candidate, candidate.hold, state);
  if (state === undefined) return { kind: 'start', candidate, failures: 0 };
  const isReplaced = state.identity !== candidate.identity;
  switch (state.kind) {
    case 'starting':
    case 'running': {
      const request = isReplaced ? REPLACED : (state.request ?? overdue(state, now));
      return request === undefined ? undefined : { kind: 'stop', name: candidate.name, request };
    }
    case 'stopping':
      return undefined;
    case 'backoff':
      if (isReplaced) return { kind: 'start', candidate, failures: 0 };
      return now < state.until ? undefined : { kind: 'start', candidate, failures: state.failures };
    case 'waiting':
    case 'stopped':
      return isReplaced ? { kind: 'start', candidate, failures: 0 } : undefined;
  }
}

function stepToHold(candidate: Candidate, detail: string, state: WorkerState | undefined): Step | undefined {
  switch (state?.kind) {
    case 'starting':
    case 'running':
      return { kind: 'stop', name: candidate.name, request: { cause: 'held', detail } };
    case 'stopping':
      return undefined;
    case 'stopped':
      if (state.identity === candidate.identity && state.detail === detail) return undefined;
      break;
    case 'backoff':
    case 'waiting':
    case undefined:
  }
  return { kind: 'hold', candidate, detail };
}

const REPLACED: StopRequest = { cause: 'replaced', detail: 'its executable was replaced' };

function overdue(state: WorkerState, now: Millis): StopRequest | undefined {
  if (state.kind !== 'starting' || state.registerBy === undefined || now < state.registerBy) return undefined;
  const seconds = Math.round((state.registerBy - state.since) / 1000);
  return {
    cause: 'not-registered',
    detail: `it did not register within ${seconds} s; check its output, or set a longer start-timeout in its file`,
  };
}

/** The instant at which time alone makes a new step due, or undefined. */
export function nextWake(observed: ReadonlyMap<WorkerName, WorkerState>): Millis | undefined {
  let earliest: Millis | undefined;
  for (const state of observed.values()) {
    const at = state.kind === 'backoff' ? state.until : state.kind === 'starting' ? state.registerBy : undefined;
    if (at !== undefined && (earliest === undefined || at < earliest)) earliest = at;
  }
  return earliest;
}
