/**
 * Protobuf ↔ records. What a worker sends is checked here and nowhere else; what goes to a worker is measured here
 * before its body is read.
 */
import { Data, type RegistrationRequest } from '../../protocol/generated/yggdrasil.js';
import { MAX_ID_LENGTH, metadataFrom } from '../message/codec.js';
import { newMessageId } from '../message/ids.js';
import type { Metadata } from '../message/envelope.js';
import { contentSize, type InboundRecord } from '../message/record.js';
import type { DispatchLimits } from './ports.js';
import { unaryFrameOf } from './stream/frame-writer.js';

/** Longest directive of a result: it may be a URL. */
const MAX_DIRECTIVE_LENGTH = 8192;

const NO_BYTES = Buffer.alloc(0);
const NO_METADATA = metadataFrom([]);

/** The message for the worker, with the body that was read for it. */
export function dataFromRecord(record: InboundRecord, content: Buffer): Data {
  return {
    messageId: record.messageId,
    metadata: record.metadata,
    content,
    responseTo: record.responseTo,
    directive: record.directive,
  };
}

/** The same as Worker.Send has it on the wire. */
export function sendFrame(record: InboundRecord, content: Buffer): Buffer {
  return unaryFrameOf(dataFromRecord(record, content));
}

/** Bytes of the whole protobuf message a record becomes: what a worker's gRPC compares with its limit. */
export function wireSize(record: InboundRecord): number {
  const rest = Data.encode(dataFromRecord(record, NO_BYTES)).finish().length;
  const size = contentSize(record.content);
  return size === 0 ? rest : rest + 1 + varintLength(size) + size;
}

/** Whether no encoding of a record can have more bytes: `wireSize` makes one to tell. */
export function isSurelyBelow(record: InboundRecord, largest: number): boolean {
  const { messageId, responseTo, directive, metadata, content } = record;
  // UTF-8 takes at most three bytes for a unit of UTF-16; a field has a tag and a length, an entry three of each.
  let bound = 64 + contentSize(content) + 3 * (messageId.length + responseTo.length + directive.length);
  for (const name in metadata) bound += 32 + 3 * (name.length + (metadata[name]?.length ?? 0));
  return bound <= largest;
}

function varintLength(value: number): number {
  let length = 1;
  for (let rest = Math.floor(value / 128); rest > 0; rest = Math.floor(rest / 128)) length += 1;
  return length;
}

/** A result whose fields were checked. */
export interface ReceivedResult {
  readonly kind: 'result';
  readonly messageId: string;
  readonly responseTo: string;
  readonly directive: string;
  readonly metadata: Metadata;
  readonly content: Buffer;
}

/** Why something a worker sent is refused; the text is the answer it gets. */
export interface Refused {
  readonly kind: 'refused';
  readonly reason: string;
}

/**
 * Checks a result. One without an id gets one, as on the way in; the original lets such pass too. `size` is that of its
 * content, where that comes by itself.
 */
export function resultFromData(
  data: Data,
  limits: Pick<DispatchLimits, 'resultSize' | 'metadataSize'>,
  size: number = data.content.length,
): ReceivedResult | Refused {
  const { messageId, responseTo, directive, content } = data;
  if (!isText(messageId, MAX_ID_LENGTH))
    return refused(`message_id must be at most ${MAX_ID_LENGTH} printable characters`);
  if (!isText(responseTo, MAX_ID_LENGTH))
    return refused(`response_to must be at most ${MAX_ID_LENGTH} printable characters`);
  if (!isText(directive, MAX_DIRECTIVE_LENGTH)) {
    return refused(`directive must be at most ${MAX_DIRECTIVE_LENGTH} printable characters`);
  }
  if (size > limits.resultSize) {
    return refused(`content has ${size} bytes, more than the ${limits.resultSize} that are allowed`);
  }
  const metadata = boundedText(data.metadata, limits.metadataSize);
  if (metadata === undefined) return refused(`metadata is larger than ${limits.metadataSize} bytes`);
  return { kind: 'result', messageId: messageId || newMessageId(), responseTo, directive, metadata, content };
}

/** The features of a registration, or undefined when they are larger than allowed. */
export function featuresFrom(request: RegistrationRequest, maxBytes: number): Metadata | undefined {
  return boundedText(request.features, maxBytes);
}

/** A whole number of at least 1 that a feature announces; undefined when it is missing or unreadable. */
export function countFeature(features: Metadata, name: string): number | undefined {
  const text = features[name];
  if (text === undefined || !/^\d{1,15}$/.test(text)) return undefined;
  const value = Number(text);
  return value >= 1 ? value : undefined;
}

/** The pid a worker claims, as a number for the log; undefined when it cannot be one. */
export function claimedPid(request: RegistrationRequest): number | undefined {
  const pid = Number(request.pid);
  return Number.isSafeInteger(pid) && pid > 0 ? pid : undefined;
}

function boundedText(entries: Readonly<Record<string, string>>, maxBytes: number): Metadata | undefined {
  let bytes = 0;
  let isEmpty = true;
  for (const name in entries) {
    isEmpty = false;
    bytes += Buffer.byteLength(name) + Buffer.byteLength(entries[name] ?? '');
  }
  if (bytes > maxBytes) return undefined;
  return isEmpty ? NO_METADATA : metadataFrom(Object.entries(entries));
}

/** Without control characters, which must not pass into logs and headers. A loop: most of these texts are short. */
function isText(text: string, maxLength: number): boolean {
  if (text.length > maxLength) return false;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit < 0x20 || unit === 0x7f) return false;
  }
  return true;
}

function refused(reason: string): Refused {
  return { kind: 'refused', reason };
}
