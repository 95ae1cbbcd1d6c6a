export * from './datastore.js';
export type { DatastoreOptions } from './options.js';
export type {
  Acceptance,
  Cancellation,
  Completion,
  Ending,
  Lifetimes,
  NewInbound,
  NextOptions,
} from './inbound-types.js';
export type { Change, Journal, RangeOptions, Table } from './journal.js';
export { makePrivateDirectory, type WayCheck } from './directories.js';
export { LmdbJournal } from './lmdb-journal.js';
export { MemoryJournal } from './memory-journal.js';
export type { Listing, Page, PageStart } from './listing.js';
export type { LiveCollection } from './live-collection.js';
export { LOCAL_LANE, MQTT_LANE, type NewOutbound, type ResultAcceptance } from './outbound-record.js';
export type { Replay } from './replay-outcome.js';
export type { TornRecord } from './torn-records.js';
export type { Handler, ProcessEntry, Refused, WorkerEntry } from './entries.js';
export type { InboundStep, OutboundStep, Watch, Witness } from './witness.js';
