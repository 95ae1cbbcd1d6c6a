/**
 * What a worker's queue is made with, and what it has in hand: its lanes and the calls in flight. Only queue.ts changes
 * them.
 */
import type { Log } from '../log/log.js';
import type { MessageKey } from '../message/ids.js';
import type { InboundRecord } from '../message/record.js';
import type { Clock, Millis, Random } from '../time.js';
import type { Call, Cancel, Link, Report } from './link-port.js';
import type { Load } from './plan.js';
import type { DispatchStore, Outcome } from './ports.js';

export interface QueueOptions {
  readonly store: DispatchStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly maxAttempts: number;
  readonly deadline: () => Millis | undefined;
  /** A message goes to the worker. */
  readonly onDispatch: (record: InboundRecord) => void;
  readonly onOutcome: (key: MessageKey, outcome: Outcome) => void;
  /** A call passed its deadline: the worker must be stopped before the message may run again. */
  readonly onOverdue: (messageId: string) => void;
  readonly scope: AbortSignal;
}

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
export class Flight implements Call {
  /** Ends when the call has its answer: the scope of the deadline's timer. Undefined where there is no deadline. */
  answered: AbortController | undefined;
  /** `completed`: its end is being committed. */
  state: 'open' | 'broken' | 'completed' = 'open';
  isOverdue = false;
  cancel: Cancel | undefined;

  constructor(
    readonly record: InboundRecord,
    readonly lane: Lane,
    readonly link: Link,
    private readonly reported: (flight: Flight, report: Report) => void,
  ) {}

  report(report: Report): void {
    this.reported(this, report);
  }
}
