export { SlotTable } from './slot-table.js';
export { withItem } from './short-list.js';
export { Signal, type ErrorSink } from './signal.js';
export { Channel, type FullPolicy } from './channel.js';
export { Ring, type Excerpt, type RingLimits, type RingReader } from './ring.js';
