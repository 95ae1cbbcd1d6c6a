/**
 * What a datastore is made with.
 */
import type { Log } from '../log/log.js';
import type { Clock } from '../time.js';
import type { DeadLimits } from './dead-letters.js';
import type { Lifetimes } from './inbound-types.js';
import type { Journal } from './journal.js';
import type { SpoolLimits } from './ledger.js';
import type { WayCheck } from './directories.js';
import type { DedupeWindow } from './recent-ids.js';
import type { WindowLimits } from './window.js';
import type { Watch } from './witness.js';

export interface DatastoreOptions {
  /** Holds content/ and lock; the journal's own directory is the journal's affair. */
  readonly stateDir: string;
  readonly journal: Journal;
  /** Asked about the state directory before anything in it is trusted. Default: it is. */
  readonly wayProblem?: WayCheck;
  readonly clock: Clock;
  readonly log: Log;
  readonly spool: SpoolLimits;
  readonly dead: DeadLimits;
  readonly dedupe: DedupeWindow;
  readonly lifetimes: Lifetimes & {
    /** How long a result may wait for its destination. */
    readonly result: number;
  };
  /** How much of each lane is in memory. Default: WINDOW_LIMITS. */
  readonly window?: WindowLimits;
  /** Where a witness may come. */
  readonly watch?: Watch;
}
