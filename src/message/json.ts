/**
 * A strict JSON reader that makes no values (RFC 8259): it tells whether bytes are one JSON text, and skips over what stands
 * in one. It does not recurse; nesting is bounded by the caller. No byte behind the last is asked for while a text is whole:
 * V8 reads an array slower for ever where it once was.
 */
import { isUtf8 } from 'node:buffer';

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

/** By byte: see `isTextAt`. */
const TEXT = Uint8Array.from({ length: 256 }, (_, byte) =>
  byte < 0x20 || byte === QUOTE || byte === BACKSLASH ? 0 : 1,
);

/** Why bytes are not what they should be. Thrown inside `json` and `json-object` only. */
export class Refusal extends Error {
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

/** The Refusal that was thrown. */
export function refusalOf(error: unknown): Refusal {
  /* c8 ignore next: anything else is a bug of this file and must surface */
  if (!(error instanceof Refusal)) throw error;
  return error;
}

export function skipSpace(bytes: Uint8Array, from: number): number {
  let at = from;
  for (; at < bytes.length; at++) {
    const byte = bytes[at] as number;
    if (byte > 0x20 || (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09)) return at;
  }
  return at;
}

/** Skips one value of any kind that starts at `from`; returns the position behind it. */
export function skipValue(bytes: Uint8Array, from: number, maxDepth: number): number {
  const first = bytes[from];
  if (first === QUOTE) return skipString(bytes, from);
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
  return skipSpace(bytes, skipColon(bytes, skipString(bytes, from)));
}

/** Skips the colon that stands behind a name, space before it. */
export function skipColon(bytes: Uint8Array, from: number): number {
  const at = skipSpace(bytes, from);
  if (bytes[at] !== COLON) throw new Refusal('a colon is missing', at);
  return at + 1;
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

export function skipString(bytes: Uint8Array, from: number): number {
  if (bytes[from] !== QUOTE) {
    throw new Refusal(from >= bytes.length ? 'ends too early' : 'a string is missing', from);
  }
  let at = from + 1;
  let long = at + LONG_STRETCH;
  // The next quote, looked for once: many escapes before one that is far away would each look for it again.
  let quote = -1;
  for (;;) {
    at = skipText(bytes, at, Math.min(long, bytes.length));
    if (at >= bytes.length) throw new Refusal('a string does not end', from);
    if (at >= long) {
      if (quote < at) quote = bytes.indexOf(QUOTE, at);
      if (quote < 0) quote = bytes.length;
      at = skipStretch(bytes, at, quote);
      long = at + LONG_STRETCH;
      continue;
    }
    const byte = bytes[at] as number;
    if (byte === QUOTE) return at + 1;
    if (byte < 0x20) throw new Refusal('a control character in a string', at);
    at = skipEscape(bytes, at);
  }
}

/** Skips what is nothing but text, up to `end` at most. */
function skipText(bytes: Uint8Array, from: number, end: number): number {
  let at = from;
  for (const fours = end - 3; at < fours; at += 4) {
    const isText = isTextAt(bytes, at) & isTextAt(bytes, at + 1) & isTextAt(bytes, at + 2) & isTextAt(bytes, at + 3);
    if (isText === 0) break;
  }
  while (at < end && isTextAt(bytes, at) !== 0) at += 1;
  return at;
}

/** 1 where a byte of a string stands for itself, or is part of a character that does. */
function isTextAt(bytes: Uint8Array, at: number): number {
  return TEXT[bytes[at] as number] as number;
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
  if (at === bytes.length) return at;
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
  while (at < bytes.length && isDigit(bytes[at])) at += 1;
  if (at === from) throw new Refusal('a digit is missing', at);
  return at;
}
