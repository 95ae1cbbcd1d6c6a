/** `ygg link`: the connection to the broker, up or down by hand. */
import type { Command } from 'commander';
import { asksAgent, withAgent, type AdminFlags } from './admin-command.js';

export function addLinkCommand(program: Command): void {
  const link = program.command('link').description('the connection to the broker');
  for (const [way, description] of [
    ['up', 'connect now, also after the agent was told to stay disconnected'],
    ['down', 'say goodbye to the broker and stay disconnected until `ygg link up`, a reload or a restart'],
  ] as const) {
    asksAgent(link.command(way))
      .description(description)
      .action(async (flags: AdminFlags) => {
        await withAgent(flags, async (client, output) => {
          await client.setLink(way === 'up');
          if (flags.json === true) output.json({ link: way });
          else output.line(way === 'up' ? 'connecting; `ygg status` tells how it went' : 'disconnected');
        });
      });
  }
}
