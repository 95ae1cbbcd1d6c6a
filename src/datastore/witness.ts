/**
 * Who is told what becomes of messages, for metrics and traces. There is none unless somebody asked for it, and then it
 * is called in the turn in which things happen: it must be quick and must not throw. It changes nothing.
 */
import type { Failure, InboundEnd, InboundRecord, OutboundEnd, OutboundRecord } from '../message/index.js';
import type { Millis } from '../time.js';

/**
 * `arriving`: its commit begins. `accepted`: it is on stable storage. `dispatching`: it is handed to its worker. `retry`:
 * an attempt (of one that was `dispatching`) or a fetch failed, and it waits. Of the ends nothing is durable yet: they are told when they are asked for.
 */
export type InboundStep = 'arriving' | 'accepted' | 'dispatching' | 'retry' | InboundEnd;

/** `queued`: on stable storage. `sending`: taken to be published or POSTed. `retry`: that failed, and it waits. */
export type OutboundStep = 'queued' | 'sending' | 'retry' | OutboundEnd;

export interface Witness {
  /** `failure` says why, with every end but `delivered`. */
  inbound(record: InboundRecord, step: InboundStep, failure?: Failure): void;
  /** `failure` says why, with `dead`. */
  outbound(record: OutboundRecord, step: OutboundStep, failure?: Failure): void;
  /** A transaction of the journal: how many changes it had, how long it and its sync took, and whether it is through. */
  committed(changes: number, took: Millis, isDone: boolean): void;
}

/** The place of the witness, so that one can come when all else is made. */
export interface Watch {
  witness?: Witness | undefined;
}
