/** `ygg dispatch`: a message to a worker of this machine, without a broker; one, or as many as a file of an export holds. */
import type { Command } from 'commander';
import type { AdminClient, Dispatched } from '../admin/index.js';
import { newMessageId, printable } from '../message/index.js';
import { asksAgent, withAgent, type AdminFlags } from './admin-command.js';
import { ANSWER_WITHIN_MS, collect } from './answers.js';
import { timeoutArgument } from './broker-command.js';
import type { OutgoingMessage } from './export-line.js';
import { asksContent, contentFrom, directiveArgument, invalid, type OutgoingFlags } from './outgoing.js';
import type { Output } from './output.js';
import { sendLines } from './send-lines.js';

interface DispatchFlags extends AdminFlags, OutgoingFlags {
  readonly id?: string;
  readonly from?: string;
  readonly wait?: boolean;
  readonly timeout?: number;
}

export function addDispatchCommand(program: Command): void {
  asksAgent(asksContent(program.command('dispatch')))
    .description('give a message to a worker of this machine, without a broker')
    .argument('[directive]', 'what the worker handles', directiveArgument)
    .option('--id <id>', 'its message id: one that is known already is not taken again (default: a new one)')
    .option(
      '--from <path>',
      'dispatch each message of an export (-: standard input), with its id, metadata and content',
    )
    .option('--wait', 'wait for the answer and print its content; 1 if it is an error')
    .option('--timeout <time>', 'how long to wait for it (default: 10s)', timeoutArgument)
    .action(async (directive: string | undefined, flags: DispatchFlags) => {
      if (flags.from === undefined) {
        if (directive === undefined) throw invalid('name the directive, or give a file of an export with --from');
        const message = { messageId: flags.id ?? newMessageId(), directive, ...(await contentFrom(flags)) };
        await withAgent(flags, (client, output) => dispatch(client, output, message, flags));
        return;
      }
      const other = directive ?? flags.id ?? flags.content ?? flags.file ?? flags.metadata[0]?.[0];
      if (other !== undefined || flags.wait === true)
        throw invalid('--from takes directives, ids and contents from the file, and waits for no answer');
      const { from } = flags;
      await withAgent(flags, (client, output) =>
        sendLines(from, flags, output, async (message) => {
          const { outcome, key } = await dispatchOne(client, message);
          return key === 0n ? { outcome } : { outcome, key };
        }),
      );
    });
}

async function dispatch(
  client: AdminClient,
  output: Output,
  message: OutgoingMessage,
  { wait = false, timeout = ANSWER_WITHIN_MS, json = false }: DispatchFlags,
): Promise<void> {
  const { messageId } = message;
  const scope = new AbortController();
  const events = client.dispatch({ ...message, wait }, scope.signal);
  const dispatched = await firstOf(events);
  const { outcome, key } = dispatched;
  tell(message, dispatched, wait);
  const view = { outcome, key: key === 0n ? null : key };
  if (wait) await collect(events, scope, { client, output, messageId, timeout, isJson: json, view });
  else if (json) output.json({ message_id: messageId, ...view });
  else output.line(printable(messageId));
}

/** What the operator should know at once. */
function tell({ messageId, directive }: OutgoingMessage, { outcome, isHandled }: Dispatched, wait: boolean): void {
  const say = (text: string): void => void process.stderr.write(`ygg: ${printable(text)}\n`);
  if (outcome === 'known') say(`${messageId} is known: it waits or was delivered, and is not taken again`);
  else if (outcome === 'ended' && !wait) {
    process.exitCode = 1;
    say(`${messageId} has ended at once; \`ygg messages answers ${messageId}\` says why`);
  } else if (!isHandled) say(`no worker is registered for ${directive} now; the message waits for one`);
}

/** Without waiting for an answer. */
async function dispatchOne(client: AdminClient, message: OutgoingMessage): Promise<Dispatched> {
  const events = client.dispatch({ ...message, wait: false }, new AbortController().signal);
  try {
    return await firstOf(events);
  } finally {
    await events.return();
  }
}

async function firstOf(events: ReturnType<AdminClient['dispatch']>): Promise<Dispatched> {
  const { value } = await events.next();
  if (value?.dispatched === undefined) throw new Error('the agent did not say what became of the message');
  return value.dispatched;
}
