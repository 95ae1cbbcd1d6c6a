/** `ygg events`: what happens on this machine, as it happens: steps of messages, states of workers and the connection. */
import { Option, type Command } from 'commander';
import type { AdminClient, Event } from '../admin/index.js';
import { asksAgent, countArgument, withAgent, type AdminFlags } from './admin-command.js';
import { instant, type Cell, type Output } from './output.js';

interface EventsFlags extends AdminFlags {
  readonly kind?: string;
  readonly notable?: boolean;
  readonly count?: number;
}

const KINDS = ['message', 'worker', 'connection'] as const;

export function addEventsCommand(program: Command): void {
  asksAgent(program.command('events'), 'print a JSON document a line')
    .description('print what happens on this machine, until Ctrl-C: steps of messages, workers, the connection')
    .addOption(new Option('--kind <kind>', 'only what concerns these').choices(KINDS))
    .option('--notable', 'of messages only what went wrong: put-back, expired, cancelled, dead, refused')
    .option('--count <n>', 'end after so many', countArgument)
    .action(async (flags: EventsFlags) => {
      await withAgent(flags, (client, output) => follow(client, output, flags));
    });
}

async function follow(client: AdminClient, output: Output, flags: EventsFlags): Promise<void> {
  const { kind, count = Infinity, json = false, notable = false } = flags;
  let left = count;
  for await (const { events, missed } of client.events(notable, new AbortController().signal)) {
    if (missed > 0n) showMissed(output, missed, json);
    for (const event of events) {
      if (kind !== undefined && event.kind !== kind) continue;
      if (json) output.jsonLine(eventView(event));
      else output.table([], [eventRow(event)]);
      left -= 1;
      if (left === 0) return;
    }
    // Whoever reads this output slowly holds up the agent's stream, not this program's memory.
    await output.written();
  }
}

function showMissed(output: Output, missed: bigint, isJson: boolean): void {
  if (isJson) output.jsonLine({ missed });
  else process.stderr.write(`ygg: ${missed} events were missed: they came faster than they were read\n`);
}

export function eventRow({ at, kind, name, key, messageId, directive, worker, detail }: Event): readonly Cell[] {
  const subject = kind === 'worker' ? worker : key === 0n ? '' : key;
  return [instant(at), kind, name, subject, messageId, directive, detail];
}

function eventView({ at, kind, name, key, messageId, directive, worker, detail }: Event): unknown {
  const of = { message_id: messageId, directive, worker, detail };
  const told = Object.entries(of).filter(([, value]) => value !== '');
  return { at: instant(at), kind, event: name, ...(key === 0n ? {} : { key }), ...Object.fromEntries(told) };
}
