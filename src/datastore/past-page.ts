/**
 * How a page of `past` stands on disk: many ids that have ended, in the order they did, each with what is known of it.
 *
 *     checksum (4) | layout (1) | entries: length of the key (2) | length of the value (4) | key | value
 *
 * Numbers are little-endian. The checksum is the CRC-32 of all behind it, begun with another value than that of a record, so
 * that neither is ever taken for the other. The entries of two pages, one behind the other, are those of one.
 */
import { crc32 } from 'node:zlib';
import type { Value } from './journal.js';

const SUM = 4;
/** Where its checksum begins. */
const BEGIN = crc32('past');
const HEAD = SUM + 1;
const LAYOUT = 1;
const ENTRY_HEAD = 6;
/** Entries of a page, at most. */
export const MOST_ENTRIES = 1024;
/** Bytes of its entries, but for one that is larger by itself. */
export const MOST_BYTES = 128 * 1024;

/** Entries that come one by one. */
export class PageBuilder {
  #bytes: Buffer;
  #end = 0;
  /** What the index knows the keys by. */
  readonly #prints = new Uint32Array(MOST_ENTRIES);
  readonly #starts = new Uint32Array(MOST_ENTRIES);
  #count = 0;

  /** `first`: bytes of the entry that comes first, which always has room. */
  constructor(first: number) {
    this.#bytes = Buffer.allocUnsafeSlow(Math.max(MOST_BYTES, first));
  }

  /** Of all entries, in their order. */
  get entries(): Buffer {
    return this.#bytes.subarray(0, this.#end);
  }

  get prints(): Uint32Array {
    return this.#prints.subarray(0, this.#count);
  }

  /** Where each begins. */
  get starts(): Uint32Array {
    return this.#starts.subarray(0, this.#count);
  }

  hasRoom(length: number): boolean {
    return this.#count < MOST_ENTRIES && this.#end + length <= this.#bytes.length;
  }

  /** An entry that there is room for. Keys are ASCII. */
  add(key: string, value: Value, print: number): void {
    const bytes = this.#bytes;
    const keyAt = this.#end + ENTRY_HEAD;
    const valueAt = keyAt + key.length;
    bytes.writeUInt16LE(key.length, this.#end);
    bytes.writeUInt32LE(value.length, this.#end + 2);
    bytes.write(key, keyAt, 'latin1');
    if (typeof value === 'string') bytes.write(value, valueAt, 'latin1');
    else value.copy(bytes, valueAt);
    this.#starts[this.#count] = this.#end;
    this.#prints[this.#count++] = print;
    this.#end = valueAt + value.length;
  }
}

/** The bytes of an entry. */
export function entryLength(key: string, value: Value): number {
  return ENTRY_HEAD + key.length + value.length;
}

/** A page of these entries. */
export function sealed(parts: readonly Buffer[]): Buffer {
  const page = Buffer.concat([Buffer.alloc(HEAD), ...parts]);
  page[SUM] = LAYOUT;
  page.writeUInt32LE(crc32(page.subarray(SUM), BEGIN), 0);
  return page;
}

/** The entries of a page; undefined for bytes that are none, or not what was written. */
export function entriesOf(page: Buffer): Buffer | undefined {
  const isWhole =
    page.length > HEAD && page[SUM] === LAYOUT && crc32(page.subarray(SUM), BEGIN) === page.readUInt32LE(0);
  return isWhole ? page.subarray(HEAD) : undefined;
}

/** Calls `each` with where the key of every entry begins, where it ends and its value begins, and where that ends. */
export function forEachEntry(entries: Buffer, each: (keyAt: number, valueAt: number, end: number) => void): void {
  for (let at = 0; at < entries.length;) {
    const keyAt = at + ENTRY_HEAD;
    const valueStart = keyAt + entries.readUInt16LE(at);
    at = valueStart + entries.readUInt32LE(at + 2);
    each(keyAt, valueStart, at);
  }
}

/** Where the entry begins that has so many before it. */
export function startOf(entries: Buffer, before: number): number {
  let at = 0;
  for (let n = 0; n < before; n++) at += ENTRY_HEAD + entries.readUInt16LE(at) + entries.readUInt32LE(at + 2);
  return at;
}

/** The value of the entry that begins there, if it is of this key: a copy. */
export function valueAt(entries: Buffer, start: number, key: string): Buffer | undefined {
  const keyEnd = start + ENTRY_HEAD + entries.readUInt16LE(start);
  if (entries.toString('latin1', start + ENTRY_HEAD, keyEnd) !== key) return undefined;
  return Buffer.from(entries.subarray(keyEnd, keyEnd + entries.readUInt32LE(start + 2)));
}
