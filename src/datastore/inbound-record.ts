/**
 * How an inbound record stands in the journal.
 */
import type { InboundRecord } from '../message/index.js';
import type { Change } from './journal.js';
import { inboundPrefix, recordKey } from './keys.js';
import { encodeRecord } from './record-codec.js';

/** The record, when it is one of this direction. */
export function asInbound(record: unknown): InboundRecord | undefined {
  return typeof record === 'object' && record !== null && 'kind' in record && record.kind === 'inbound'
    ? (record as InboundRecord)
    : undefined;
}

/** The prefix of the lane a record belongs to. */
export function prefixOf(record: InboundRecord): string {
  return inboundPrefix(record.directiveKey, record.priority);
}

/** The change that stores a record; what it is doing in memory is not stored. */
export function put(record: InboundRecord): Change {
  const { key } = record;
  const stored: InboundRecord = { ...record, state: 'accepted' };
  return { table: 'records', key: recordKey(prefixOf(record), key), value: encodeRecord(stored) };
}
