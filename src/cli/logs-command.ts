/** `ygg logs`: the agent's own log, from its memory, and what it logs from now on. */
import { Option, type Command } from 'commander';
import { LOG_LEVELS } from '../admin/index.js';
import { textLine, type Line } from '../log/format.js';
import { asksAgent, countArgument, withAgent, type AdminFlags } from './admin-command.js';
import { followed, LAST_WHEN_FOLLOWING, tellMissed, type FollowFlags } from './follow.js';
import type { Output } from './output.js';

interface LogFlags extends AdminFlags, FollowFlags {
  readonly level?: (typeof LOG_LEVELS)[number];
}

export function addLogsCommand(program: Command): void {
  asksAgent(program.command('logs'), 'print a JSON object for each line')
    .description('the log of the agent, as far as it keeps it in memory; older lines are in the journal')
    .option('-f, --follow', 'go on with what it logs, until Ctrl-C')
    .option('-n, --lines <n>', `the last so many (default: all; with -f ${LAST_WHEN_FOLLOWING})`, countArgument)
    .addOption(new Option('--level <level>', 'lines of this level, and graver ones').choices(LOG_LEVELS))
    .action(async (flags: LogFlags) => {
      await withAgent(flags, async (client, output) => {
        let isFirst = true;
        for await (const { lines, missed, level } of client.log({ ...followed(flags), level: flags.level ?? '' })) {
          if (isFirst) tellLevel(level, flags.level);
          isFirst = false;
          tellMissed(output, missed, flags);
          for (const line of lines) show(output, line, flags);
        }
      });
    });
}

/** What the agent does not log cannot be shown. */
function tellLevel(logged: string, wanted: string | undefined): void {
  const rank = (level: string): number => LOG_LEVELS.findIndex((each) => each === level);
  if (wanted === undefined || rank(wanted) <= rank(logged)) return;
  process.stderr.write(
    `ygg: the agent logs at ${logged}: for more set log-level = "${wanted}" in its configuration, and \`ygg reload\`\n`,
  );
}

function show(output: Output, json: string, { json: isJson = false }: LogFlags): void {
  const { time, level, event, text, ...fields } = JSON.parse(json) as Line & Readonly<Record<string, unknown>>;
  if (isJson) output.jsonLine({ time, level, event, text, ...fields });
  else if (output.isTerminal) output.line(textLine({ time, level, event, text, fields }, !process.env.NO_COLOR));
  else output.table([], [[time, level, event, text, JSON.stringify(fields)]]);
}
