/**
 * What a handler sees and what it gives back, and the mapping to and from the wire. Pure. The content's bytes are
 * never touched: a JSON string keeps its quotes, a number its digits.
 */
import { Readable } from 'node:stream';
import type { Data } from '../../protocol/generated/yggdrasil.js';
import { replyMessageId } from '../message/ids.js';
import type { IncomingBody } from './delivery.js';

/** A message as the agent delivered it. */
export interface WorkerMessage {
  readonly messageId: string;
  /** The directive as the sender wrote it; `-` and `_` are one letter in it. */
  readonly directive: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** The bytes of the JSON value as they stood on the wire, or the fetched body for a `detachedContent` worker. */
  readonly content: Buffer;
  /** How many bytes the content has. */
  readonly size: number;
  /** The id of the message that this one answers; `''` when it answers none. */
  readonly responseTo: string;
  /** The content, parsed. Throws a {@link Refusal} where it is not JSON: such a message never gets better. */
  json(): unknown;
  /**
   * The content as a stream, the same one at each call. For a `streamContent` worker the way to contents that no memory
   * holds: the agent sends only as fast as it is read. What is left unread when the handler is done is not sent.
   */
  body(): Readable;
}

/** An answer. */
export interface Reply {
  /**
   * The bytes. Where they are one JSON value they go out as that value, byte for byte; other bytes go out as base64
   * with the metadata entry `content-encoding: base64`. {@link jsonReply} makes JSON of a value.
   */
  readonly content?: Uint8Array | string;
  readonly metadata?: Readonly<Record<string, string>>;
  /** Default: the request's directive. A URL: the agent POSTs the content there, with the metadata as headers. */
  readonly directive?: string;
  /** Default: derived from the request's id and the reply's index, so that a repeated handler repeats its ids. */
  readonly messageId?: string;
}

/** What a handler may return: nothing, one answer or several. */
export type Replies = Reply | readonly Reply[] | undefined;

/**
 * Thrown by a handler for a message that no repetition can make right (bad content, an unknown request). The agent
 * learns INVALID_ARGUMENT with this text. A handler that wants the sender to know the reason in its own words
 * returns a reply instead.
 */
export class Refusal extends Error {
  override readonly name = 'Refusal';
}

/** An answer whose content is `value` as JSON. */
export function jsonReply(value: unknown, metadata?: Readonly<Record<string, string>>): Reply {
  const content = value === undefined ? 'null' : JSON.stringify(value);
  return metadata === undefined ? { content } : { content, metadata };
}

/** The message in the SDK's words. `content` is its content; with a `body`, that is not collected, and comes as a stream. */
export function messageFromData(data: Data, content: Buffer = data.content, body?: IncomingBody): WorkerMessage {
  const { messageId, directive, metadata, responseTo } = data;
  if (body !== undefined) return new StreamedMessage(data, body);
  let stream: Readable | undefined;
  return {
    messageId,
    directive,
    metadata,
    content,
    size: content.length,
    responseTo,
    json: () => parseJson(messageId, content),
    body: () => (stream ??= Readable.from([content], { objectMode: false })),
  };
}

/** A message whose content is not in memory: only `body` gives it. */
class StreamedMessage implements WorkerMessage {
  readonly messageId: string;
  readonly directive: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly responseTo: string;
  readonly size: number;
  readonly #body: IncomingBody;

  constructor({ messageId, directive, metadata, responseTo }: Data, body: IncomingBody) {
    this.messageId = messageId;
    this.directive = directive;
    this.metadata = metadata;
    this.responseTo = responseTo;
    this.size = body.size;
    this.#body = body;
  }

  get content(): Buffer {
    throw new Error(`the content of message ${this.messageId} (${this.size} bytes) is a stream: read it from body()`);
  }

  json(): unknown {
    return parseJson(this.messageId, this.content);
  }

  body(): Readable {
    return this.#body.stream();
  }
}

/** Reply number `index` to `request`, ready for the agent. */
export function dataFromReply(reply: Reply, request: Pick<Data, 'messageId' | 'directive'>, index: number): Data {
  const { metadata } = reply;
  return {
    messageId: textOf(reply.messageId ?? replyMessageId(request.messageId, index)),
    metadata: metadata === undefined ? {} : textsOf(metadata),
    content: bufferOf(reply.content ?? ''),
    responseTo: request.messageId,
    directive: textOf(reply.directive ?? request.directive),
  };
}

function textsOf(metadata: Reply['metadata'] & object): Record<string, string> {
  return Object.fromEntries(Object.entries(metadata).map(([name, value]) => [name, textOf(value)]));
}

/** A handler in JavaScript may give a number where a text belongs; a frame with that could not be read. */
function textOf(value: string | number | boolean | null | undefined): string {
  return typeof value === 'string' ? value : String(value ?? '');
}

/** What a handler returned, as a list. */
export function listOfReplies(replies: Replies): readonly Reply[] {
  if (replies === undefined) return [];
  return isList(replies) ? replies : [replies];
}

function isList(replies: Reply | readonly Reply[]): replies is readonly Reply[] {
  return Array.isArray(replies);
}

function bufferOf(content: Uint8Array | string): Buffer {
  if (typeof content === 'string') return Buffer.from(content);
  return Buffer.from(content.buffer, content.byteOffset, content.byteLength);
}

function parseJson(messageId: string, content: Buffer): unknown {
  try {
    const value: unknown = JSON.parse(content.toString('utf8'));
    return value;
  } catch (cause) {
    throw new Refusal(`the content of message ${messageId} is not JSON`, { cause });
  }
}
