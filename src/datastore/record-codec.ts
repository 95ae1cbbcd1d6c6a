/**
 * Records ↔ bytes in the journal: `crc32 | length of header | size of the content file | header (JSON) | content`.
 * The checksum covers all behind it, since LMDB has none; a record that fails it is reported, never guessed.
 */
import { basename, join } from 'node:path';
import { crc32 } from 'node:zlib';
import type {
  Content,
  DeadOrigin,
  DeadRecord,
  Destination,
  DirectiveKey,
  InboundRecord,
  Metadata,
  OutboundRecord,
  ReplyTopic,
} from '../message/index.js';
import { metadataFrom } from '../message/index.js';
import { ByteBlocks } from './byte-blocks.js';
import {
  entriesOf,
  storeTopic,
  USUAL_PRIORITY,
  writeInboundHeader,
  writeOutboundHeader,
  type StoredTopic,
} from './record-header.js';

export type AnyRecord = InboundRecord | OutboundRecord | DeadRecord;

const PREFIX = 16;
/** For a record by itself: it mostly fits. */
const SMALL = 512;

/** Writes records, one behind the other: for those that come with every message. */
export class RecordEncoder {
  readonly #blocks: ByteBlocks;

  /** `size`: of the blocks that records share. */
  constructor(size?: number) {
    this.#blocks = new ByteBlocks(size);
  }

  /** The bytes of a record. A content file is named, not copied. */
  encode(record: AnyRecord): Buffer {
    const { content } = record;
    const blocks = this.#blocks;
    blocks.begin(PREFIX);
    writeHeader(blocks, record);
    const headerLength = blocks.length - PREFIX;
    const bytes = blocks.end(content.kind === 'inline' ? content.bytes : undefined);
    writeUint32(bytes, 0, 0);
    writeUint32(bytes, 4, headerLength);
    // As a double, nothing is zeros.
    writeUint32(bytes, 8, 0);
    writeUint32(bytes, 12, 0);
    if (content.kind === 'file') bytes.writeDoubleLE(content.size, 8);
    writeUint32(bytes, 0, crc32(bytes, BEHIND_ZEROS));
    return bytes;
  }
}

/** As Buffer's own, which looks at more: two for every message. */
function writeUint32(bytes: Buffer, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}

/** From here the checksum of four zeros is where one begins: so it is taken of what is behind them without a view of that. */
const BEHIND_ZEROS = 0x6dd90a9d;

/** The bytes of a record that comes by itself. */
export function encodeRecord(record: AnyRecord): Buffer {
  return new RecordEncoder(SMALL).encode(record);
}

/** A record as JSON. Those that come with every message are written by hand. */
function writeHeader(to: ByteBlocks, record: AnyRecord): void {
  switch (record.kind) {
    case 'inbound':
      writeInboundHeader(to, record);
      return;
    case 'outbound':
      writeOutboundHeader(to, record);
      return;
    case 'dead': {
      const { content, ...rest } = record;
      to.utf8(
        JSON.stringify({
          ...rest,
          metadata: entriesOf(record.metadata),
          origin: storeOrigin(record.origin),
          ...fileOf(content),
        }),
      );
    }
  }
}

function fileOf(content: Content): Pick<StoredRecord, 'file' | 'sum' | 'crc32'> | undefined {
  if (content.kind === 'inline') return undefined;
  const { path, sum, crc32: checksum } = content;
  return { file: basename(path), sum, crc32: checksum };
}

/** Whether the bytes are those that were written. */
export function isIntact(bytes: Buffer): boolean {
  return bytes.length >= PREFIX && crc32(bytes.subarray(4)) === bytes.readUInt32LE(0);
}

/** The record, or undefined when the bytes are torn or flipped. Content files are looked for in `contentDir`. */
export function decodeRecord(bytes: Buffer, contentDir: string): AnyRecord | undefined {
  if (!isIntact(bytes)) return undefined;
  const headerEnd = PREFIX + bytes.readUInt32LE(4);
  const size = bytes.readDoubleLE(8);
  // The checksum held, so these are bytes that encodeRecord wrote.
  const stored = JSON.parse(bytes.toString('utf8', PREFIX, headerEnd)) as StoredRecord;
  const { file, sum, crc32: fileCrc, metadata } = stored;
  const content: Content =
    file === undefined
      ? { kind: 'inline', bytes: bytes.subarray(headerEnd) }
      : {
          kind: 'file',
          path: join(contentDir, file),
          size,
          ...(sum === undefined ? {} : { sum }),
          ...(fileCrc === undefined ? {} : { crc32: fileCrc }),
        };
  return restore(stored, metadataFrom(metadata ?? []), content);
}

/** Whether a stored record names a content file. */
export function hasFile(bytes: Buffer): boolean {
  // The last byte of a double is zero in what is next to nothing only: so most are told without reading it.
  return bytes.length >= PREFIX && bytes[PREFIX - 1] !== 0 && bytes.readDoubleLE(8) > 0;
}

/** Bytes that a stored record takes, with its content file; of one that was torn, what is there of it. */
export function storedSize(bytes: Buffer): number {
  const file = bytes.length < PREFIX ? 0 : bytes.readDoubleLE(8);
  return bytes.length + (Number.isSafeInteger(file) && file > 0 ? file : 0);
}

type StoredDestination =
  | { readonly kind: 'data-out' }
  | { readonly kind: 'url'; readonly url: string }
  | ({ readonly kind: 'topic' } & StoredTopic)
  | { readonly kind: 'local' };

type StoredOrigin =
  | (Omit<DeadOrigin & { kind: 'inbound' }, 'replyTopic'> & { readonly replyTopic?: StoredTopic | undefined })
  | (Omit<DeadOrigin & { kind: 'outbound' }, 'destination'> & { readonly destination: StoredDestination })
  | (DeadOrigin & { kind: 'refused' | 'unknown' });

/** What may be left out, since it has its default; older formats wrote all of it. */
type Usual = 'state' | 'responseTo' | 'directiveKey' | 'isFetched' | 'priority' | 'attempts' | 'fetches' | 'dueAt';
type Stored<R> = Omit<R, 'content' | 'metadata' | 'replyTopic' | 'destination' | 'origin'>;
type Brief<R> = Omit<Stored<R>, Usual> & Partial<Pick<R, Extract<keyof R, Usual>>>;
type StoredRecord = {
  readonly file?: string;
  readonly sum?: string | undefined;
  readonly crc32?: number | undefined;
  readonly metadata?: [string, string][];
} & (
  | (Brief<InboundRecord> & { readonly replyTopic?: StoredTopic | undefined })
  | (Brief<OutboundRecord> & { readonly destination?: StoredDestination })
  | (Stored<DeadRecord> & { readonly origin?: StoredOrigin })
);

function restore(stored: StoredRecord, metadata: Metadata, content: Content): AnyRecord {
  switch (stored.kind) {
    case 'inbound':
      return {
        kind: 'inbound',
        key: stored.key,
        state: stored.state ?? 'accepted',
        messageId: stored.messageId,
        responseTo: stored.responseTo ?? '',
        directive: stored.directive,
        // Left out where the two are the same text.
        directiveKey: stored.directiveKey ?? (stored.directive as string as DirectiveKey),
        metadata,
        content,
        isFetched: stored.isFetched ?? false,
        priority: stored.priority ?? USUAL_PRIORITY,
        arrivedAt: stored.arrivedAt,
        expiresAt: stored.expiresAt,
        attempts: stored.attempts ?? 0,
        fetches: stored.fetches ?? 0,
        dueAt: stored.dueAt ?? 0,
        replyTopic: stored.replyTopic && restoreTopic(stored.replyTopic),
        replayOf: stored.replayOf,
      };
    case 'outbound':
      return {
        kind: 'outbound',
        key: stored.key,
        state: stored.state ?? 'queued',
        worker: stored.worker,
        messageId: stored.messageId,
        responseTo: stored.responseTo ?? '',
        directive: stored.directive,
        metadata,
        content,
        destination: stored.destination === undefined ? { kind: 'data-out' } : restoreDestination(stored.destination),
        idKey: stored.idKey,
        arrivedAt: stored.arrivedAt,
        attempts: stored.attempts ?? 0,
        dueAt: stored.dueAt ?? 0,
        replayOf: stored.replayOf,
      };
    case 'dead': {
      const { file: _file, sum: _sum, crc32: _crc32, ...rest } = stored;
      return { ...rest, origin: restoreOrigin(stored.origin), metadata, content };
    }
  }
}

export function restoreTopic(stored: StoredTopic): ReplyTopic {
  if ('local' in stored) return { kind: 'local' };
  const { topic, correlation } = stored;
  const correlationData = correlation === undefined ? undefined : Buffer.from(correlation, 'base64');
  return { kind: 'topic', topic, correlationData };
}

function storeDestination(destination: Destination): StoredDestination {
  return destination.kind === 'topic' ? { kind: 'topic', ...storeTopic(destination) } : destination;
}

function restoreDestination(stored: StoredDestination): Destination {
  return stored.kind === 'topic' ? restoreTopic(stored) : stored;
}

function storeOrigin(origin: DeadOrigin): StoredOrigin {
  switch (origin.kind) {
    case 'inbound':
      return { ...origin, replyTopic: origin.replyTopic && storeTopic(origin.replyTopic) };
    case 'outbound':
      return { ...origin, destination: storeDestination(origin.destination) };
    case 'refused':
    case 'unknown':
      return origin;
  }
}

/** A store of format 1 kept none. */
function restoreOrigin(stored: StoredOrigin | undefined): DeadOrigin {
  switch (stored?.kind) {
    case 'inbound':
      return { ...stored, replyTopic: stored.replyTopic && restoreTopic(stored.replyTopic) };
    case 'outbound':
      return {
        ...stored,
        worker: stored.worker,
        idKey: stored.idKey,
        destination: restoreDestination(stored.destination),
      };
    case 'refused':
    case 'unknown':
      return stored;
    case undefined:
      return { kind: 'unknown' };
  }
}
