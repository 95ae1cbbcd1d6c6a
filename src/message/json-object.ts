/**
 * Where the members of a JSON object stand, so that a content can be handed on as the very bytes that came: no number
 * loses digits, no key changes its place.
 */
import { isUtf8 } from 'node:buffer';
import { MAX_DEPTH, Refusal, refusalOf, skipColon, skipSpace, skipString, skipValue } from './json.js';

/** Where a value stands: bytes [start, end). */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** Why bytes are not acceptable JSON, and at which byte. */
export interface JsonFault {
  readonly kind: 'fault';
  readonly reason: string;
  readonly at: number;
  /** The members that stood whole before the fault: enough, often, to answer what cannot be accepted. */
  readonly members: ReadonlyMap<string, Span>;
}

/** The members of a top-level object: name → where its value stands. A name that comes twice: the last one holds. */
export interface JsonObject {
  readonly kind: 'object';
  readonly members: ReadonlyMap<string, Span>;
}

const QUOTE = 0x22;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const LAST_PRINTABLE = 0x7e;

/** Finds the members of the JSON object that `bytes` hold, or says why they hold none. */
export function readObject(bytes: Uint8Array, maxDepth: number = MAX_DEPTH): JsonObject | JsonFault {
  const buffer = bufferOf(bytes);
  const all = new AllMembers(buffer);
  const refusal = readMembers(buffer, maxDepth, all);
  const members = all.found;
  if (refusal) return { kind: 'fault', reason: refusal.reason, at: refusal.at, members };
  return { kind: 'object', members };
}

/** Takes the members of an object, one after the other. */
interface Members {
  /** The name that begins at `at`; returns the position behind it and its colon, or throws a Refusal. */
  name(at: number): number;
  /** The value of that name stands whole at [start, end). */
  value(start: number, end: number): void;
}

class AllMembers implements Members {
  readonly found = new Map<string, Span>();
  #name = '';

  constructor(private readonly bytes: Buffer) {}

  name(at: number): number {
    const end = skipString(this.bytes, at);
    this.#name = stringAt(this.bytes, at, end);
    return skipColon(this.bytes, end);
  }

  value(start: number, end: number): void {
    this.found.set(this.#name, { start, end });
  }
}

/** The names of members that are looked for in many objects: they are found by their bytes, and no text is made of any. */
export class Names {
  /** No span for any of them. */
  readonly none: readonly number[];
  /** In quotes, with a colon behind. */
  readonly #bytes: readonly Buffer[];

  constructor(readonly texts: readonly string[]) {
    this.#bytes = texts.map((text) => Buffer.from(`"${text}":`));
    this.none = texts.flatMap(() => [-1, -1]);
  }

  /** The position behind the name with this place in the list and its colon, where it begins at `at`; -1 where it does not. */
  endAt(place: number, bytes: Buffer, at: number): number {
    const name = this.#bytes[place];
    if (name === undefined || at + name.length > bytes.length) return -1;
    return isAt(bytes, at, name, name.length) ? at + name.length : -1;
  }

  /** The place in the list of the name that stands at [start, end), quotes included; -1 for another. */
  placeOf(bytes: Buffer, start: number, end: number): number {
    const length = end - start;
    const place = this.#bytes.findIndex((name) => name.length === length + 1 && isAt(bytes, start, name, length));
    if (place >= 0) return place;
    // No further than the name goes: of a million other names each would look at all that stands behind it.
    for (let at = start; at < end; at++)
      if (bytes[at] === BACKSLASH) return this.texts.indexOf(stringAt(bytes, start, end));
    return -1;
  }
}

/** Where the members of certain names stand. */
export interface NamedSpans {
  /** For each name its start and its end; -1 where there is none. */
  readonly spans: readonly number[];
  /** Why the bytes hold no object; the spans are then those that stood whole before it. */
  readonly fault: { readonly reason: string; readonly at: number } | undefined;
}

/** As `readObject`, for the members with these names only. */
export function readNamed(bytes: Buffer, names: Names, maxDepth: number = MAX_DEPTH): NamedSpans {
  const named = new NamedMembers(bytes, names);
  named.fault = readMembers(bytes, maxDepth, named);
  return named;
}

class NamedMembers implements Members, NamedSpans {
  readonly spans: number[];
  fault: NamedSpans['fault'] = undefined;
  /** Of the last name. */
  private place = -1;

  constructor(
    private readonly bytes: Buffer,
    private readonly names: Names,
  ) {
    this.spans = names.none.slice();
  }

  name(at: number): number {
    const { bytes, names } = this;
    // As a rule they come in the order of the list.
    const next = this.place + 1;
    const end = names.endAt(next, bytes, at);
    if (end >= 0) {
      this.place = next;
      return end;
    }
    const other = skipString(bytes, at);
    this.place = names.placeOf(bytes, at, other);
    return skipColon(bytes, other);
  }

  value(start: number, end: number): void {
    const { place, spans } = this;
    if (place < 0) return;
    spans[place * 2] = start;
    spans[place * 2 + 1] = end;
  }
}

/** Whether the first `length` bytes of `wanted` stand in `bytes` from `from` on. */
export function isAt(bytes: Buffer, from: number, wanted: Buffer, length: number): boolean {
  for (let i = 0; i < length; i++) if (bytes[from + i] !== wanted[i]) return false;
  return true;
}

/** The value at `span`, by the platform's own parser. The span comes from `readObject`, so it is valid JSON. */
export function valueAt(bytes: Buffer, { start, end }: Span): unknown {
  return bytes[start] === QUOTE ? stringAt(bytes, start, end) : JSON.parse(bytes.toString('utf8', start, end));
}

/** The text of a string that stands at [start, end), quotes included. */
export function stringAt(bytes: Buffer, start: number, end: number): string {
  const plain = plainAt(bytes, start, end);
  if (plain !== undefined) return plain;
  const text = bytes.toString('utf8', start + 1, end - 1);
  return text.includes('\\') ? String(JSON.parse(bytes.toString('utf8', start, end))) : text;
}

/** The same where nothing stands there but printable ASCII without an escape; undefined otherwise. */
export function plainAt(bytes: Buffer, start: number, end: number): string | undefined {
  for (let at = start + 1; at < end - 1; at++) {
    const byte = bytes[at] as number;
    if (byte === BACKSLASH || byte > LAST_PRINTABLE) return undefined;
  }
  return bytes.toString('latin1', start + 1, end - 1);
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** Tells `members` of each that stands whole; the answer says why the bytes are no object in UTF-8. */
function readMembers(bytes: Buffer, maxDepth: number, members: Members): Refusal | undefined {
  let refusal: Refusal | undefined;
  try {
    eachMember(bytes, maxDepth, members);
  } catch (error) {
    refusal = refusalOf(error);
  }
  return isUtf8(bytes) ? refusal : new Refusal('not UTF-8', 0);
}

function eachMember(bytes: Buffer, maxDepth: number, members: Members): void {
  let at = skipSpace(bytes, 0);
  if (at === bytes.length) throw new Refusal('empty', at);
  if (bytes[at] !== OPEN_OBJECT) throw new Refusal('not an object', at);
  at = skipSpace(bytes, at + 1);
  if (bytes[at] !== CLOSE_OBJECT) {
    for (;;) {
      const start = skipSpace(bytes, members.name(at));
      const end = skipValue(bytes, start, maxDepth - 1);
      members.value(start, end);
      at = skipSpace(bytes, end);
      if (bytes[at] === CLOSE_OBJECT) break;
      if (bytes[at] !== COMMA) throw new Refusal('a comma or the end of the object is missing', at);
      at = skipSpace(bytes, at + 1);
    }
  }
  at = skipSpace(bytes, at + 1);
  if (at !== bytes.length) throw new Refusal('there is something behind the object', at);
}
