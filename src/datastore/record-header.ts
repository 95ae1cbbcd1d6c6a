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
  to.ascii('{"kind":"inbound"');
  common(to, record);
  if (state !== 'accepted') text(to, ',"state":"', state);
  if (responseTo !== '') text(to, ',"responseTo":"', responseTo);
  if (String(directiveKey) !== String(directive)) text(to, ',"directiveKey":"', directiveKey);
  metadataOf(to, record.metadata);
  if (record.isFetched) to.ascii(',"isFetched":true');
  if (priority !== USUAL_PRIORITY) number(to, ',"priority":', priority);
  if (expiresAt !== undefined) number(to, ',"expiresAt":', expiresAt);
  if (attempts !== 0) number(to, ',"attempts":', attempts);
  if (fetches !== 0) number(to, ',"fetches":', fetches);
  if (record.dueAt !== 0) number(to, ',"dueAt":', record.dueAt);
  if (record.replyTopic !== undefined) json(to, ',"replyTopic":', storeTopic(record.replyTopic));
  if (replayOf !== undefined) number(to, ',"replayOf":', replayOf);
  end(to, record.content);
}

/** Writes the header of a result as JSON. */
export function writeOutboundHeader(to: ByteBlocks, record: OutboundRecord): void {
  const { state, worker, responseTo, destination, idKey, attempts, replayOf } = record;
  to.ascii('{"kind":"outbound"');
  common(to, record);
  if (state !== 'queued') text(to, ',"state":"', state);
  if (worker !== undefined) text(to, ',"worker":"', worker);
  if (responseTo !== '') text(to, ',"responseTo":"', responseTo);
  metadataOf(to, record.metadata);
  if (destination.kind === 'topic') json(to, ',"destination":', { kind: 'topic', ...storeTopic(destination) });
  else if (destination.kind !== 'data-out') json(to, ',"destination":', destination);
  if (idKey !== undefined) text(to, ',"idKey":"', idKey);
  if (attempts !== 0) number(to, ',"attempts":', attempts);
  if (record.dueAt !== 0) number(to, ',"dueAt":', record.dueAt);
  if (replayOf !== undefined) number(to, ',"replayOf":', replayOf);
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
  number(to, ',"key":', key);
  text(to, ',"messageId":"', messageId);
  text(to, ',"directive":"', directive);
  number(to, ',"arrivedAt":', arrivedAt);
}

function metadataOf(to: ByteBlocks, metadata: Metadata): void {
  let isEmpty = true;
  for (const name in metadata) {
    to.ascii(isEmpty ? ',"metadata":[["' : ',["');
    to.quoted(name);
    text(to, '","', metadata[name] ?? '');
    to.ascii(']');
    isEmpty = false;
  }
  if (!isEmpty) to.ascii(']');
}

function end(to: ByteBlocks, content: Content): void {
  if (content.kind === 'file') {
    text(to, ',"file":"', basename(content.path));
    if (content.crc32 !== undefined) number(to, ',"crc32":', content.crc32);
  }
  to.ascii('}');
}

/** `name` ends with the quote that opens the text. */
function text(to: ByteBlocks, name: string, value: string): void {
  to.ascii(name);
  to.quoted(value);
  to.ascii('"');
}

function number(to: ByteBlocks, name: string, value: number): void {
  to.ascii(name);
  to.number(value);
}

function json(to: ByteBlocks, name: string, value: object): void {
  to.ascii(name);
  to.utf8(JSON.stringify(value));
}
