export * from './datastore.js';
export type { Acceptance, Cancellation, Ending, Lifetimes, NewInbound, NextOptions } from './inbound-types.js';
export type { Change, Journal, RangeOptions, Table } from './journal.js';
export { LmdbJournal, makePrivateDirectory, type WayCheck } from './lmdb-journal.js';
export { MemoryJournal } from './memory-journal.js';
export type { LiveCollection } from './live-collection.js';
export { MQTT_LANE, type NewOutbound, type ResultAcceptance } from './outbound-queue.js';
export type { Handler, ProcessEntry, Refused, WorkerEntry } from './entries.js';
