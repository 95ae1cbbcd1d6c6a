/**
 * A message as `ygg messages export` writes it and `--from` reads it: one JSON document a line, its content as JSON to
 * the byte, or in base64 where it is none. Pure, but for the reading of lines.
 */
import {
  isJson,
  MAX_DEPTH,
  metadataFrom,
  newMessageId,
  parseDirective,
  quoted,
  readObject,
  valueAt,
  type Metadata,
} from '../message/index.js';
import { invalid, nameOf, openInput } from './outgoing.js';

/** A message to be sent. */
export interface OutgoingMessage {
  readonly messageId: string;
  readonly directive: string;
  readonly metadata: Metadata;
  readonly content: Buffer;
}

/** What a line is: a message, a result (which nobody can be given), or neither, and why. */
export type ReadLine =
  | { readonly kind: 'message'; readonly message: OutgoingMessage }
  | { readonly kind: 'result' }
  | { readonly kind: 'problem'; readonly problem: string };

/** A content of 64 MiB in base64, and what stands around it. */
const LONGEST_LINE = 96 * 1024 * 1024;
const LINE_FEED = 0x0a;

/** The line of a message; `view` are its fields but the content. */
export function exportLine(view: Readonly<Record<string, unknown>>, content: Buffer | undefined): Buffer {
  const fields = JSON.stringify(view, (_, each: unknown) => (typeof each === 'bigint' ? Number(each) : each));
  if (content === undefined || content.length === 0) return Buffer.from(`${fields}\n`);
  const head = fields.slice(0, -1);
  // A line end inside would make two lines of it.
  return isJson(content) && !content.includes(LINE_FEED) && !content.includes(0x0d)
    ? Buffer.concat([Buffer.from(`${head},"content":`), content, Buffer.from('}\n')])
    : Buffer.from(`${head},"content_base64":"${content.toString('base64')}"}\n`);
}

/** What a line says. An id that is missing is made. */
export function readLine(line: Buffer): ReadLine {
  // The line is one level more than the content may have.
  const object = readObject(line, MAX_DEPTH + 1);
  if (object.kind === 'fault') return problem(`it is no JSON object: ${object.reason} at byte ${object.at}`);
  const field = (name: string): unknown => {
    const span = object.members.get(name);
    return span === undefined ? undefined : valueAt(line, span);
  };
  if (field('direction') === 'outbound') return { kind: 'result' };
  const directive = field('directive');
  if (typeof directive !== 'string' || parseDirective(directive) === undefined)
    return problem('its "directive" is missing or is none');
  const messageId = field('message_id') ?? newMessageId();
  if (typeof messageId !== 'string') return problem('its "message_id" is no text');
  const given = field('metadata') ?? {};
  if (
    typeof given !== 'object' ||
    Array.isArray(given) ||
    Object.values(given).some((value) => typeof value !== 'string')
  )
    return problem('its "metadata" is no object of text to text');
  if (field('fetched') === true)
    return problem('its content was fetched from a URL, and its worker would fetch it again: send the URL instead');
  const failed = field('content_problem');
  if (typeof failed === 'string') return problem(`it was exported without its content: ${quoted(failed, 200)}`);
  const span = object.members.get('content');
  const base64 = field('content_base64');
  if (base64 !== undefined && (typeof base64 !== 'string' || !/^[A-Za-z0-9+/]*={0,2}$/.test(base64)))
    return problem('its "content_base64" is no base64');
  const content =
    base64 === undefined
      ? span === undefined
        ? Buffer.alloc(0)
        : line.subarray(span.start, span.end)
      : Buffer.from(base64, 'base64');
  const metadata = metadataFrom(Object.entries(given as Readonly<Record<string, string>>));
  return { kind: 'message', message: { messageId: messageId || newMessageId(), directive, metadata, content } };
}

/** The lines of a file with their numbers; empty ones are passed over. Throws `message.invalid`. */
export async function* linesOf(path: string): AsyncGenerator<{ readonly line: Buffer; readonly number: number }> {
  let parts: Buffer[] = [];
  let length = 0;
  let number = 0;
  const whole = (): Buffer => {
    const line = Buffer.concat(parts);
    parts = [];
    length = 0;
    number += 1;
    return line;
  };
  for await (const chunk of openInput(path)) {
    let from = 0;
    for (let at = chunk.indexOf(LINE_FEED); at >= 0; at = chunk.indexOf(LINE_FEED, from)) {
      parts.push(chunk.subarray(from, at));
      from = at + 1;
      const line = whole();
      if (line.length > 0) yield { line, number };
    }
    parts.push(chunk.subarray(from));
    length += chunk.length - from;
    if (length > LONGEST_LINE) throw invalid(`line ${number + 1} of ${nameOf(path)} is too long for a message`);
  }
  const last = whole();
  if (last.length > 0) yield { line: last, number };
}

function problem(text: string): ReadLine {
  return { kind: 'problem', problem: text };
}
