/** `ygg version`: what is installed, what runs, and on what. */
import { arch, release } from 'node:os';
import type { Command } from 'commander';
import { VERSION } from '../version.js';
import { asksAgent, withAgentIfThere, type AdminFlags } from './admin-command.js';

export function addVersionCommand(program: Command): void {
  asksAgent(program.command('version'))
    .description('the versions of this command, of the agent that runs, and of what they run on')
    .action(async (flags: AdminFlags) => {
      await withAgentIfThere(flags, async (client, output, problem) => {
        const agent = await client?.status();
        const { node } = process.versions;
        const platform = `${process.platform} ${release()} ${arch()}`;
        if (flags.json === true) {
          output.json({
            ...{ ygg: VERSION, agent: agent?.version ?? null, agent_problem: problem || null, node },
            ...{ platform: process.platform, kernel: release(), arch: arch() },
          });
          return;
        }
        output.fields([
          ['ygg', VERSION],
          ['agent', agent === undefined ? problem : `${agent.version}, pid ${agent.pid}`],
          ['Node', node],
          ['platform', platform],
        ]);
      });
    });
}
