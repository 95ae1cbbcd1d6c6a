/** What the commands that send a message have in common: its content from the command line or a file, and metadata. */
import { createReadStream } from 'node:fs';
import { InvalidArgumentError, type Command } from 'commander';
import { AgentError, errorText } from '../errors.js';
import { isJson, jsonContent, metadataFrom, parseDirective, type Metadata } from '../message/index.js';

/** No agent takes more at once; most take less (`max-message-size`). */
export const LARGEST_CONTENT = 64 * 1024 * 1024;

export interface OutgoingFlags {
  readonly content?: string;
  readonly file?: string;
  readonly metadata: readonly (readonly [string, string])[];
}

/** Gives a command the flags that say what the message contains. */
export function asksContent(command: Command): Command {
  return command
    .option('--content <text>', 'the content: JSON as it is, any other text as a JSON string')
    .option('--file <path>', 'a file as content (-: standard input): JSON as it is, any other bytes in base64')
    .option('--metadata <name=value>', 'metadata; may be repeated', pairArgument, []);
}

/** Throws `message.invalid` for two contents, a file that cannot be read, and too many bytes. */
export async function contentFrom({
  content,
  file,
  metadata,
}: OutgoingFlags): Promise<{ readonly content: Buffer; readonly metadata: Metadata }> {
  if (content !== undefined && file !== undefined) throw invalid('give --content or --file, not both');
  const named = metadataFrom(metadata);
  if (file !== undefined) return jsonContent(await readBounded(file), named);
  const bytes = Buffer.from(content ?? '');
  return jsonContent(bytes.length === 0 || isJson(bytes) ? bytes : Buffer.from(JSON.stringify(content)), named);
}

/** The bytes of a file, or of standard input for `-`. Whatever is read ends: a device or a pipe may not. */
async function readBounded(path: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of openInput(path)) {
    size += chunk.length;
    if (size > LARGEST_CONTENT)
      throw invalid(
        `${nameOf(path)} has more than ${LARGEST_CONTENT / 1024 / 1024} MiB: that is no content of a message`,
      );
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** What a file holds, or standard input, bit by bit. Throws `message.invalid` when it cannot be read. */
export async function* openInput(path: string): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of path === '-' ? process.stdin : createReadStream(path)) yield chunk as Buffer;
  } catch (error) {
    throw invalid(`${nameOf(path)} cannot be read: ${errorText(error)}`, error);
  }
}

export function nameOf(path: string): string {
  return path === '-' ? 'standard input' : path;
}

export function invalid(text: string, cause?: unknown): AgentError {
  return new AgentError('message.invalid', text, {}, { cause });
}

export function directiveArgument(given: string): string {
  if (parseDirective(given) === undefined) throw new InvalidArgumentError('it is no directive.');
  return given;
}

function pairArgument(
  given: string,
  before: readonly (readonly [string, string])[],
): readonly (readonly [string, string])[] {
  const at = given.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('it must be name=value.');
  return [...before, [given.slice(0, at), given.slice(at + 1)]];
}
