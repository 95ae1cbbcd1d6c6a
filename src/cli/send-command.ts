/** `ygg send`: messages to a worker of an agent, sent as a server sends them, through the broker. */
import type { Command } from 'commander';
import { encodeData, jsonContent, newMessageId } from '../message/index.js';
import { errorOf, showContent, showError } from './answers.js';
import { asksBroker, clientArgument, timeoutArgument, withBroker, type BrokerFlags } from './broker-command.js';
import type { OutgoingMessage } from './export-line.js';
import { answerTo, now, text, type Envelope } from './heard.js';
import { asksContent, contentFrom, directiveArgument, invalid, type OutgoingFlags } from './outgoing.js';
import type { Output } from './output.js';
import { sendLines } from './send-lines.js';

interface SendFlags extends BrokerFlags, OutgoingFlags {
  readonly from?: string;
  readonly wait?: boolean;
  readonly timeout?: number;
}

export function addSendCommand(program: Command): void {
  asksContent(asksBroker(program.command('send')))
    .description('send a message to a worker of an agent, through the broker')
    .argument('<client>', 'the client id of the agent', clientArgument)
    .argument('[directive]', 'what the worker handles', directiveArgument)
    .option('--from <path>', 'send each message of an export (-: standard input), with its id, metadata and content')
    .option('--wait', 'wait for the answer and print its content; 1 if it is an error')
    .option('--timeout <time>', 'how long to wait for it (default: 10s)', timeoutArgument)
    .action(async (client: string, directive: string | undefined, flags: SendFlags) => {
      if (flags.from === undefined) {
        if (directive === undefined) throw invalid('name the directive, or give a file of an export with --from');
        await send(client, { messageId: newMessageId(), directive, ...(await contentFrom(flags)) }, flags);
        return;
      }
      const other = directive ?? flags.content ?? flags.file ?? flags.metadata[0]?.[0];
      if (other !== undefined || flags.wait === true)
        throw invalid('--from takes directives, ids and contents from the file, and waits for no answer');
      const { from } = flags;
      await withBroker(
        flags,
        () => [],
        (desk, output) =>
          sendLines(from, flags, output, async ({ content, ...message }) => {
            await desk.publish(
              `${desk.prefix}/${client}/data/in`,
              payloadOf({ ...message, ...jsonContent(content, message.metadata) }),
            );
            return { outcome: 'sent' };
          }),
      );
    });
}

async function send(client: string, message: OutgoingMessage, flags: SendFlags): Promise<void> {
  const { messageId } = message;
  await withBroker(
    flags,
    (prefix) => (flags.wait === true ? [`${prefix}/${client}/data/out`] : []),
    async (desk, output) => {
      const answer = flags.wait === true ? answerTo(desk, messageId, flags.timeout, client) : undefined;
      await desk.publish(`${desk.prefix}/${client}/data/in`, payloadOf(message));
      if (answer !== undefined) showAnswer(output, await answer, flags.json === true);
      else if (flags.json === true) output.json({ client, message_id: messageId });
      else output.line(messageId);
    },
  );
}

function payloadOf(message: OutgoingMessage): Buffer {
  return encodeData({ ...message, responseTo: '', sent: now() });
}

/** The content as it stands on the wire: numbers may be larger than any of JavaScript's. */
function showAnswer(output: Output, answer: Envelope, isJson: boolean): void {
  const error = errorOf(answer.metadata);
  if (isJson) output.json({ ...answer, bytes: undefined });
  else if (error !== undefined) showError(error);
  else showContent(output, answer.bytes ?? Buffer.from(text(answer.content ?? null)));
}
