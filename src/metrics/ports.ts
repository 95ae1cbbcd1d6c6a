/** What the metrics are told and ask, in their own words; agent-metrics.ts hands the real parts in. */
import type { InboundEnd, OutboundEnd } from '../message/index.js';

/** What the datastore tells of a message on its way in. `retry`: an attempt or a fetch failed, and it waits. */
export type InboundStep = 'arriving' | 'accepted' | 'dispatching' | 'retry' | InboundEnd;

/** What it tells of a result. */
export type OutboundStep = 'queued' | 'sending' | 'retry' | OutboundEnd;

/** Whether something holds, and why not. */
export interface Verdict {
  readonly isGood: boolean;
  /** Sentences for a person; empty when it holds. */
  readonly reasons: readonly string[];
}

/** How far the agent's start has come, or that it stops. */
export interface Progress extends Verdict {
  /** The journal was opened: from then on it can be asked whether it takes writes. */
  readonly isJournalOpen: boolean;
}

/** What `/readyz` tells besides. */
export interface BrokerView {
  readonly state: string;
  /** Its address, without user and password; empty while there is none. */
  readonly broker: string;
  /** Why it is not up; empty when it is. */
  readonly reason: string;
}

/** What the HTTP server asks. */
export interface HealthDesk {
  /** All metrics as they are now. */
  collect(): Promise<void>;
  /** Writes to the journal: rejects when that fails. */
  probe(): Promise<void>;
  /** What is not open yet, or not any more. */
  progress(): Progress;
  broker(): BrokerView;
}
