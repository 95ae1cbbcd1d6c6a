/**
 * Calls whose frames come and go as bytes: how they are made and read is decided here, not in gRPC. A frame that is too
 * large is dropped before gRPC can queue it, and its place is taken by a mark.
 */
import type { ServerDuplexStream } from '@grpc/grpc-js';
import { DispatcherService } from '../../../protocol/generated/stream.js';

export type RawCall = ServerDuplexStream<Buffer, Buffer>;

/** Bytes of the largest frame of Connect: a completion with all that stands in frames, and its metadata. */
export const LARGEST_FRAME = 4 * 1024 * 1024;

/** Bytes of the largest frame of Transfer: a chunk, and what stands around it. */
export const LARGEST_BODY_FRAME = 512 * 1024;

/** In the place of a frame that was larger. */
export const TOO_LARGE = Buffer.from('too large');

const asBytes = (largest: number) => ({
  requestDeserialize: (bytes: Buffer): Buffer => (bytes.length > largest ? TOO_LARGE : bytes),
  responseSerialize: (bytes: Buffer): Buffer => bytes,
});

/** The service of stream.proto, without its codecs. */
export const RawStreamService = {
  connect: { ...DispatcherService.connect, ...asBytes(LARGEST_FRAME) },
  transfer: { ...DispatcherService.transfer, ...asBytes(LARGEST_BODY_FRAME) },
};
