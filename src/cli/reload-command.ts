/** `ygg reload`: what SIGHUP does, with an answer. */
import type { Command } from 'commander';
import { AgentError } from '../errors.js';
import { printable } from '../message/index.js';
import { asksAgent, withAgent, type AdminFlags } from './admin-command.js';

export function addReloadCommand(program: Command): void {
  asksAgent(program.command('reload'))
    .description('read the configuration again, take over what can be, and tell what needs a restart')
    .action(async (flags: AdminFlags) => {
      await withAgent(flags, async (client, output) => {
        const reloaded = await client.reload();
        const { problems, warnings, changed, needsRestart, workers, workerProblems, credentials } = reloaded;
        if (flags.json === true) {
          output.json({
            ...{ reloaded: problems.length === 0, problems, warnings, changed, needs_restart: needsRestart, workers },
            ...{ worker_problems: workerProblems, credentials },
            credentials_problem: reloaded.credentialsProblem || null,
          });
        }
        for (const warning of warnings) tell(`warning: ${warning}`);
        if (problems.length > 0) {
          const text = `nothing was reloaded, the agent goes on as it was:\n${problems.map((each) => printable(each)).join('\n')}`;
          throw new AgentError('config.invalid', text, { problems: problems.length });
        }
        for (const problem of workerProblems) tell(problem);
        if (credentials === 'kept')
          tell(`the new credentials cannot be used, the old ones stay: ${reloaded.credentialsProblem}`);
        if (flags.json === true) return;
        output.line('reloaded');
        const names = (list: readonly string[]): string => list.join(', ');
        output.fields([
          ['in force now', names(changed) || 'no other settings'],
          ...(needsRestart.length > 0 ? [['needs a restart', names(needsRestart)] as const] : []),
          ...(workers.length > 0 ? [['workers restarted', names(workers)] as const] : []),
          ...(credentials === 'renewed' ? [['credentials', 'renewed'] as const] : []),
        ]);
      });
    });
}

function tell(text: string): void {
  process.stderr.write(`ygg: ${printable(text)}\n`);
}
