/**
 * How a commit stands in the write-ahead log. A file begins with its head, twice, each in a sector of its own:
 *
 *     magic (8 bytes) | nonce (16) | crc32 (4)
 *
 * Behind it come frames, one for each commit, without a gap:
 *
 *     nonce (16) | number of the commit (8) | length of the body (4) | crc32 of number, length and body (4) | body
 *
 * and in the body, one after the other, changes:
 *
 *     table (1) | whether there is a value (1) | length of the key (2) | length of the value (4) | key | value
 *
 * Numbers are little-endian. A file is written over again and again, so what lies behind its last frame is of earlier
 * days. The nonce tells that apart: it is drawn anew each time. It also keeps those who choose contents (the broker's
 * clients, workers) from writing something into one that would be read as a frame: they cannot know it.
 */
import { randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { joinedCrc } from './joined-crc.js';
import { TABLES, type Change } from './journal.js';

const MAGIC = Buffer.from('YGGWAL1\n');
const NONCE = 16;
const SECTOR = 512;
const HEAD = MAGIC.length + NONCE + 4;
/** Where the first frame begins. */
export const FRAMES_AT = 2 * SECTOR;
const FRAME_HEAD = NONCE + 16;
const CHANGE_HEAD = 8;
/** Bytes of the checksum at the beginning of a value that has one. */
const SUM = 4;
/** To sum less anew costs no more than to take it from there. */
const SUMMED_FROM = 2048;

/** A commit as it was found. */
export interface Frame {
  /** Commits are numbered without a gap, over all files. */
  readonly number: number;
  readonly changes: readonly Change[];
}

/** What a file holds. */
export interface Scan {
  readonly frames: readonly Frame[];
  /** Bytes that belong to no frame and have others behind them: damage. */
  readonly damaged: number;
  /** The log was written by a version that lays it out otherwise. */
  readonly isForeign: boolean;
}

/** The head of a file that begins anew, and the nonce of its frames. */
export function newHead(): { readonly head: Buffer; readonly nonce: Buffer } {
  const nonce = randomBytes(NONCE);
  const head = Buffer.alloc(FRAMES_AT);
  for (const at of [0, SECTOR]) {
    MAGIC.copy(head, at);
    nonce.copy(head, at + MAGIC.length);
    head.writeUInt32LE(crc32(head.subarray(at, at + HEAD - 4)), at + HEAD - 4);
  }
  return { head, nonce };
}

/** The bytes that a frame of these changes takes. */
export function frameLength(changes: readonly Change[]): number {
  let length = FRAME_HEAD;
  for (const { key, value } of changes) length += CHANGE_HEAD + key.length + (value?.length ?? 0);
  return length;
}

/** Writes a frame into `to` at `at`, where there is room for it. */
export function writeFrame(to: Buffer, at: number, nonce: Buffer, number: number, changes: readonly Change[]): void {
  nonce.copy(to, at);
  let next = at + FRAME_HEAD;
  /** Of the body up to `summed`. */
  let sum = 0;
  let summed = next;
  for (const { table, key, value, isSummed } of changes) {
    to[next] = TABLES.indexOf(table);
    to[next + 1] = Number(value !== undefined);
    to.writeUInt16LE(key.length, next + 2);
    to.writeUInt32LE(value?.length ?? 0, next + 4);
    next += CHANGE_HEAD;
    to.write(key, next, 'latin1');
    next += key.length;
    if (value === undefined) continue;
    if (typeof value === 'string') {
      to.write(value, next, 'latin1');
    } else {
      value.copy(to, next);
      if (isSummed === true && value.length >= SUMMED_FROM) {
        sum = crc32(to.subarray(summed, next + SUM), sum);
        sum = joinedCrc(sum, value.readUInt32LE(0), value.length - SUM);
        summed = next + value.length;
      }
    }
    next += value.length;
  }
  to.writeUInt32LE(number % 2 ** 32, at + NONCE);
  to.writeUInt32LE(Math.floor(number / 2 ** 32), at + NONCE + 4);
  to.writeUInt32LE(next - at - FRAME_HEAD, at + NONCE + 8);
  if (summed === at + FRAME_HEAD) to.writeUInt32LE(checksum(to, at, next), at + NONCE + 12);
  else {
    sum = crc32(to.subarray(summed, next), sum);
    to.writeUInt32LE(joinedCrc(headSum(to, at), sum, next - at - FRAME_HEAD), at + NONCE + 12);
  }
}

/** All frames of a file that are whole. What is torn at the end is a commit that was cut off. */
export function scan(file: Buffer): Scan {
  const nonce = nonceOf(file) ?? nonceOfFirst(file);
  if (nonce === undefined) {
    // One that was never begun, or whose first write was cut off, ends there or is nothing but zeros.
    const isBlank = file.length < FRAMES_AT || file.subarray(0, FRAMES_AT).every((byte) => byte === 0);
    return { frames: [], damaged: isBlank ? 0 : file.length, isForeign: isForeign(file) };
  }
  const frames: Frame[] = [];
  let damaged = 0;
  let end = FRAMES_AT;
  for (let at = FRAMES_AT; at !== -1; at = file.indexOf(nonce, at + 1)) {
    // Those that follow each other; where one is damaged, the next that can be found.
    for (let frame = frameAt(file, at, nonce); frame !== undefined; frame = frameAt(file, at, nonce)) {
      damaged += at - end;
      frames.push(frame);
      at = end = at + FRAME_HEAD + file.readUInt32LE(at + NONCE + 8);
    }
  }
  return { frames, damaged, isForeign: false };
}

function nonceOf(file: Buffer): Buffer | undefined {
  for (const at of [0, SECTOR]) {
    const head = file.subarray(at, at + HEAD);
    const isHead = head.length === HEAD && head.subarray(0, MAGIC.length).equals(MAGIC);
    if (isHead && crc32(head.subarray(0, HEAD - 4)) === head.readUInt32LE(HEAD - 4))
      return head.subarray(MAGIC.length, MAGIC.length + NONCE);
  }
  return undefined;
}

/** Where both heads are damaged: the first frame was written with them, and has it too. */
function nonceOfFirst(file: Buffer): Buffer | undefined {
  if (file.length < FRAMES_AT + FRAME_HEAD || isForeign(file)) return undefined;
  const nonce = file.subarray(FRAMES_AT, FRAMES_AT + NONCE);
  return frameAt(file, FRAMES_AT, nonce) === undefined ? undefined : nonce;
}

function isForeign(file: Buffer): boolean {
  const name = file.toString('latin1', 0, MAGIC.length);
  return /^YGGWAL\d\n$/.test(name) && name !== MAGIC.toString('latin1');
}

function frameAt(file: Buffer, at: number, nonce: Buffer): Frame | undefined {
  if (at + FRAME_HEAD > file.length || file.compare(nonce, 0, NONCE, at, at + NONCE) !== 0) return undefined;
  const end = at + FRAME_HEAD + file.readUInt32LE(at + NONCE + 8);
  if (end > file.length || checksum(file, at, end) !== file.readUInt32LE(at + NONCE + 12)) return undefined;
  const changes: Change[] = [];
  for (let next = at + FRAME_HEAD; next < end;) {
    // The checksum held, so these are bytes that writeFrame wrote.
    const table = TABLES[file[next] ?? 0] ?? 'torn';
    const keyAt = next + CHANGE_HEAD;
    const valueAt = keyAt + file.readUInt16LE(next + 2);
    const valueEnd = valueAt + file.readUInt32LE(next + 4);
    const value = file[next + 1] === 1 ? Buffer.from(file.subarray(valueAt, valueEnd)) : undefined;
    changes.push({ table, key: file.toString('latin1', keyAt, valueAt), value });
    next = valueEnd;
  }
  return { number: file.readUInt32LE(at + NONCE) + file.readUInt32LE(at + NONCE + 4) * 2 ** 32, changes };
}

/** Of number, length and body. */
function checksum(bytes: Buffer, at: number, end: number): number {
  return crc32(bytes.subarray(at + FRAME_HEAD, end), headSum(bytes, at));
}

/** Of number and length. */
function headSum(bytes: Buffer, at: number): number {
  return crc32(bytes.subarray(at + NONCE, at + NONCE + 12));
}
