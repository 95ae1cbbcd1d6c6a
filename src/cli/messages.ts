/** What the commands about messages have in common: which ones are meant, and how one is told as JSON. */
import { Option, type Command } from 'commander';
import { MESSAGE_STATES, type AdminClient } from '../admin/index.js';
import { ageArgument, countArgument, type AdminFlags } from './admin-command.js';
import { instant } from './output.js';

export type Message = Awaited<ReturnType<AdminClient['message']>>;
type Filter = Parameters<AdminClient['messages']>[0];

export interface ListFlags extends AdminFlags {
  readonly state?: string;
  readonly directive?: string;
  readonly olderThan?: number;
  readonly newerThan?: number;
  readonly limit?: number;
}

export function filtered(command: Command): Command {
  return command
    .addOption(new Option('--state <state>', 'in this state only').choices(MESSAGE_STATES))
    .option('--directive <name>', 'of this directive only, or to this URL')
    .option('--older-than <age>', 'that came longer ago than 90s, 5m, 2h, 3d', ageArgument)
    .option('--newer-than <age>', 'that came since', ageArgument)
    .option('--limit <n>', 'at most so many', countArgument);
}

export function filterOf(
  { state = '', directive = '', olderThan, newerThan, limit = 0 }: ListFlags,
  now: number,
): Filter {
  const ago = (age: number | undefined): bigint => (age === undefined ? 0n : BigInt(Math.max(1, now - age)));
  return { state, directive, before: ago(olderThan), after: ago(newerThan), limit, contentLimit: 0n };
}

export function messageView(message: Message): Readonly<Record<string, unknown>> {
  const { key, direction, state, messageId, responseTo, directive, metadata, contentSize } = message;
  const { arrivedAt, expiresAt, dueAt, endedAt, attempts, priority, worker, failureCode, failure } = message;
  const { destination, isFetched } = message;
  return {
    ...{ key, direction, state, message_id: messageId, response_to: responseTo, directive, metadata },
    content_size: contentSize,
    arrived_at: instant(arrivedAt) || null,
    expires_at: instant(expiresAt) || null,
    due_at: instant(dueAt) || null,
    ended_at: instant(endedAt) || null,
    ...{ attempts, priority, worker: worker || null, destination: destination || null, fetched: isFetched },
    failure: failureCode === '' ? null : { code: failureCode, text: failure },
  };
}

/** Text as it is, other bytes in base64. */
export function contentView({ content, contentProblem }: Message): Readonly<Record<string, string>> {
  if (contentProblem !== '') return { content_problem: contentProblem };
  const text = content.toString('utf8');
  return Buffer.from(text, 'utf8').equals(content) ? { content: text } : { content_base64: content.toString('base64') };
}
