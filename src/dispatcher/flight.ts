/**
 * What a worker's queue has in hand: its lanes and the calls in flight. Only queue.ts changes them.
 */
import type { InboundRecord } from '../message/record.js';
import type { Cancel, WorkerLink } from './link.js';
import type { Load } from './plan.js';

/** One directive of a worker: how much of it is in flight, and how much may be. */
export interface Lane extends Load {
  inFlight: number;
  limit: number;
  isPaused: boolean;
  turn: number;
  /** Answers without progress since the last receipt: what the pause grows with. */
  setbacks: number;
}

/** A call to the worker that has not been judged. */
export interface Flight {
  readonly record: InboundRecord;
  readonly lane: Lane;
  readonly link: WorkerLink;
  /** Ends when the call has its answer: the scope of the deadline's timer. Undefined where there is no deadline. */
  answered: AbortController | undefined;
  state: 'open' | 'broken';
  isOverdue: boolean;
  cancel: Cancel;
}
