/**
 * Bytes ↔ envelopes. Decoding trusts nothing and hands the content on as the bytes that came; encoding puts a
 * content's bytes into the envelope untouched. The order of the fields is that of PROTOCOL section 1.
 */
import { randomUUID } from 'node:crypto';
import type { CommandEnvelope, ConnectionStatus, DataEnvelope, EventName, Metadata, OutgoingData } from './envelope.js';
import { NAME_RULE, parseDirective, type Directive } from './ids.js';
import { jsonText } from './plain-text.js';
import { quoted } from './quoted.js';
import { isJson, MAX_DEPTH } from './json.js';
import { isAt, Names, plainAt, readNamed, readObject, stringAt, valueAt, type NamedSpans } from './json-object.js';

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

/** The fields of an envelope: a place in `NAMES` for each. */
const FIELDS = {
  type: 0,
  message_id: 1,
  response_to: 2,
  version: 3,
  sent: 4,
  directive: 5,
  metadata: 6,
  content: 7,
} as const;
type Field = (typeof FIELDS)[keyof typeof FIELDS];
const NAMES = new Names(Object.keys(FIELDS));
const nameOf = (field: Field): string => NAMES.texts[field] as string;
/** The two types as they stand there nearly always. */
const DATA = Buffer.from('"data"');
const COMMAND = Buffer.from('"command"');

/** The directive of the last message: that of the next is nearly always the same, and no text is made of it then. */
export class LastDirective {
  /** As it stood there, in quotes. */
  #bytes: Buffer = Buffer.alloc(0);
  #directive: Directive | undefined;

  /** The directive that stands at [start, end), if it is the last one. */
  at(payload: Buffer, start: number, end: number): Directive | undefined {
    const { length } = this.#bytes;
    return end - start === length && isAt(payload, start, this.#bytes, length) ? this.#directive : undefined;
  }

  note(payload: Buffer, start: number, end: number, directive: Directive): void {
    this.#bytes = Buffer.from(payload.subarray(start, end));
    this.#directive = directive;
  }
}

/**
 * Decodes a payload of `data/in`. A missing message id is made; unknown fields and versions are accepted. `last` is for
 * whoever decodes many.
 */
export function decodeData(
  payload: Buffer,
  limits: DecodeLimits = DEFAULT_DECODE_LIMITS,
  last?: LastDirective,
): { readonly kind: 'data'; readonly envelope: DataEnvelope } | Malformed {
  const fields = new Fields(payload, readNamed(payload, NAMES, limits.maxDepth));
  try {
    fields.expectObject();
    fields.expectType('data', DATA);
    fields.integer(FIELDS.version);
    fields.text(FIELDS.sent);
    const messageId = fields.id(FIELDS.message_id) || randomUUID();
    const directive = fields.directive(last);
    const responseTo = fields.id(FIELDS.response_to);
    const metadata = fields.metadata(limits.maxMetadata);
    return {
      kind: 'data',
      envelope: { messageId, responseTo, directive, metadata, content: fields.bytes(FIELDS.content) },
    };
  } catch (error) {
    return malformedBy(error, fields);
  }
}

/** Decodes a payload of `control/in`. `arguments` of null, {} or nothing are empty; `message` and the like are ignored. */
export function decodeCommand(
  payload: Buffer,
): { readonly kind: 'command'; readonly envelope: CommandEnvelope } | Malformed {
  const fields = new Fields(payload, readNamed(payload, NAMES));
  try {
    fields.expectObject();
    fields.expectType('command', COMMAND);
    const messageId = fields.id(FIELDS.message_id);
    const content = fields.value(FIELDS.content);
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
  return idsFrom(new Fields(payload, readNamed(payload, NAMES)));
}

/** The payload of a data message. `content` must be a JSON text (see `jsonContent`). */
export function encodeData(data: OutgoingData): Buffer {
  const { content } = data;
  const head = headOf(data);
  const length = Buffer.byteLength(head);
  const payload = Buffer.allocUnsafe(length + content.length + 1);
  payload.write(head);
  payload.set(content, length);
  payload[payload.length - 1] = CLOSING_BRACE;
  return payload;
}

/** The same, in pieces where the content is large: it is then one of them as it is, and no copy is made of it. */
export function encodeDataInPieces(data: OutgoingData): Buffer | readonly Buffer[] {
  return data.content.length < COPIED_BELOW ? encodeData(data) : [Buffer.from(headOf(data)), data.content, END];
}

/** All that stands before the content. */
function headOf(data: OutgoingData): string {
  const { metadata } = data;
  const entries = metadata === NO_METADATA ? '{}' : JSON.stringify(metadata);
  return `{"type":"data","message_id":${jsonText(data.messageId)},"response_to":${jsonText(
    data.responseTo,
  )},"version":1,"sent":${jsonText(data.sent)},"directive":${jsonText(data.directive)},"metadata":${entries},"content":`;
}

const QUOTE = 0x22;
/** Only null begins with it. */
const LETTER_N = 0x6e;
const OPEN_BRACE = 0x7b;
const CLOSING_BRACE = 0x7d;
const NULL = Buffer.from('null');
/** What stands behind the content. */
const END = Buffer.of(CLOSING_BRACE);
/** The copy of a smaller content costs less than two pieces more. */
export const COPIED_BELOW = 1024;

/**
 * What a worker's bytes become in an envelope: valid JSON stays as it is, nothing becomes null, and all else becomes
 * a JSON string in base64, which the metadata `content-encoding` names.
 */
export function jsonContent(bytes: Buffer, metadata: Metadata): { content: Buffer; metadata: Metadata } {
  if (bytes.length === 0) return { content: NULL, metadata };
  if (isJson(bytes)) return { content: bytes, metadata };
  return { content: base64Json(bytes), metadata: withEntry(metadata, 'content-encoding', 'base64') };
}

/** A JSON string in base64. Quotes joined to the text would have all of it copied once more before it becomes bytes. */
function base64Json(bytes: Buffer): Buffer {
  const text = bytes.toString('base64');
  const json = Buffer.allocUnsafe(text.length + 2);
  json[0] = QUOTE;
  json.write(text, 1, 'latin1');
  json[json.length - 1] = QUOTE;
  return json;
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

function malformedBy(error: unknown, fields: Fields): Malformed {
  /* c8 ignore next: anything else is a bug of this file and must surface */
  if (!(error instanceof Misfit)) throw error;
  return { kind: 'malformed', reason: error.message, ...idsFrom(fields) };
}

function idsFrom(fields: Fields): ReadableIds {
  return { messageId: fields.readable(FIELDS.message_id), directive: fields.readable(FIELDS.directive) };
}

/** Reads the fields of one envelope. As in the original, null stands for a field that is missing. */
class Fields {
  constructor(
    private readonly payload: Buffer,
    private readonly found: NamedSpans,
  ) {}

  expectObject(): void {
    const { fault } = this.found;
    if (fault !== undefined) throw new Misfit(`not a JSON object: ${fault.reason} at byte ${fault.at}`);
  }

  value(field: Field): unknown {
    const start = this.#start(field);
    return start < 0 ? undefined : valueAt(this.payload, { start, end: this.#end(field) });
  }

  string(field: Field): string {
    return this.text(field) ? stringAt(this.payload, this.#start(field), this.#end(field)) : '';
  }

  /** Whether a text stands there; its value is not looked at. */
  text(field: Field): boolean {
    const start = this.#start(field);
    if (start >= 0 && this.payload[start] === QUOTE) return true;
    if (start >= 0 && this.payload[start] !== LETTER_N) throw new Misfit(`"${nameOf(field)}" must be text`);
    return false;
  }

  directive(last: LastDirective | undefined): Directive {
    const start = this.#start(FIELDS.directive);
    const end = this.#end(FIELDS.directive);
    const known = last?.at(this.payload, start, end);
    if (known !== undefined) return known;
    const directive = parseDirective(this.string(FIELDS.directive));
    if (directive === undefined) throw new Misfit(`"directive" must be ${NAME_RULE}`);
    last?.note(this.payload, start, end, directive);
    return directive;
  }

  integer(field: Field): void {
    // JSON of one byte is a digit.
    if (this.#end(field) - this.#start(field) === 1) return;
    const value = this.value(field);
    if (value !== undefined && value !== null && !Number.isInteger(value)) {
      throw new Misfit(`"${nameOf(field)}" must be an integer`);
    }
  }

  bytes(field: Field): Buffer {
    const start = this.#start(field);
    return start < 0 ? this.payload.subarray(0, 0) : this.payload.subarray(start, this.#end(field));
  }

  /** The rule of the dispatcher too: a message whose id no answer may name could never be answered. */
  id(field: Field): string {
    if (!this.text(field)) return '';
    const start = this.#start(field);
    const end = this.#end(field);
    const plain = plainAt(this.payload, start, end);
    const id = plain ?? stringAt(this.payload, start, end);
    if (id.length > MAX_ID_LENGTH || (plain === undefined && CONTROL.test(id))) {
      throw new Misfit(`"${nameOf(field)}" must be at most ${MAX_ID_LENGTH} printable characters`);
    }
    return id;
  }

  expectType(expected: string, bytes: Buffer): void {
    const start = this.#start(FIELDS.type);
    if (this.#end(FIELDS.type) - start === bytes.length && isAt(this.payload, start, bytes, bytes.length)) return;
    if (this.string(FIELDS.type) !== expected) throw new Misfit(`"type" must be "${expected}"`);
  }

  /** string → string; null becomes "", numbers and booleans their text as it stood on the wire. */
  metadata(maxBytes: number): Metadata {
    const start = this.#start(FIELDS.metadata);
    const end = this.#end(FIELDS.metadata);
    if (end - start > maxBytes) throw new Misfit(`"metadata" is larger than ${maxBytes} bytes`);
    // None, null, or {}: most messages have no more.
    if (start < 0 || this.payload[start] === LETTER_N) return NO_METADATA;
    if (end - start === 2 && this.payload[start] === OPEN_BRACE) return NO_METADATA;
    const bytes = this.payload.subarray(start, end);
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
  readable(field: Field): string | undefined {
    const value = this.value(field);
    if (typeof value !== 'string' || value === '' || value.length > MAX_ID_LENGTH) return undefined;
    // U+FFFD: the bytes were not UTF-8, and an answer under another id would answer nobody.
    return value.includes('\uFFFD') ? undefined : value;
  }

  #start(field: Field): number {
    return this.found.spans[field * 2] as number;
  }

  #end(field: Field): number {
    return this.found.spans[field * 2 + 1] as number;
  }
}
