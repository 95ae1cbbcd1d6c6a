/**
 * Makes the bytes of an AgentFrame in one buffer and without an object for each part. What the generated encoder would
 * make is made, byte for byte: what stands in nearly all frames here, the rest by that one.
 */
import { AgentFrame, type Delivery } from '../../../protocol/generated/stream.js';
import type { Data } from '../../../protocol/generated/yggdrasil.js';
import { boundOfData, LONGEST_NUMBER, MessageWriter, OVERHEAD, usualSize } from '../../../protocol/message-writer.js';
import { framed, PREFIX, writePrefix } from '../../grpc/index.js';

export { OVERHEAD };

/** The bytes of a frame, in the frame of gRPC. */
export function bytesOf(frame: AgentFrame): Buffer {
  const { welcome, deliveries, settled, accepted, resultRefusals, cancels, events, pings } = frame;
  if (welcome !== undefined || resultRefusals.length + events.length > 0 || deliveries.some(isUnusual)) {
    return framed(AgentFrame.encode(frame).finish());
  }
  let bound = (settled.length + accepted.length + cancels.length + pings.length) * LONGEST_NUMBER + OVERHEAD;
  for (const delivery of deliveries) bound += boundOfDelivery(delivery);
  const writer = new MessageWriter(Buffer.allocUnsafe(PREFIX + bound), PREFIX);
  for (const delivery of deliveries) writeDelivery(writer, delivery);
  writer.numbers(26, settled);
  writer.numbers(34, accepted);
  writer.numbers(50, cancels);
  writer.numbers(66, pings);
  return prefixed(writer.written);
}

/** The bytes of a message as a unary call carries it: in the frame of gRPC. */
export function unaryFrameOf(data: Data): Buffer {
  const writer = new MessageWriter(Buffer.allocUnsafe(PREFIX + boundOfData(data, data.content)), PREFIX);
  writer.data(data, data.content);
  return prefixed(writer.written);
}

function prefixed(frame: Buffer): Buffer {
  writePrefix(frame, frame.length - PREFIX);
  return frame;
}

/** An upper bound of the bytes that a delivery takes in a frame. */
export function boundOfDelivery({ data }: Delivery): number {
  return data === undefined ? OVERHEAD : boundOfData(data, data.content);
}

function isUnusual({ data, body }: Delivery): boolean {
  return data === undefined || body !== undefined;
}

function writeDelivery(writer: MessageWriter, { tag, priority, data }: Delivery): void {
  if (data === undefined) return;
  const guess = usualSize(data, data.content);
  const start = writer.begin(18, guess);
  writer.number(8, tag);
  writer.number(16, priority);
  const inner = writer.begin(26, guess);
  writer.data(data, data.content);
  writer.end(inner, guess);
  writer.end(start, guess);
}
