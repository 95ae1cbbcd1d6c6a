/**
 * Reads a WorkerFrame of completions without an object for each of its parts. It reads what stands in nearly all frames,
 * and leaves anything else, also what is broken, to the generated decoder: what it gives is what that one would give.
 */
import { WorkerFrame, type Completion, type Result } from '../../../protocol/generated/stream.js';
import { MessageReader } from '../../../protocol/message-reader.js';
import { withItem } from '../../signal/short-list.js';

const NONE: never[] = [];

/** The frame in these bytes. Throws where they are none. The reader may be used for one frame after the other. */
export function frameFrom(bytes: Buffer, reader = new MessageReader()): WorkerFrame {
  reader.begin(bytes);
  const completions = completionsFrom(reader, bytes.length);
  reader.done();
  if (reader.isOdd) return WorkerFrame.decode(bytes);
  return { hello: undefined, completions: completions ?? NONE, refusals: NONE, results: NONE, pongs: NONE };
}

function completionsFrom(reader: MessageReader, end: number): Completion[] | undefined {
  let completions: Completion[] | undefined;
  for (let field = reader.field(end); field !== 0; field = reader.field(end)) {
    if (field === 18) completions = withItem(completions, completionFrom(reader, reader.end(end)));
    else reader.odd();
  }
  return completions;
}

function completionFrom(reader: MessageReader, end: number): Completion {
  let tag = 0;
  let results: Result[] | undefined;
  for (let field = reader.field(end); field !== 0; field = reader.field(end)) {
    if (field === 8) tag = reader.number(end);
    else if (field === 18) results = withItem(results, resultFrom(reader, reader.end(end)));
    else reader.odd();
  }
  return { tag, results: results ?? NONE };
}

function resultFrom(reader: MessageReader, end: number): Result {
  const result: Result = { number: 0, data: undefined, body: undefined };
  for (let field = reader.field(end); field !== 0; field = reader.field(end)) {
    if (field === 8) result.number = reader.number(end);
    else if (field === 18) result.data = reader.data(end);
    else reader.odd();
  }
  return result;
}
