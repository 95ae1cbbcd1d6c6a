/**
 * Bytes ↔ envelopes. Decoding trusts nothing and hands the content on as the bytes that came; encoding puts a
 * content's bytes into the envelope untouched. The order of the fields is that of PROTOCOL section 1.
 */
import { randomUUID } from 'node:crypto';
import type { CommandEnvelope, ConnectionStatus, DataEnvelope, EventName, Metadata, OutgoingData } from './envelope.js';
import { NAME_RULE, parseDirective } from './ids.js';
import { quoted } from './quoted.js';
import { isJson, MAX_DEPTH, readObject, valueAt, type JsonFault, type JsonObject, type Span } from './json.js';

/** Why a payload is no envelope; with the ids, where they could be read, so that it can be answered. */
export interface Malformed {
  readonly kind: 'malformed';
  /** A sentence: what is wrong, and where. */
  readonly reason: string;
  readonly messageId: string | undefined;
  readonly directive: string | undefined;
}

export interface DecodeLimits {
  readonly maxDepth: number;
  /** Bytes of all metadata names and values together, as JSON. */
  readonly maxMetadata: number;
}

export const DEFAULT_DECODE_LIMITS: DecodeLimits = { maxDepth: MAX_DEPTH, maxMetadata: 64 * 1024 };

/** Longest message id accepted, in characters. A UUID has 36. */
export const MAX_ID_LENGTH = 256;

// eslint-disable-next-line no-control-regex -- control characters are what must not pass into logs and headers
const CONTROL = /[\u0000-\u001f\u007f]/;

class Misfit extends Error {}

/** Decodes a payload of `data/in`. A missing message id is made; unknown fields and versions are accepted. */
export function decodeData(
  payload: Buffer,
  limits: DecodeLimits = DEFAULT_DECODE_LIMITS,
): { readonly kind: 'data'; readonly envelope: DataEnvelope } | Malformed {
  const object = readObject(payload, limits.maxDepth);
  if (object.kind === 'fault') return malformedJson(payload, object);
  const fields = new Fields(payload, object);
  try {
    fields.expectType('data');
    fields.integer('version');
    fields.string('sent');
    const messageId = fields.id('message_id') || randomUUID();
    const name = fields.string('directive');
    const directive = parseDirective(name);
    if (directive === undefined) throw new Misfit(`"directive" must be ${NAME_RULE}`);
    const responseTo = fields.id('response_to');
    const metadata = fields.metadata(limits.maxMetadata);
    return { kind: 'data', envelope: { messageId, responseTo, directive, metadata, content: fields.bytes('content') } };
  } catch (error) {
    return malformedBy(error, fields);
  }
}

/** Decodes a payload of `control/in`. `arguments` of null, {} or nothing are empty; `message` and the like are ignored. */
export function decodeCommand(
  payload: Buffer,
): { readonly kind: 'command'; readonly envelope: CommandEnvelope } | Malformed {
  const object = readObject(payload);
  if (object.kind === 'fault') return malformedJson(payload, object);
  const fields = new Fields(payload, object);
  try {
    fields.expectType('command');
    const messageId = fields.id('message_id');
    const content = fields.value('content');
    if (!isRecord(content)) throw new Misfit('"content" must be an object with a command');
    const { command, arguments: given } = content;
    if (typeof command !== 'string' || command === '') throw new Misfit('"content.command" must be text');
    if (given !== undefined && given !== null && !isRecord(given)) {
      throw new Misfit('"content.arguments" must be an object or null');
    }
    const args = withoutPrototype<unknown>(given ?? {});
    return { kind: 'command', envelope: { messageId, command, arguments: args } };
  } catch (error) {
    return malformedBy(error, fields);
  }
}

/** The ids that name a message, each undefined where it cannot be read. */
export type ReadableIds = Pick<Malformed, 'messageId' | 'directive'>;

/** The ids that stand in the first bytes of a payload too large to be taken: those before the cut can be read. */
export function readableIds(payload: Buffer): ReadableIds {
  return idsFrom(new Fields(payload, readObject(payload)));
}

/** The payload of a data message. `content` must be a JSON text (see `jsonContent`). */
export function encodeData(data: OutgoingData): Buffer {
  const head = `{"type":"data","message_id":${JSON.stringify(data.messageId)},"response_to":${JSON.stringify(
    data.responseTo,
  )},"version":1,"sent":${JSON.stringify(data.sent)},"directive":${JSON.stringify(
    data.directive,
  )},"metadata":${JSON.stringify(data.metadata)},"content":`;
  return Buffer.concat([Buffer.from(head, 'utf8'), data.content, CLOSING_BRACE]);
}

const CLOSING_BRACE = Buffer.from('}');
const NULL = Buffer.from('null');

/**
 * What a worker's bytes become in an envelope: valid JSON stays as it is, nothing becomes null, and all else becomes
 * a JSON string in base64, which the metadata `content-encoding` names.
 */
export function jsonContent(bytes: Buffer, metadata: Metadata): { content: Buffer; metadata: Metadata } {
  if (bytes.length === 0) return { content: NULL, metadata };
  if (isJson(bytes)) return { content: bytes, metadata };
  return {
    content: Buffer.from(`"${bytes.toString('base64')}"`, 'latin1'),
    metadata: withEntry(metadata, 'content-encoding', 'base64'),
  };
}

/** The payload of a connection-status. Tags are left out when there are none. */
export function encodeConnectionStatus(messageId: string, sent: string, status: ConnectionStatus): Buffer {
  return encode('connection-status', messageId, '', sent, {
    canonical_facts: status.canonicalFacts,
    dispatchers: status.dispatchers,
    state: status.state,
    ...(Object.keys(status.tags).length > 0 ? { tags: status.tags } : {}),
    client_name: status.clientName,
    client_version: status.clientVersion,
  });
}

/** The payload of an event that answers the command `responseTo`. */
export function encodeEvent(messageId: string, responseTo: string, sent: string, event: EventName): Buffer {
  return encode('event', messageId, responseTo, sent, event);
}

/** The payload of a command for `control/in`, as a server sends it. */
export function encodeCommand(
  messageId: string,
  sent: string,
  command: string,
  given: Readonly<Record<string, unknown>> | null = null,
): Buffer {
  return encode('command', messageId, '', sent, { command, arguments: given });
}

function encode(type: string, messageId: string, responseTo: string, sent: string, content: unknown): Buffer {
  return Buffer.from(
    JSON.stringify({ type, message_id: messageId, response_to: responseTo, version: 1, sent, content }),
    'utf8',
  );
}

/** Metadata with one more entry, still without a prototype. */
export function withEntry(metadata: Metadata, name: string, value: string): Metadata {
  const copy = withoutPrototype(metadata);
  copy[name] = value;
  return copy;
}

/** Metadata from pairs, without a prototype, so that `__proto__` is a name like any other. */
export function metadataFrom(entries: Iterable<readonly [string, string]>): Metadata {
  let metadata: Record<string, string> | undefined;
  for (const [name, value] of entries) {
    metadata ??= withoutPrototype<string>({});
    metadata[name] = value;
  }
  return metadata ?? NO_METADATA;
}

/** Most messages have none: an object without a prototype costs more than all else of a small message. */
const NO_METADATA: Metadata = Object.freeze(withoutPrototype<string>({}));

/** A copy that inherits nothing, so that no name in it has a meaning of its own. */
function withoutPrototype<T>(entries: Readonly<Record<string, T>>): Record<string, T> {
  return Object.assign(Object.create(null) as Record<string, T>, entries);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function malformedJson(payload: Buffer, fault: JsonFault): Malformed {
  const ids = idsFrom(new Fields(payload, fault));
  return { kind: 'malformed', reason: `not a JSON object: ${fault.reason} at byte ${fault.at}`, ...ids };
}

function malformedBy(error: unknown, fields: Fields): Malformed {
  /* c8 ignore next: anything else is a bug of this file and must surface */
  if (!(error instanceof Misfit)) throw error;
  return { kind: 'malformed', reason: error.message, ...idsFrom(fields) };
}

function idsFrom(fields: Fields): ReadableIds {
  return { messageId: fields.readable('message_id'), directive: fields.readable('directive') };
}

/** Reads the fields of one envelope. As in the original, null stands for a field that is missing. */
class Fields {
  constructor(
    private readonly payload: Buffer,
    private readonly object: Pick<JsonObject, 'members'>,
  ) {}

  value(name: string): unknown {
    const span = this.object.members.get(name);
    return span === undefined ? undefined : valueAt(this.payload, span);
  }

  string(name: string): string {
    const value = this.value(name);
    if (value === undefined || value === null) return '';
    if (typeof value !== 'string') throw new Misfit(`"${name}" must be text`);
    return value;
  }

  integer(name: string): void {
    const value = this.value(name);
    if (value !== undefined && value !== null && !Number.isInteger(value)) {
      throw new Misfit(`"${name}" must be an integer`);
    }
  }

  bytes(name: string): Buffer {
    const span: Span = this.object.members.get(name) ?? { start: 0, end: 0 };
    return this.payload.subarray(span.start, span.end);
  }

  /** The rule of the dispatcher too: a message whose id no answer may name could never be answered. */
  id(name: string): string {
    const id = this.string(name);
    if (id.length > MAX_ID_LENGTH || CONTROL.test(id)) {
      throw new Misfit(`"${name}" must be at most ${MAX_ID_LENGTH} printable characters`);
    }
    return id;
  }

  expectType(expected: string): void {
    const type = this.string('type');
    if (type !== expected) throw new Misfit(`"type" must be "${expected}"`);
  }

  /** string → string; null becomes "", numbers and booleans their text as it stood on the wire. */
  metadata(maxBytes: number): Metadata {
    const span = this.object.members.get('metadata');
    if (span === undefined) return metadataFrom([]);
    if (span.end - span.start > maxBytes) throw new Misfit(`"metadata" is larger than ${maxBytes} bytes`);
    const bytes = this.payload.subarray(span.start, span.end);
    if (bytes.toString('latin1') === 'null') return metadataFrom([]);
    const inner = readObject(bytes);
    if (inner.kind === 'fault') throw new Misfit('"metadata" must be an object of text to text');
    const entries: [string, string][] = [];
    for (const [name, at] of inner.members) {
      const text = bytes.toString('utf8', at.start, at.end);
      if (text.startsWith('{') || text.startsWith('[')) throw new Misfit(`in "metadata", ${quoted(name)} must be text`);
      entries.push([name, text === 'null' ? '' : text.startsWith('"') ? String(JSON.parse(text)) : text]);
    }
    return metadataFrom(entries);
  }

  /** A field's text for an answer to what could not be understood otherwise; undefined when it cannot be read. */
  readable(name: string): string | undefined {
    const value = this.value(name);
    if (typeof value !== 'string' || value === '' || value.length > MAX_ID_LENGTH) return undefined;
    // U+FFFD: the bytes were not UTF-8, and an answer under another id would answer nobody.
    return value.includes('\uFFFD') ? undefined : value;
  }
}
