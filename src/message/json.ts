/**
 * A strict JSON reader that keeps positions instead of values (RFC 8259). It tells whether bytes are one JSON text
 * and where the members of a top-level object stand, so that a content can be handed on as the very bytes that came:
 * no number loses digits, no key changes its place. It does not recurse; nesting is bounded by the caller.
 */
import { isUtf8 } from 'node:buffer';

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

/** Nesting accepted by default; deeper input is refused before anything recursive sees it. */
export const MAX_DEPTH = 64;

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
/** Of a string, in bytes: above this a stretch without an escape is searched by words, which needs two views to be made. */
const LONG_STRETCH = 256;

/** Thrown inside this file only. */
class Refusal extends Error {
  constructor(
    readonly reason: string,
    readonly at: number,
  ) {
    super(reason);
  }
}

/** Whether `bytes` are exactly one JSON text in UTF-8, nested at most `maxDepth` deep. */
export function isJson(bytes: Uint8Array, maxDepth: number = MAX_DEPTH): boolean {
  if (!isUtf8(bytes)) return false;
  try {
    const end = skipSpace(bytes, skipValue(bytes, skipSpace(bytes, 0), maxDepth));
    return end === bytes.length;
  } catch (error) {
    refusalOf(error);
    return false;
  }
}

/** Finds the members of the JSON object that `bytes` hold, or says why they hold none. */
export function readObject(bytes: Uint8Array, maxDepth: number = MAX_DEPTH): JsonObject | JsonFault {
  const members = new Map<string, Span>();
  const buffer = bufferOf(bytes);
  const refusal = readMembers(buffer, maxDepth, (nameStart, nameEnd, start, end) =>
    members.set(stringAt(buffer, nameStart, nameEnd), { start, end }),
  );
  if (refusal) return { kind: 'fault', reason: refusal.reason, at: refusal.at, members };
  return { kind: 'object', members };
}

/** The names of members that are looked for in many objects: they are found by their bytes, and no text is made of any. */
export class Names {
  readonly #bytes: readonly Buffer[];

  constructor(readonly texts: readonly string[]) {
    this.#bytes = texts.map((text) => Buffer.from(text));
  }

  /** The place in the list of the name that stands at [start, end), quotes included; -1 for another. */
  placeOf(bytes: Buffer, start: number, end: number): number {
    const length = end - start - 2;
    for (let place = 0; place < this.#bytes.length; place++) {
      const name = this.#bytes[place] as Buffer;
      if (name.length === length && isAt(bytes, start + 1, name)) return place;
    }
    const escape = bytes.indexOf(BACKSLASH, start);
    return escape < 0 || escape >= end ? -1 : this.texts.indexOf(stringAt(bytes, start, end));
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
  const spans: number[] = [];
  for (let n = names.texts.length * 2; n > 0; n--) spans.push(-1);
  const fault = readMembers(bytes, maxDepth, (nameStart, nameEnd, start, end) => {
    const place = names.placeOf(bytes, nameStart, nameEnd);
    if (place < 0) return;
    spans[place * 2] = start;
    spans[place * 2 + 1] = end;
  });
  return { spans, fault };
}

/** Whether exactly `wanted` stands in `bytes` from `from` on. */
function isAt(bytes: Uint8Array, from: number, wanted: Uint8Array): boolean {
  for (let i = 0; i < wanted.length; i++) if (bytes[from + i] !== wanted[i]) return false;
  return true;
}

/** The value at `span`, by the platform's own parser. The span comes from `readObject`, so it is valid JSON. */
export function valueAt(bytes: Buffer, { start, end }: Span): unknown {
  return bytes[start] === QUOTE ? stringAt(bytes, start, end) : JSON.parse(bytes.toString('utf8', start, end));
}

/** The text of a string that stands at [start, end), quotes included. */
export function stringAt(bytes: Buffer, start: number, end: number): string {
  const text = bytes.toString('utf8', start + 1, end - 1);
  return text.includes('\\') ? String(JSON.parse(bytes.toString('utf8', start, end))) : text;
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

function refusalOf(error: unknown): Refusal {
  /* c8 ignore next: anything else is a bug of this file and must surface */
  if (!(error instanceof Refusal)) throw error;
  return error;
}

/** Takes a member: where its name stands, quotes included, and its value. */
type TakeMember = (nameStart: number, nameEnd: number, start: number, end: number) => void;

/** Tells `take` each member that stands whole; the answer says why the bytes are no object in UTF-8. */
function readMembers(bytes: Buffer, maxDepth: number, take: TakeMember): Refusal | undefined {
  let refusal: Refusal | undefined;
  try {
    eachMember(bytes, maxDepth, take);
  } catch (error) {
    refusal = refusalOf(error);
  }
  return isUtf8(bytes) ? refusal : new Refusal('not UTF-8', 0);
}

function eachMember(bytes: Buffer, maxDepth: number, take: TakeMember): void {
  let at = skipSpace(bytes, 0);
  if (at === bytes.length) throw new Refusal('empty', at);
  if (bytes[at] !== OPEN_OBJECT) throw new Refusal('not an object', at);
  at = skipSpace(bytes, at + 1);
  if (bytes[at] === CLOSE_OBJECT) {
    at += 1;
  } else {
    for (;;) {
      const nameStart = at;
      const nameEnd = skipString(bytes, at);
      at = skipSpace(bytes, nameEnd);
      if (bytes[at] !== COLON) throw new Refusal('a colon is missing', at);
      const start = skipSpace(bytes, at + 1);
      const end = skipValue(bytes, start, maxDepth - 1);
      take(nameStart, nameEnd, start, end);
      at = skipSpace(bytes, end);
      if (bytes[at] === CLOSE_OBJECT) break;
      if (bytes[at] !== COMMA) throw new Refusal('a comma or the end of the object is missing', at);
      at = skipSpace(bytes, at + 1);
    }
    at += 1;
  }
  at = skipSpace(bytes, at);
  if (at !== bytes.length) throw new Refusal('there is something behind the object', at);
}

function skipSpace(bytes: Uint8Array, from: number): number {
  let at = from;
  for (;;) {
    const byte = bytes[at];
    if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return at;
    at += 1;
  }
}

/** Skips one value of any kind that starts at `from`; returns the position behind it. */
function skipValue(bytes: Uint8Array, from: number, maxDepth: number): number {
  const first = bytes[from];
  return first === OPEN_OBJECT || first === OPEN_ARRAY ? skipNested(bytes, from, maxDepth) : skipScalar(bytes, from);
}

function skipNested(bytes: Uint8Array, from: number, maxDepth: number): number {
  // The closing bytes of the containers that are open, innermost last.
  const open: number[] = [];
  let at = from;
  for (;;) {
    // A value starts here.
    const byte = bytes[at];
    if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
      if (open.length >= maxDepth) throw new Refusal('nested too deep', at);
      const close = byte === OPEN_OBJECT ? CLOSE_OBJECT : CLOSE_ARRAY;
      at = skipSpace(bytes, at + 1);
      if (bytes[at] !== close) {
        open.push(close);
        if (close === CLOSE_OBJECT) at = skipName(bytes, at);
        continue;
      }
      at += 1;
    } else {
      at = skipScalar(bytes, at);
    }
    // A value has ended here: close what ends with it, then go to the next value or return.
    for (;;) {
      const close = open.at(-1);
      if (close === undefined) return at;
      at = skipSpace(bytes, at);
      if (bytes[at] === close) {
        open.pop();
        at += 1;
        continue;
      }
      if (bytes[at] !== COMMA) throw new Refusal('a comma or a closing bracket is missing', at);
      at = skipSpace(bytes, at + 1);
      if (close === CLOSE_OBJECT) at = skipName(bytes, at);
      break;
    }
  }
}

/** Skips a member's name and its colon, up to its value. */
function skipName(bytes: Uint8Array, from: number): number {
  const at = skipSpace(bytes, skipString(bytes, from));
  if (bytes[at] !== COLON) throw new Refusal('a colon is missing', at);
  return skipSpace(bytes, at + 1);
}

function skipScalar(bytes: Uint8Array, from: number): number {
  switch (bytes[from]) {
    case QUOTE:
      return skipString(bytes, from);
    case 0x74:
      return skipWord(bytes, from, 'true');
    case 0x66:
      return skipWord(bytes, from, 'false');
    case 0x6e:
      return skipWord(bytes, from, 'null');
    default:
      return skipNumber(bytes, from);
  }
}

function skipWord(bytes: Uint8Array, from: number, word: string): number {
  for (let i = 1; i < word.length; i++) {
    if (bytes[from + i] !== word.charCodeAt(i)) throw new Refusal('an unknown word', from);
  }
  return from + word.length;
}

function skipString(bytes: Uint8Array, from: number): number {
  if (bytes[from] !== QUOTE) {
    throw new Refusal(from >= bytes.length ? 'ends too early' : 'a string is missing', from);
  }
  let at = from + 1;
  let long = at + LONG_STRETCH;
  // The next quote, looked for once: many escapes before one that is far away would each look for it again.
  let quote = -1;
  for (;;) {
    const byte = bytes[at];
    if (byte === undefined) throw new Refusal('a string does not end', from);
    if (byte === QUOTE) return at + 1;
    if (byte < 0x20) throw new Refusal('a control character in a string', at);
    at = byte === BACKSLASH ? skipEscape(bytes, at) : at + 1;
    if (at >= long) {
      if (quote < at) quote = bytes.indexOf(QUOTE, at);
      if (quote < 0) quote = bytes.length;
      at = skipStretch(bytes, at, quote);
      long = at + LONG_STRETCH;
    }
  }
}

/**
 * Skips what is nothing but text before the quote, by machine words, eight at a time where there are so many: twenty times
 * as fast as byte by byte. What ends a stretch (the quote, a backslash, a control character) is left to the caller.
 */
function skipStretch(bytes: Uint8Array, from: number, quote: number): number {
  const escape = bytes.subarray(from, quote).indexOf(BACKSLASH);
  const end = escape < 0 ? quote : from + escape;
  const aligned = from + (-(bytes.byteOffset + from) & 3);
  const length = (end - aligned) >> 2;
  if (length <= 0) return from;
  for (let at = from; at < aligned; at++) if ((bytes[at] as number) < 0x20) return at;
  const words = new Int32Array(bytes.buffer, bytes.byteOffset + aligned, length);
  let n = skipEights(words);
  while (n < length && (borrows(words[n] as number) & 0x80808080) === 0) n += 1;
  return aligned + n * 4;
}

/** How many words there are up to the eight with the first control character, or the last that are eight. */
function skipEights(words: Int32Array): number {
  let n = 0;
  for (const end = words.length - 7; n < end; n += 8) {
    const low =
      borrows(words[n] as number) |
      borrows(words[n + 1] as number) |
      borrows(words[n + 2] as number) |
      borrows(words[n + 3] as number);
    const high =
      borrows(words[n + 4] as number) |
      borrows(words[n + 5] as number) |
      borrows(words[n + 6] as number) |
      borrows(words[n + 7] as number);
    if (((low | high) & 0x80808080) !== 0) return n;
  }
  return n;
}

/** A byte below 0x20 borrows into its highest bit; one that has that bit by itself is text. */
function borrows(word: number): number {
  return (word - 0x20202020) & ~word;
}

function skipEscape(bytes: Uint8Array, from: number): number {
  const letter = bytes[from + 1];
  if (letter === 0x75) {
    for (let i = 2; i < 6; i++) {
      if (!isHexDigit(bytes[from + i])) throw new Refusal('a bad escape', from);
    }
    return from + 6;
  }
  // " \\ / b f n r t
  if (letter === undefined || !'"\\/bfnrt'.includes(String.fromCharCode(letter)))
    throw new Refusal('a bad escape', from);
  return from + 2;
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39;
}

function isHexDigit(byte: number | undefined): boolean {
  return isDigit(byte) || (byte !== undefined && (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x66);
}

function skipNumber(bytes: Uint8Array, from: number): number {
  let at = from;
  if (bytes[at] === 0x2d) at += 1;
  const first = at;
  if (!isDigit(bytes[at])) throw new Refusal(at >= bytes.length ? 'ends too early' : 'not a value', from);
  at = skipDigits(bytes, at);
  if (bytes[first] === 0x30 && at > first + 1) throw new Refusal('a number with a leading zero', from);
  if (bytes[at] === 0x2e) at = skipDigits(bytes, at + 1);
  if (bytes[at] === 0x65 || bytes[at] === 0x45) {
    at += 1;
    if (bytes[at] === 0x2b || bytes[at] === 0x2d) at += 1;
    at = skipDigits(bytes, at);
  }
  return at;
}

/** Skips digits; one at least has to stand there. */
function skipDigits(bytes: Uint8Array, from: number): number {
  let at = from;
  while (isDigit(bytes[at])) at += 1;
  if (at === from) throw new Refusal('a digit is missing', at);
  return at;
}
