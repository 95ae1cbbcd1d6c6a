/**
 * The header of a live record, written by hand: two for every message, and JSON.stringify with the object it wants took
 * several times as long. What has its default is left out, and `restore` in record-codec.ts puts it back. The defaults
 * stand on disk by not standing there: they never change.
 */
import { basename } from 'node:path';
import type { Content, InboundRecord, Metadata, OutboundRecord, ReplyTopic } from '../message/index.js';

/** What is stored in place of bytes that JSON cannot hold. */
export type StoredTopic = { readonly topic: string; readonly correlation?: string } | { readonly local: true };

/** The priority that is left out. */
export const USUAL_PRIORITY = 5;

/** What JSON writes as it stands. */
const PLAIN = /^[ !#-[\]-~]*$/;

/** The header of a message as JSON. */
export function inboundHeader(record: InboundRecord): string {
  const { state, responseTo, directive, directiveKey, priority, expiresAt, attempts, fetches, replayOf } = record;
  let text = `{"kind":"inbound","key":${record.key},"messageId":"${escaped(record.messageId)}","directive":"`;
  text += `${escaped(directive)}","arrivedAt":${number(record.arrivedAt)}`;
  if (state !== 'accepted') text += `,"state":"${state}"`;
  if (responseTo !== '') text += `,"responseTo":"${escaped(responseTo)}"`;
  if (String(directiveKey) !== String(directive)) text += `,"directiveKey":"${escaped(directiveKey)}"`;
  text += metadataText(record.metadata);
  if (record.isFetched) text += ',"isFetched":true';
  if (priority !== USUAL_PRIORITY) text += `,"priority":${number(priority)}`;
  if (expiresAt !== undefined) text += `,"expiresAt":${number(expiresAt)}`;
  if (attempts !== 0) text += `,"attempts":${number(attempts)}`;
  if (fetches !== 0) text += `,"fetches":${number(fetches)}`;
  if (record.dueAt !== 0) text += `,"dueAt":${number(record.dueAt)}`;
  if (record.replyTopic !== undefined) text += `,"replyTopic":${JSON.stringify(storeTopic(record.replyTopic))}`;
  if (replayOf !== undefined) text += `,"replayOf":${replayOf}`;
  return `${text}${fileText(record.content)}}`;
}

/** The header of a result as JSON. */
export function outboundHeader(record: OutboundRecord): string {
  const { state, worker, responseTo, destination, idKey, attempts, replayOf } = record;
  let text = `{"kind":"outbound","key":${record.key},"messageId":"${escaped(record.messageId)}","directive":"`;
  text += `${escaped(record.directive)}","arrivedAt":${number(record.arrivedAt)}`;
  if (state !== 'queued') text += `,"state":"${state}"`;
  if (worker !== undefined) text += `,"worker":"${escaped(worker)}"`;
  if (responseTo !== '') text += `,"responseTo":"${escaped(responseTo)}"`;
  text += metadataText(record.metadata);
  if (destination.kind === 'topic')
    text += `,"destination":${JSON.stringify({ kind: 'topic', ...storeTopic(destination) })}`;
  else if (destination.kind !== 'data-out') text += `,"destination":${JSON.stringify(destination)}`;
  if (idKey !== undefined) text += `,"idKey":"${escaped(idKey)}"`;
  if (attempts !== 0) text += `,"attempts":${number(attempts)}`;
  if (record.dueAt !== 0) text += `,"dueAt":${number(record.dueAt)}`;
  if (replayOf !== undefined) text += `,"replayOf":${replayOf}`;
  return `${text}${fileText(record.content)}}`;
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

function metadataText(metadata: Metadata): string {
  let text = '';
  for (const name in metadata)
    text += `${text === '' ? ',"metadata":[' : ','}["${escaped(name)}","${escaped(metadata[name] ?? '')}"]`;
  return text === '' ? '' : `${text}]`;
}

function fileText(content: Content): string {
  if (content.kind !== 'file') return '';
  const crc32 = content.crc32 === undefined ? '' : `,"crc32":${content.crc32}`;
  return `,"file":"${escaped(basename(content.path))}"${crc32}`;
}

/** A text as JSON has it between its quotes, which stand with what is around it: a concatenation less for each. */
function escaped(text: string): string {
  return PLAIN.test(text) ? text : JSON.stringify(text).slice(1, -1);
}

/** As JSON has it, which knows no infinity. */
function number(value: number): string {
  return Number.isFinite(value) ? `${value}` : 'null';
}
