/**
 * Payloads of data messages as they are published by the thousand: written straight into the memory in which they leave,
 * byte for byte what `encodeData` makes, without a text of the envelope and a copy of it in between.
 */
import { COPIED_BELOW, encodeDataInPieces } from './codec.js';
import type { Metadata, OutgoingData } from './envelope.js';
import { isPlain, jsonText } from './plain-text.js';

const BEFORE_ID = Buffer.from('{"type":"data","message_id":"');
const BEFORE_RESPONSE_TO = Buffer.from('","response_to":"');
const CLOSING_BRACE = 0x7d;

/** What stands between `response_to` and the content: many messages that go out in one millisecond have the same. */
interface Middle {
  readonly sent: string;
  readonly directive: string;
  readonly metadata: Metadata;
  readonly bytes: Buffer;
}

/** A payload that is written where it is wanted. */
export class DataPayload {
  /** How many bytes it has. */
  readonly size: number;

  constructor(
    private readonly data: OutgoingData,
    private readonly middle: Buffer,
  ) {
    const { messageId, responseTo, content } = data;
    const fixed = BEFORE_ID.length + BEFORE_RESPONSE_TO.length + 1;
    this.size = fixed + messageId.length + responseTo.length + middle.length + content.length;
  }

  /** Writes all of it into `bytes` from `from` on, where there must be room for it. */
  writeTo(bytes: Buffer, from: number): void {
    const { messageId, responseTo, content } = this.data;
    let at = writeBytes(bytes, BEFORE_ID, from);
    at = writePlain(bytes, messageId, at);
    at = writeBytes(bytes, BEFORE_RESPONSE_TO, at);
    at = writePlain(bytes, responseTo, at);
    bytes.set(this.middle, at);
    at += this.middle.length;
    bytes.set(content, at);
    bytes[at + content.length] = CLOSING_BRACE;
  }
}

export class DataPayloads {
  #middle: Middle | undefined;

  /** The payload of a message; as it is in `encodeDataInPieces` where it is large, or an id is unusual. */
  of(data: OutgoingData): DataPayload | Buffer | readonly Buffer[] {
    const { messageId, responseTo, content } = data;
    if (content.length >= COPIED_BELOW || !isPlain(messageId) || !isPlain(responseTo)) return encodeDataInPieces(data);
    return new DataPayload(data, this.#middleOf(data));
  }

  #middleOf({ sent, directive, metadata }: OutgoingData): Buffer {
    const last = this.#middle;
    // Metadata never change: the same object says the same.
    if (last?.sent === sent && last.directive === directive && last.metadata === metadata) return last.bytes;
    const text = `","version":1,"sent":${jsonText(sent)},"directive":${jsonText(directive)},"metadata":${JSON.stringify(metadata)},"content":`;
    const bytes = Buffer.from(text);
    this.#middle = { sent, directive, metadata, bytes };
    return bytes;
  }
}

function writePlain(bytes: Buffer, text: string, from: number): number {
  for (let index = 0; index < text.length; index++) bytes[from + index] = text.charCodeAt(index);
  return from + text.length;
}

/** A few: a loop is quicker than a call. */
function writeBytes(bytes: Buffer, few: Buffer, from: number): number {
  for (let index = 0; index < few.length; index++) bytes[from + index] = few[index] as number;
  return from + few.length;
}
