/** `ygg messages`: what is on its way and what was given up; a dead one gets another chance, a waiting one is ended. */
import type { Command } from 'commander';
import type { AdminClient } from '../admin/index.js';
import { AgentError } from '../errors.js';
import { printable } from '../message/index.js';
import { asksAgent, keyArgument, withAgent, type AdminFlags } from './admin-command.js';
import { addAnswersCommand } from './messages-answers-command.js';
import { addExportCommand } from './messages-export-command.js';
import { addTraceCommand } from './messages-trace-command.js';
import { contentView, filtered, filterOf, messageView, type ListFlags, type Message } from './messages.js';
import { size, span, type Cell, type Output } from './output.js';

const HEAD = ['KEY', 'WAY', 'STATE', 'DIRECTIVE', 'MESSAGE ID', 'SIZE', 'AGE', 'TRIED', 'DETAIL'];
/** On a terminal a column can only be as wide as what is known of it. */
const ROWS_AT_ONCE = 1000;

export function addMessagesCommand(program: Command): void {
  const messages = program.command('messages').description('messages on their way, and dead ones (default: list)');
  filtered(asksAgent(messages.command('list', { isDefault: true })))
    .description('those that have not ended, and then the dead')
    .action(async (flags: ListFlags) => {
      await withAgent(flags, async (client, output) => {
        const found = client.messages(filterOf(flags, Date.now()));
        if (flags.json === true) await output.jsonList(views(found));
        else await showList(output, found, Date.now());
      });
    });
  asksAgent(messages.command('show'))
    .description('one message with its content')
    .argument('<key>', 'its key, as the list shows it', keyArgument)
    .option('--content', 'print the bytes of its content and nothing else')
    .action(async (key: bigint, flags: AdminFlags & { readonly content?: boolean }) => {
      await withAgent(flags, async (client, output) => {
        const message = await client.message(key);
        const { contentProblem } = message;
        if (contentProblem !== '' && flags.content === true)
          throw new AgentError('admin.refused', `the content of ${key} cannot be shown: ${contentProblem}`);
        if (flags.content === true) output.bytes(message.content);
        else if (flags.json === true) output.json({ ...messageView(message), ...contentView(message) });
        else showMessage(output, message);
      });
    });
  filtered(asksAgent(messages.command('replay')))
    .description('give dead messages another chance: those of the keys, or with --all all that the filter names')
    .argument('[key...]', 'keys of dead messages', keysArgument)
    .option('--all', 'all dead messages that the filter lets through')
    .action(async (keys: readonly bigint[] | undefined, flags: ListFlags & { readonly all?: boolean }) => {
      await withAgent(flags, async (client, output) => {
        const chosen = flags.all === true ? await deadKeys(client, flags) : (keys ?? []);
        if (chosen.length === 0 && flags.all !== true) throw new Error('name the keys to replay, or say --all');
        await eachOf(chosen, 'replayed', flags, output, async (key) => ({ new_key: await client.replay(key) }));
      });
    });
  asksAgent(messages.command('cancel'))
    .description('end messages that are not done; their senders are answered')
    .argument('<key...>', 'their keys', keysArgument)
    .action(async (keys: readonly bigint[], flags: AdminFlags) => {
      await withAgent(flags, async (client, output) => {
        await eachOf(keys, 'cancelled', flags, output, async (key) => {
          const { isAsked } = await client.cancel(key);
          return isAsked ? { asked: 'its worker has it in hand and was asked to give it up' } : {};
        });
      });
    });
  addTraceCommand(messages);
  addAnswersCommand(messages);
  addExportCommand(messages);
}

/** One key more. */
function keysArgument(text: string, before: readonly bigint[] | undefined): readonly bigint[] {
  return [...(before ?? []), keyArgument(text)];
}

async function deadKeys(client: AdminClient, flags: ListFlags): Promise<readonly bigint[]> {
  const keys: bigint[] = [];
  // All of them before the first is replayed: it is another message from then on.
  for await (const { key } of client.messages(filterOf({ ...flags, state: 'dead' }, Date.now()))) keys.push(key);
  return keys;
}

/** Does it to each; one that is refused is told and keeps the others from nothing. The exit code is 1 then. */
async function eachOf(
  keys: readonly bigint[],
  done: string,
  { json = false }: AdminFlags,
  output: Output,
  work: (key: bigint) => Promise<Readonly<Record<string, string | bigint>>>,
): Promise<void> {
  const outcomes: unknown[] = [];
  for (const key of keys) {
    try {
      const more = await work(key);
      outcomes.push({ key, outcome: done, ...more });
      if (!json)
        output.line([`${key} ${done}`, ...Object.entries(more).map(([name, value]) => `${name} ${value}`)].join(', '));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      process.exitCode = 1;
      outcomes.push({ key, outcome: 'refused', reason });
      if (!json) process.stderr.write(`ygg: ${key}: ${printable(reason)}\n`);
    }
  }
  if (json) output.json(outcomes);
  else if (keys.length === 0) output.line('no message matches');
}

async function showList(output: Output, messages: AsyncIterable<Message>, now: number): Promise<void> {
  let rows: (readonly Cell[])[] = [];
  let shown = 0;
  const show = (): void => {
    output.table(HEAD, rows);
    shown += rows.length;
    rows = [];
  };
  for await (const message of messages) {
    rows.push(row(message, now));
    if (rows.length >= ROWS_AT_ONCE) show();
  }
  if (rows.length > 0 || (shown === 0 && output.isTerminal)) show();
}

function row(message: Message, now: number): readonly Cell[] {
  const { key, direction, state, directive, messageId, contentSize, arrivedAt, endedAt, dueAt, attempts } = message;
  const wait = Number(dueAt) > now ? `again in ${span(Number(dueAt) - now)}` : '';
  return [
    key,
    direction === 'inbound' ? 'in' : 'out',
    state,
    directive,
    messageId,
    size(contentSize),
    span(now - Number(endedAt === 0n ? arrivedAt : endedAt)),
    attempts,
    message.failure || wait || (message.destination === 'local' ? 'waits: `ygg messages answers`' : ''),
  ];
}

async function* views(messages: AsyncIterable<Message>): AsyncGenerator {
  for await (const message of messages) yield messageView(message);
}

function showMessage(output: Output, message: Message): void {
  const view = messageView(message);
  const fields = Object.entries(view).flatMap(([name, value]): [string, Cell][] => {
    if (value === null || value === '' || name === 'metadata') return [];
    return [[name, typeof value === 'string' || typeof value === 'bigint' ? value : JSON.stringify(value)]];
  });
  const metadata = Object.entries(message.metadata).map(([name, value]): [string, Cell] => [`metadata ${name}`, value]);
  const [[name, text] = ['content', '']] = Object.entries(contentView(message));
  output.fields([...fields, ...metadata, [name, text]]);
}
