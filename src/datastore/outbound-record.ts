/**
 * How a result stands in memory and in the journal: its lane, its destination, its record.
 */
import type {
  Destination,
  DirectiveKey,
  InboundRecord,
  MessageKey,
  Metadata,
  OutboundRecord,
  OutboundState,
  ReplyTopic,
  SummedContent,
  WorkerName,
} from '../message/index.js';
import type { Change } from './journal.js';
import { outboundPrefix, recordKey, urlLane } from './keys.js';
import type { AnyRecord, RecordEncoder } from './record-codec.js';

/** A result as a worker hands it in. */
export interface NewOutbound {
  readonly worker: WorkerName | undefined;
  /** The directives of that worker: to find the request it answers, and so where its requester wants the reply. */
  readonly handlers: readonly DirectiveKey[];
  readonly messageId: string;
  readonly responseTo: string;
  readonly directive: string;
  readonly metadata: Metadata;
  /** Or the file of one that came bit by bit, finished. */
  readonly content: Buffer | SummedContent;
  readonly arrivedAt: number;
}

export type ResultAcceptance =
  | { readonly kind: 'accepted'; readonly key: MessageKey; readonly durable: Promise<void> }
  | { readonly kind: 'duplicate'; readonly durable: Promise<void> }
  /** No room in the spool, or no place for one URL more. */
  | { readonly kind: 'full'; readonly lacks: 'spool' | 'destinations' };

/** The lane of everything that is published. */
export const MQTT_LANE = 'mqtt';
/** The lane of answers that are collected on this machine. */
export const LOCAL_LANE = 'local';

export const OUTBOUND_ROOT = 'o/';
const MQTT_PREFIX = `${OUTBOUND_ROOT}${MQTT_LANE}/`;
const HAS_SCHEME = /^[A-Za-z][A-Za-z0-9+.-]*:\/\//;

/** The record of a result that has just come. */
export function newRecord(
  result: NewOutbound,
  key: MessageKey,
  destination: Destination,
  idKey: string | undefined,
): OutboundRecord {
  const { worker, messageId, responseTo, directive, metadata, content, arrivedAt } = result;
  return {
    kind: 'outbound',
    key,
    state: 'queued',
    worker,
    messageId,
    responseTo,
    directive,
    metadata,
    content: Buffer.isBuffer(content) ? { kind: 'inline', bytes: content } : content,
    destination,
    idKey,
    arrivedAt,
    attempts: 0,
    dueAt: 0,
    replayOf: undefined,
  };
}

/** The same record in another state, which changes in place: see its like in inbound-record.ts. */
export function inState(record: OutboundRecord, state: OutboundState): OutboundRecord {
  const live: { state: OutboundState } = record;
  live.state = state;
  return record;
}

export function laneUnder(prefix: string): string {
  return prefix.slice(OUTBOUND_ROOT.length, -1);
}

export function asOutbound(record: AnyRecord | undefined): OutboundRecord | undefined {
  return record?.kind === 'outbound' ? record : undefined;
}

/** The change that stores a record, under `path`: its key. */
export function put(
  encoder: RecordEncoder,
  record: OutboundRecord,
  path = recordKey(prefixOf(record), record.key),
): Change {
  return { table: 'records', key: path, value: encoder.encode(record), isSummed: true };
}

/** As `put`, for one that has just come: its key is new. */
export function putNew(encoder: RecordEncoder, record: OutboundRecord, path: string): Change {
  return { table: 'records', key: path, value: encoder.encode(record), isSummed: true, isThere: false };
}

export function prefixOf(record: OutboundRecord): string {
  return prefixOfLane(laneOf(record));
}

/** As `outboundPrefix`, without making a text anew for the lane that nearly all results take. */
export function prefixOfLane(lane: string): string {
  return lane === MQTT_LANE ? MQTT_PREFIX : outboundPrefix(lane);
}

export function laneOf({ destination, worker }: Pick<OutboundRecord, 'destination' | 'worker'>): string {
  if (destination.kind === 'url') return urlLane(worker, destination.url);
  return destination.kind === 'local' ? LOCAL_LANE : MQTT_LANE;
}

/** Where the requester of a message wants its replies, as far as that is known. */
export type ReplyTopicOf = (directive: DirectiveKey, messageId: string) => ReplyTopic | undefined;

const DATA_OUT: Destination = { kind: 'data-out' };

/**
 * A URL in the directive is where it goes; else where the requester wants it; else data/out. `request`: the message that
 * ends with it, which need not be looked up.
 */
export function destinationOf(result: NewOutbound, replyTopicOf: ReplyTopicOf, request?: InboundRecord): Destination {
  const { directive, responseTo } = result;
  if (directive.includes(':') && HAS_SCHEME.test(directive)) return { kind: 'url', url: directive };
  if (responseTo === '') return DATA_OUT;
  for (const handler of result.handlers) {
    const isOfRequest = responseTo === request?.messageId && handler === request.directiveKey;
    const replyTopic = isOfRequest ? request.replyTopic : replyTopicOf(handler, responseTo);
    if (replyTopic !== undefined) return replyTopic;
  }
  return DATA_OUT;
}
