/**
 * BodyFrame ↔ bytes, as the generated codec has them, for frames of 256 KiB: written around the data of their chunks, and
 * read without a copy, so that the data of a chunk stands where the frame came in.
 */
import { BinaryReader } from '@bufbuild/protobuf/wire';
import { BodyCredit, type BodyFrame, type Chunk } from './generated/stream.js';

const NOTHING = Buffer.alloc(0);

// Numbers and types of the fields, as they stand before them.
const FRAME_TOKEN = 10;
const FRAME_CHUNK = 18;
const FRAME_CREDIT = 26;
const CHUNK_ID = 8;
const CHUNK_OFFSET = 16;
const CHUNK_DATA = 26;
const CHUNK_LAST = 32;
const CHUNK_ABORTED = 40;

/** The bytes of a frame. Throws for an offset that is no uint64. */
export function encodeBodyFrame(frame: BodyFrame): Buffer {
  return Buffer.concat(bodyFramePieces(frame));
}

/**
 * The bytes of a frame in pieces, of which the data of its chunks are some: they are not copied. `room`: of so many bytes
 * at the beginning of the first piece the caller makes something. Throws for an offset that is no uint64.
 */
export function bodyFramePieces({ token, chunks, credits }: BodyFrame, room = 0): [Buffer, ...Buffer[]] {
  const encoded = credits.map((credit) => BodyCredit.encode(credit).finish());
  const sizes = chunks.map(chunkSize);
  let size = room + (token.length === 0 ? 0 : fieldSize(token.length));
  for (const [index, { data }] of chunks.entries()) size += fieldSize(sizes[index] ?? 0) - data.length;
  for (const each of encoded) size += fieldSize(each.length);
  const bytes = Buffer.allocUnsafe(size);
  const pieces: Buffer[] = [];
  let from = 0;
  let at = token.length === 0 ? room : putBytes(bytes, room, FRAME_TOKEN, token);
  for (const [index, { id, offset, data, last, aborted }] of chunks.entries()) {
    at = putNumber(bytes, at, FRAME_CHUNK, sizes[index] ?? 0);
    if (id !== 0) at = putNumber(bytes, at, CHUNK_ID, id);
    if (offset !== 0n) at = putNumber(bytes, at, CHUNK_OFFSET, safeNumber(offset));
    if (data.length > 0) {
      at = putNumber(bytes, at, CHUNK_DATA, data.length);
      pieces.push(bytes.subarray(from, at), data);
      from = at;
    }
    if (last) at = putNumber(bytes, at, CHUNK_LAST, 1);
    if (aborted) at = putNumber(bytes, at, CHUNK_ABORTED, 1);
  }
  for (const credit of encoded) at = putBytes(bytes, at, FRAME_CREDIT, credit);
  const [first = bytes, ...others] = pieces;
  return at === from || pieces.length === 0 ? [first, ...others] : [first, ...others, bytes.subarray(from)];
}

/** The frame that stands in `bytes`; the data of its chunks are views of them. Throws where they hold none. */
export function decodeBodyFrame(bytes: Buffer): BodyFrame {
  const reader = new BinaryReader(bytes);
  const frame: BodyFrame = { token: NOTHING, chunks: [], credits: [] };
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === FRAME_TOKEN) frame.token = viewOf(reader.bytes());
    else if (tag === FRAME_CHUNK) frame.chunks.push(readChunk(reader));
    else if (tag === FRAME_CREDIT) frame.credits.push(BodyCredit.decode(reader, reader.uint32()));
    else if (endsMessage(tag)) break;
    else skip(reader, tag);
  }
  return frame;
}

function readChunk(reader: BinaryReader): Chunk {
  const chunk: Chunk = { id: 0, offset: 0n, data: NOTHING, last: false, aborted: false };
  const end = reader.uint32() + reader.pos;
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag === CHUNK_ID) chunk.id = reader.uint32();
    else if (tag === CHUNK_OFFSET) chunk.offset = BigInt(reader.uint64());
    else if (tag === CHUNK_DATA) chunk.data = viewOf(reader.bytes());
    else if (tag === CHUNK_LAST) chunk.last = reader.bool();
    else if (tag === CHUNK_ABORTED) chunk.aborted = reader.bool();
    else if (endsMessage(tag)) break;
    else skip(reader, tag);
  }
  return chunk;
}

/** The end of a group, or no tag at all: the generated codec stops there, too. */
function endsMessage(tag: number): boolean {
  return (tag & 7) === 4 || tag === 0;
}

/** A field of a later version. */
function skip(reader: BinaryReader, tag: number): void {
  // eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment -- what stands in a tag is a wire type, or the reader throws
  reader.skip(tag & 7);
}

function viewOf({ buffer, byteOffset, length }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, length);
}

// Default values are left out, as proto3 has it.
function chunkSize({ id, offset, data, last, aborted }: Chunk): number {
  return (
    (id === 0 ? 0 : 1 + varintSize(id)) +
    (offset === 0n ? 0 : 1 + varintSize(safeNumber(offset))) +
    (data.length === 0 ? 0 : fieldSize(data.length)) +
    (last ? 2 : 0) +
    (aborted ? 2 : 0)
  );
}

/** No content is so large that its positions would not be numbers. */
function safeNumber(offset: bigint): number {
  const number = Number(offset);
  if (!Number.isSafeInteger(number) || number < 0) throw new RangeError(`${offset} is no position within a content`);
  return number;
}

/** Of bytes with what stands before them: a field of ours has one byte. */
function fieldSize(length: number): number {
  return 1 + varintSize(length) + length;
}

function varintSize(value: number): number {
  let size = 1;
  for (let rest = value; rest > 0x7f; rest = Math.floor(rest / 0x80)) size += 1;
  return size;
}

function putVarint(bytes: Buffer, from: number, value: number): number {
  let at = from;
  let rest = value;
  for (; rest > 0x7f; rest = Math.floor(rest / 0x80)) bytes[at++] = (rest % 0x80) | 0x80;
  bytes[at] = rest;
  return at + 1;
}

function putNumber(bytes: Buffer, at: number, tag: number, value: number): number {
  bytes[at] = tag;
  return putVarint(bytes, at + 1, value);
}

function putBytes(bytes: Buffer, from: number, tag: number, value: Uint8Array): number {
  const at = putNumber(bytes, from, tag, value.length);
  bytes.set(value, at);
  return at + value.length;
}
