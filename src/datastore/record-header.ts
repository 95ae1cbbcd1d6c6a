/**
 * The header of a live record, written by hand and byte by byte: two for every message, and JSON.stringify with the object
 * it wants took several times as long, a text that is put together leaves twenty pieces behind. What has its default is
 * left out, and `restore` in record-codec.ts puts it back. The defaults stand on disk by not standing there: they never
 * change.
 */
import { basename } from 'node:path';
import type { Content, InboundRecord, Metadata, OutboundRecord, ReplyTopic } from '../message/index.js';
import type { ByteBlocks } from './byte-blocks.js';

/** What is stored in place of bytes that JSON cannot hold. */
export type StoredTopic = { readonly topic: string; readonly correlation?: string } | { readonly local: true };

/** The priority that is left out. */
export const USUAL_PRIORITY = 5;

/** Writes the header of a message as JSON. */
export function writeInboundHeader(to: ByteBlocks, record: InboundRecord): void {
  const { state, responseTo, directive, directiveKey, priority, expiresAt, attempts, fetches, replayOf } = record;
  to.bytes(INBOUND);
  common(to, record);
  if (state !== 'accepted') to.text(STATE, state);
  if (responseTo !== '') to.text(RESPONSE_TO, responseTo);
  if (String(directiveKey) !== String(directive)) to.text(DIRECTIVE_KEY, directiveKey);
  metadataOf(to, record.metadata);
  if (record.isFetched) to.ascii(',"isFetched":true');
  if (priority !== USUAL_PRIORITY) number(to, PRIORITY, priority);
  if (expiresAt !== undefined) number(to, EXPIRES_AT, expiresAt);
  if (attempts !== 0) number(to, ATTEMPTS, attempts);
  if (fetches !== 0) number(to, FETCHES, fetches);
  if (record.dueAt !== 0) number(to, DUE_AT, record.dueAt);
  if (record.replyTopic !== undefined) json(to, REPLY_TOPIC, storeTopic(record.replyTopic));
  if (replayOf !== undefined) number(to, REPLAY_OF, replayOf);
  end(to, record.content);
}

/** Writes the header of a result as JSON. */
export function writeOutboundHeader(to: ByteBlocks, record: OutboundRecord): void {
  const { state, worker, responseTo, destination, idKey, attempts, replayOf } = record;
  to.bytes(OUTBOUND);
  common(to, record);
  if (state !== 'queued') to.text(STATE, state);
  if (worker !== undefined) to.text(WORKER, worker);
  if (responseTo !== '') to.text(RESPONSE_TO, responseTo);
  metadataOf(to, record.metadata);
  if (destination.kind === 'topic') json(to, DESTINATION, { kind: 'topic', ...storeTopic(destination) });
  else if (destination.kind !== 'data-out') json(to, DESTINATION, destination);
  if (idKey !== undefined) to.text(ID_KEY, idKey);
  if (attempts !== 0) number(to, ATTEMPTS, attempts);
  if (record.dueAt !== 0) number(to, DUE_AT, record.dueAt);
  if (replayOf !== undefined) number(to, REPLAY_OF, replayOf);
  end(to, record.content);
}

/** A reply topic as text, for entries that keep nothing but that. */
export function storeTopic(reply: ReplyTopic): StoredTopic {
  if (reply.kind === 'local') return { local: true };
  const { topic, correlationData } = reply;
  return correlationData === undefined ? { topic } : { topic, correlation: correlationData.toString('base64') };
}

/** As pairs: a name may be one that means something to an object. */
export function entriesOf(metadata: Metadata): [string, string][] {
  const entries: [string, string][] = [];
  for (const name in metadata) entries.push([name, metadata[name] ?? '']);
  return entries;
}

/** What stands in each. */
function common(to: ByteBlocks, { key, messageId, directive, arrivedAt }: InboundRecord | OutboundRecord): void {
  number(to, KEY, key);
  to.text(MESSAGE_ID, messageId);
  to.text(DIRECTIVE, directive);
  number(to, ARRIVED_AT, arrivedAt);
}

function metadataOf(to: ByteBlocks, metadata: Metadata): void {
  let isEmpty = true;
  for (const name in metadata) {
    to.ascii(isEmpty ? ',"metadata":[["' : ',["');
    to.quoted(name);
    to.text(VALUE, metadata[name] ?? '');
    to.ascii(']');
    isEmpty = false;
  }
  if (!isEmpty) to.ascii(']');
}

function end(to: ByteBlocks, content: Content): void {
  if (content.kind === 'file') {
    to.text(FILE, basename(content.path));
    if (content.sum !== undefined) to.text(SUM, content.sum);
    if (content.crc32 !== undefined) number(to, CRC, content.crc32);
  }
  to.ascii('}');
}

function number(to: ByteBlocks, name: Buffer, value: number): void {
  to.bytes(name);
  to.number(value);
}

function json(to: ByteBlocks, name: Buffer, value: object): void {
  to.bytes(name);
  to.utf8(JSON.stringify(value));
}

const INBOUND = Buffer.from('{"kind":"inbound"');
const OUTBOUND = Buffer.from('{"kind":"outbound"');
const STATE = Buffer.from(',"state":"');
const RESPONSE_TO = Buffer.from(',"responseTo":"');
const DIRECTIVE_KEY = Buffer.from(',"directiveKey":"');
const PRIORITY = Buffer.from(',"priority":');
const EXPIRES_AT = Buffer.from(',"expiresAt":');
const ATTEMPTS = Buffer.from(',"attempts":');
const FETCHES = Buffer.from(',"fetches":');
const DUE_AT = Buffer.from(',"dueAt":');
const REPLY_TOPIC = Buffer.from(',"replyTopic":');
const REPLAY_OF = Buffer.from(',"replayOf":');
const WORKER = Buffer.from(',"worker":"');
const DESTINATION = Buffer.from(',"destination":');
const ID_KEY = Buffer.from(',"idKey":"');
const KEY = Buffer.from(',"key":');
const MESSAGE_ID = Buffer.from(',"messageId":"');
const DIRECTIVE = Buffer.from(',"directive":"');
const ARRIVED_AT = Buffer.from(',"arrivedAt":');
const VALUE = Buffer.from('","');
const FILE = Buffer.from(',"file":"');
const SUM = Buffer.from(',"sum":"');
const CRC = Buffer.from(',"crc32":');
