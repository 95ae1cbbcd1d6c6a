/**
 * How an inbound record stands in the journal.
 */
import type { DirectiveKey, InboundRecord, InboundState, MessageKey } from '../message/index.js';
import type { NewInbound } from './inbound-types.js';
import type { Change } from './journal.js';
import { inboundPrefix, recordKey } from './keys.js';
import type { AnyRecord, RecordEncoder } from './record-codec.js';

/** The record of a message that has just come. */
export function newRecord(message: NewInbound, directive: DirectiveKey, key: MessageKey): InboundRecord {
  return {
    kind: 'inbound',
    key,
    state: 'accepted',
    messageId: message.messageId,
    responseTo: message.responseTo,
    directive: message.directive,
    directiveKey: directive,
    metadata: message.metadata,
    content: { kind: 'inline', bytes: message.content },
    isFetched: false,
    priority: message.priority,
    arrivedAt: message.arrivedAt,
    expiresAt: message.expiresAt,
    attempts: 0,
    fetches: 0,
    dueAt: 0,
    replyTopic: message.replyTopic,
    replayOf: undefined,
  };
}

/**
 * The same record in another state: the one thing of it that changes in place, since a message goes through four and a
 * copy for each took longer than the step. To all others it is read-only.
 */
export function inState(record: InboundRecord, state: InboundState): InboundRecord {
  const live: { state: InboundState } = record;
  live.state = state;
  return record;
}

/** The record, when it is one of this direction. */
export function asInbound(record: AnyRecord | undefined): InboundRecord | undefined {
  return record?.kind === 'inbound' ? record : undefined;
}

/** The prefix of the lane a record belongs to. */
export function prefixOf(record: InboundRecord): string {
  return inboundPrefix(record.directiveKey, record.priority);
}

/** The change that stores a record, under `path`: its key. What it is doing in memory is not stored. */
export function put(
  encoder: RecordEncoder,
  record: InboundRecord,
  path = recordKey(prefixOf(record), record.key),
): Change {
  const stored: InboundRecord = record.state === 'accepted' ? record : { ...record, state: 'accepted' };
  return { table: 'records', key: path, value: encoder.encode(stored), isSummed: true };
}

/** As `put`, for one that has just come: its key is new. */
export function putNew(encoder: RecordEncoder, record: InboundRecord, path: string): Change {
  return { table: 'records', key: path, value: encoder.encode(record), isSummed: true, isThere: false };
}
