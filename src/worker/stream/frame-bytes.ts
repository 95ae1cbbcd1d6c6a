/**
 * Frames of a stream as bytes: what stands in nearly all of them read and written by hand, since a worker that gets few
 * messages runs everything cold, and then each function that takes part costs microseconds. The rest is left to the
 * generated codec, and the outcome is the same.
 */
import { AgentFrame, type Delivery, type Result, WorkerFrame } from '../../../protocol/generated/stream.js';
import { MessageReader } from '../../../protocol/message-reader.js';
import { boundOfData, MessageWriter, OVERHEAD, usualSize } from '../../../protocol/message-writer.js';
import { framed, PREFIX, writePrefix } from '../../grpc/index.js';

/** The bytes of a frame, in the frame of gRPC. */
export function bytesOf(frame: WorkerFrame): Buffer {
  const bound = boundOf(frame);
  if (bound === undefined) return framed(WorkerFrame.encode(frame).finish());
  const writer = new MessageWriter(Buffer.allocUnsafe(PREFIX + bound), PREFIX);
  for (const { tag, results } of frame.completions) {
    let guess = 0;
    for (const { data } of results) if (data !== undefined) guess += usualSize(data, data.content);
    const start = writer.begin(18, guess);
    writer.number(8, tag);
    for (const result of results) writeResult(writer, result);
    writer.end(start, guess);
  }
  const bytes = writer.written;
  writePrefix(bytes, bytes.length - PREFIX);
  return bytes;
}

/** An upper bound of its bytes; undefined when there is more in it than messages in completions. */
function boundOf({ hello, completions, refusals, results: others, pongs }: WorkerFrame): number | undefined {
  if (hello !== undefined || refusals.length + others.length + pongs.length > 0) return undefined;
  let bound = 0;
  for (const { results } of completions) {
    bound += OVERHEAD;
    for (const { data, body } of results) {
      if (data === undefined || body !== undefined) return undefined;
      bound += OVERHEAD + boundOfData(data, data.content);
    }
  }
  return bound;
}

function writeResult(writer: MessageWriter, { number, data }: Result): void {
  if (data === undefined) return;
  const guess = usualSize(data, data.content);
  const start = writer.begin(18, guess);
  writer.number(8, number);
  const inner = writer.begin(18, guess);
  writer.data(data, data.content);
  writer.end(inner, guess);
  writer.end(start, guess);
}

const NONE: never[] = [];

/** The frame in these bytes. Throws where they are none. The reader may be used for one frame after the other. */
export function frameFrom(bytes: Buffer, reader = new MessageReader()): AgentFrame {
  const end = bytes.length;
  let deliveries: Delivery[] = NONE;
  let settled: number[] = NONE;
  reader.begin(bytes);
  for (let field = reader.field(end); field !== 0; field = reader.field(end)) {
    if (field === 18) {
      if (deliveries === NONE) deliveries = [deliveryFrom(reader, reader.end(end))];
      else deliveries.push(deliveryFrom(reader, reader.end(end)));
    } else if (field === 26) {
      if (settled === NONE) settled = [];
      reader.numbers(settled, end);
    } else reader.odd();
  }
  reader.done();
  if (reader.isOdd) return AgentFrame.decode(bytes);
  return {
    welcome: undefined,
    deliveries,
    settled,
    accepted: NONE,
    resultRefusals: NONE,
    cancels: NONE,
    events: NONE,
    pings: NONE,
  };
}

function deliveryFrom(reader: MessageReader, end: number): Delivery {
  const delivery: Delivery = { tag: 0, priority: 0, data: undefined, body: undefined };
  for (let field = reader.field(end); field !== 0; field = reader.field(end)) {
    if (field === 8) delivery.tag = reader.number(end);
    else if (field === 16) delivery.priority = reader.number(end);
    else if (field === 26) delivery.data = reader.data(end);
    else reader.odd();
  }
  return delivery;
}
