/** `ygg ping`, `send` and `listen`: an agent anywhere, reached as a server reaches it, through the broker. */
import { readFile } from 'node:fs/promises';
import { InvalidArgumentError, type Command } from 'commander';
import type { Delivery } from '../connection/index.js';
import { AgentError } from '../errors.js';
import {
  decodeData,
  encodeCommand,
  encodeData,
  jsonContent,
  metadataFrom,
  newMessageId,
  parseDirective,
  type Metadata,
} from '../message/index.js';
import {
  asksBroker,
  clientArgument,
  timeoutArgument,
  withBroker,
  type BrokerDesk,
  type BrokerFlags,
} from './broker-command.js';
import { countArgument } from './admin-command.js';
import { printable, type Output } from './output.js';

const ANSWER_WITHIN_MS = 10_000;

interface Waiting {
  readonly timeout?: number;
}

interface SendFlags extends BrokerFlags, Waiting {
  readonly content?: string;
  readonly file?: string;
  readonly metadata: readonly (readonly [string, string])[];
  readonly wait?: boolean;
}

/** What came, as far as it can be read: an envelope of any type. */
interface Envelope {
  readonly type?: unknown;
  readonly message_id?: unknown;
  readonly response_to?: unknown;
  readonly directive?: unknown;
  readonly metadata?: unknown;
  readonly content?: unknown;
  /** Of the content, where they can be told. */
  readonly bytes?: Buffer;
}

export function addRemoteCommands(program: Command): void {
  asksBroker(program.command('ping'))
    .description('ask an agent, through the broker, whether it is there')
    .argument('<client>', 'its client id', clientArgument)
    .option('--timeout <time>', 'how long to wait (default: 10s)', timeoutArgument)
    .action(async (client: string, flags: BrokerFlags & Waiting) => {
      await withBroker(
        flags,
        (prefix) => [`${prefix}/${client}/control/out`],
        async (desk, output) => {
          const began = performance.now();
          const id = newMessageId();
          const answer = answerTo(desk, id, flags.timeout, client);
          await desk.publish(`${desk.prefix}/${client}/control/in`, encodeCommand(id, now(), 'ping'));
          await answer;
          const ms = Math.round(performance.now() - began);
          if (flags.json === true) output.json({ client, answer: 'pong', milliseconds: ms });
          else output.line(`pong from ${client} after ${ms} ms`);
        },
      );
    });
  asksBroker(program.command('send'))
    .description('send a message to a worker of an agent, through the broker')
    .argument('<client>', 'the client id of the agent', clientArgument)
    .argument('<directive>', 'what the worker handles', directiveArgument)
    .option('--content <text>', 'the content: JSON as it is, any other text as a JSON string')
    .option('--file <path>', 'a file as content: JSON as it is, any other bytes in base64')
    .option('--metadata <name=value>', 'metadata; may be repeated', pairArgument, [])
    .option('--wait', 'wait for the answer and print its content; 1 if it is an error')
    .option('--timeout <time>', 'how long to wait for it (default: 10s)', timeoutArgument)
    .action(async (client: string, directive: string, flags: SendFlags) => {
      const { content, metadata } = await contentOf(flags);
      await withBroker(
        flags,
        (prefix) => (flags.wait === true ? [`${prefix}/${client}/data/out`] : []),
        async (desk, output) => {
          const messageId = newMessageId();
          const answer = flags.wait === true ? answerTo(desk, messageId, flags.timeout, client) : undefined;
          const payload = encodeData({ messageId, responseTo: '', sent: now(), directive, metadata, content });
          await desk.publish(`${desk.prefix}/${client}/data/in`, payload);
          if (answer !== undefined) showAnswer(output, await answer, flags.json === true);
          else if (flags.json === true) output.json({ client, message_id: messageId });
          else output.line(messageId);
        },
      );
    });
  asksBroker(program.command('listen'))
    .description('print what an agent, or the whole fleet, publishes, until Ctrl-C')
    .argument('[client]', 'a client id (default: all that the broker lets you hear)', clientArgument)
    .option('--count <n>', 'end after so many', countArgument)
    .action(async (client: string | undefined, flags: BrokerFlags & { readonly count?: number }) => {
      await withBroker(
        flags,
        (prefix) => ['control', 'data'].map((kind) => `${prefix}/${client ?? '+'}/${kind}/out`),
        (desk, output) => listen(desk, output, flags),
      );
    });
}

function listen(
  desk: BrokerDesk,
  output: Output,
  { count = Infinity, json = false }: { readonly count?: number; readonly json?: boolean },
): Promise<void> {
  const scope = new AbortController();
  return new Promise((resolve) => {
    let left = count;
    desk.hear((delivery) => {
      delivery.ack();
      const envelope = envelopeOf(delivery);
      // One that tells that an agent has no status any more is empty.
      if (envelope === undefined || left === 0) return;
      const client = delivery.topic.split('/').at(-3) ?? '';
      if (json)
        output.line(
          JSON.stringify({ at: now(), client, topic: delivery.topic, retained: delivery.retain, ...envelope }),
        );
      else output.table([], [[now(), client, ...summaryOf(envelope)]]);
      left -= 1;
      if (left > 0) return;
      scope.abort();
      resolve();
    }, scope.signal);
  });
}

/** Type, what it is about, and its content in one line. */
function summaryOf({ type, directive, response_to: to, metadata, content }: Envelope): readonly string[] {
  if (type === 'connection-status') {
    const { state, dispatchers } = content as { readonly state?: unknown; readonly dispatchers?: object | null };
    return [text(type), text(state), Object.keys(dispatchers ?? {}).join(',')];
  }
  if (type === 'event') return [text(type), text(content), text(to)];
  const error = metadata as { readonly error?: unknown } | null | undefined;
  return [text(type), text(directive), text(to), error?.error === undefined ? text(content) : text(error.error)];
}

function text(value: unknown): string {
  if (value === undefined) return '';
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** The first message that answers `id`; awaited behind what asks for it. Rejects when none comes in time. */
function answerTo(desk: BrokerDesk, id: string, timeout: number | undefined, client: string): Promise<Envelope> {
  const answer = hearAnswer(desk, id, timeout ?? ANSWER_WITHIN_MS, client);
  answer.catch(() => undefined);
  return answer;
}

function hearAnswer(desk: BrokerDesk, id: string, timeout: number, client: string): Promise<Envelope> {
  const scope = new AbortController();
  return new Promise((resolve, reject) => {
    let last = '';
    const timer = setTimeout(() => {
      scope.abort();
      const known = last === '' ? '' : `; it last said that it is ${last}`;
      reject(new AgentError('remote.no_answer', `no answer from ${client} within ${timeout / 1000} s${known}`));
    }, timeout);
    // When what asks for it fails nobody waits any more; until then the connection keeps the program alive.
    timer.unref();
    desk.hear((delivery) => {
      delivery.ack();
      const envelope = envelopeOf(delivery);
      if (envelope?.type === 'connection-status') last = text((envelope.content as { state?: unknown } | null)?.state);
      if (envelope?.response_to !== id) return;
      clearTimeout(timer);
      scope.abort();
      resolve({ ...envelope, ...bytesOf(delivery) });
    }, scope.signal);
  });
}

/** The content as it stands on the wire: numbers may be larger than any of JavaScript's. */
function showAnswer(output: Output, answer: Envelope, isJson: boolean): void {
  const { status, error } = (answer.metadata ?? {}) as { readonly status?: unknown; readonly error?: unknown };
  if (status === 'error') process.exitCode = 1;
  if (isJson) output.json({ ...answer, bytes: undefined });
  else if (status === 'error') process.stderr.write(`ygg: the agent answers: ${printable(text(error))}\n`);
  else if (answer.bytes === undefined) output.line(JSON.stringify(answer.content ?? null));
  else output.line(output.isTerminal ? printable(answer.bytes.toString()) : answer.bytes.toString());
}

function envelopeOf({ payload }: Delivery): Envelope | undefined {
  try {
    const value: unknown = JSON.parse(payload.toString());
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    // Whatever it is, it is no envelope.
    return undefined;
  }
}

function bytesOf({ payload }: Delivery): { readonly bytes?: Buffer } {
  const decoded = decodeData(payload);
  return decoded.kind === 'data' ? { bytes: decoded.envelope.content } : {};
}

async function contentOf({ content, file, metadata }: SendFlags): Promise<{ content: Buffer; metadata: Metadata }> {
  if (content !== undefined && file !== undefined)
    throw new AgentError('config.invalid', 'give --content or --file, not both');
  const named = metadataFrom(metadata);
  if (file !== undefined) return jsonContent(await readFile(file), named);
  const bytes = Buffer.from(content ?? '');
  const isJson = content !== undefined && isJsonText(content);
  return jsonContent(isJson || bytes.length === 0 ? bytes : Buffer.from(JSON.stringify(content)), named);
}

function isJsonText(given: string): boolean {
  try {
    JSON.parse(given);
    return true;
  } catch {
    return false;
  }
}

function directiveArgument(given: string): string {
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

function now(): string {
  return new Date().toISOString();
}
