/** `ygg workers logs`: what a worker wrote, from the agent's memory, and what it writes. */
import type { Command } from 'commander';
import { asksAgent, countArgument, withAgent, type AdminFlags } from './admin-command.js';
import { followed, LAST_WHEN_FOLLOWING, tellMissed, type FollowFlags } from './follow.js';
import { instant } from './output.js';

export function addWorkerLogsCommand(workers: Command): void {
  asksAgent(workers.command('logs'), 'print a JSON object for each line')
    .description('what a worker wrote to standard output and standard error, as far as the agent keeps it')
    .argument('<name>', 'the name of its executable')
    .option('-f, --follow', 'go on with what it writes, until Ctrl-C')
    .option('-n, --lines <n>', `the last so many (default: all; with -f ${LAST_WHEN_FOLLOWING})`, countArgument)
    .action(async (worker: string, flags: AdminFlags & FollowFlags) => {
      await withAgent(flags, async (client, output) => {
        for await (const { lines, missed } of client.output({ worker, ...followed(flags) })) {
          tellMissed(output, missed, flags);
          for (const { at, pid, stream, text } of lines) {
            if (flags.json === true) output.jsonLine({ at: instant(at), worker, pid, stream, text });
            else output.table([], [[instant(at), stream, text]]);
          }
        }
      });
    });
}
