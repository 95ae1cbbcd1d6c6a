/** `ygg send`: a message to a worker of an agent, sent as a server sends it, through the broker. */
import { readFile } from 'node:fs/promises';
import { InvalidArgumentError, type Command } from 'commander';
import { AgentError } from '../errors.js';
import {
  encodeData,
  isJson,
  jsonContent,
  metadataFrom,
  newMessageId,
  parseDirective,
  printable,
  type Metadata,
} from '../message/index.js';
import { asksBroker, clientArgument, timeoutArgument, withBroker, type BrokerFlags } from './broker-command.js';
import { answerTo, now, text, type Envelope } from './heard.js';
import type { Output } from './output.js';

interface SendFlags extends BrokerFlags {
  readonly content?: string;
  readonly file?: string;
  readonly metadata: readonly (readonly [string, string])[];
  readonly wait?: boolean;
  readonly timeout?: number;
}

export function addSendCommand(program: Command): void {
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

async function contentOf({ content, file, metadata }: SendFlags): Promise<{ content: Buffer; metadata: Metadata }> {
  if (content !== undefined && file !== undefined)
    throw new AgentError('config.invalid', 'give --content or --file, not both');
  const named = metadataFrom(metadata);
  if (file !== undefined) return jsonContent(await readFile(file), named);
  const bytes = Buffer.from(content ?? '');
  return jsonContent(bytes.length === 0 || isJson(bytes) ? bytes : Buffer.from(JSON.stringify(content)), named);
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
