/** Answers as the commands that wait for one print them, and those to messages of this machine as they come. */
import type { AdminClient, DispatchEvent, LocalAnswer } from '../admin/index.js';
import { AgentError } from '../errors.js';
import { isJson, printable } from '../message/index.js';
import type { Output } from './output.js';
import { LARGEST_CONTENT } from './outgoing.js';

/** How long an answer is waited for where nobody says so. */
export const ANSWER_WITHIN_MS = 10_000;

/** Why a message was not answered as it should be: an error answer sets the exit code 1. Undefined for any other. */
export function errorOf(metadata: unknown): string | undefined {
  const { status, error } = (metadata ?? {}) as { readonly status?: unknown; readonly error?: unknown };
  if (status !== 'error') return undefined;
  process.exitCode = 1;
  return typeof error === 'string' ? error : 'an error without a text';
}

export function showError(error: string): void {
  process.stderr.write(`ygg: the agent answers: ${printable(error)}\n`);
}

/** Text on lines of its own; other bytes as they are, and none of them to a terminal. */
export function showContent(output: Output, content: Buffer): void {
  const text = content.toString('utf8');
  const isText = Buffer.from(text, 'utf8').equals(content);
  if (isText) output.line(output.isTerminal ? printable(text) : text.replace(/\n$/, ''));
  else if (output.isTerminal) output.line(`${content.length} bytes that are no text: in a pipe they come as they are`);
  else output.bytes(content);
}

/** An answer with its content, for --json. Numbers may be larger than any of JavaScript's: then the text has them. */
function answerView(
  { key, messageId, responseTo, directive, metadata, worker }: LocalAnswer,
  content: Buffer,
): unknown {
  const view = { key, message_id: messageId, response_to: responseTo, directive, metadata, worker: worker || null };
  if (content.length === 0) return { ...view, content: null };
  if (isJson(content)) return { ...view, content: JSON.parse(content.toString('utf8')) as unknown };
  return { ...view, content_base64: content.toString('base64') };
}

export interface CollectOptions {
  readonly client: AdminClient;
  readonly output: Output;
  readonly messageId: string;
  /** Undefined: only what is there is collected. */
  readonly timeout: number | undefined;
  readonly isJson: boolean;
  /** What --json tells beside the answers. */
  readonly view?: Readonly<Record<string, unknown>>;
}

/**
 * Prints the answers that come, tells the agent that they need not be kept, and gives their number. Throws
 * `message.no_answer` when the time is over before there is one.
 */
export async function collect(
  events: AsyncIterable<DispatchEvent>,
  scope: AbortController,
  options: CollectOptions,
): Promise<number> {
  const { client, output, messageId, timeout, isJson, view = {} } = options;
  const timer = timeout === undefined ? undefined : setTimeout(() => scope.abort(), timeout);
  const answers: unknown[] = [];
  const keys: bigint[] = [];
  let end: string | undefined;
  let count = 0;
  let open: { readonly answer: LocalAnswer; readonly chunks: Buffer[] } | undefined;
  const close = async (): Promise<void> => {
    if (open === undefined) return;
    const { answer, chunks } = open;
    open = undefined;
    const content = Buffer.concat(chunks);
    // Broken off in the middle: it is whole when it is asked for again.
    if (BigInt(content.length) !== answer.contentSize) return;
    keys.push(answer.key);
    count += 1;
    const error = errorOf(answer.metadata);
    if (isJson) answers.push(answerView(answer, content));
    else {
      if (error === undefined) showContent(output, content);
      else showError(error);
      await acknowledge(client, output, keys);
    }
  };
  try {
    for await (const event of events) {
      if (event.chunk !== undefined) {
        open?.chunks.push(event.chunk);
        continue;
      }
      await close();
      if (event.end !== undefined) end = event.end;
      if (event.answer !== undefined) open = { answer: acceptable(event.answer), chunks: [] };
    }
    await close();
  } finally {
    clearTimeout(timer);
    if (isJson) {
      output.json({ message_id: messageId, ...view, end: end ?? null, answers });
      await acknowledge(client, output, keys);
    }
  }
  if (scope.signal.aborted && count === 0) throw await noAnswer(options, end);
  return count;
}

/** In memory as a whole, so it must have an end. */
function acceptable(answer: LocalAnswer): LocalAnswer {
  if (answer.contentSize <= BigInt(LARGEST_CONTENT)) return answer;
  const text = `the answer ${answer.key} has ${answer.contentSize} bytes, more than is taken in here; it waits on`;
  throw new AgentError('admin.refused', text);
}

/** Behind the output: an answer that was not written out is kept. */
async function acknowledge(client: AdminClient, output: Output, keys: bigint[]): Promise<void> {
  await output.written();
  for (const key of keys.splice(0)) {
    // One that another has collected meanwhile is nothing to complain of.
    await client.acknowledgeAnswer(key).catch(() => undefined);
  }
}

async function noAnswer(
  { client, messageId, timeout = 0 }: CollectOptions,
  end: string | undefined,
): Promise<AgentError> {
  const where = end === undefined ? await whereabouts(client, messageId) : `it was ${end}, and no answer waits`;
  const text = `no answer to ${messageId} within ${timeout / 1000} s: ${where}. \`ygg messages answers ${messageId}\` prints one that comes later`;
  return new AgentError('message.no_answer', text);
}

async function whereabouts(client: AdminClient, messageId: string): Promise<string> {
  try {
    const { messages } = await client.trace(messageId);
    const state = messages.find(({ direction }) => direction === 'inbound')?.state ?? '';
    return state === 'accepted' ? 'it waits for a worker' : `it is in state ${state || 'unknown'}`;
  } catch {
    // The time is over all the same, and that is what is told.
    return 'the agent does not know it';
  }
}
