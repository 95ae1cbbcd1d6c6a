/** `ygg disconnect`: undoes `ygg connect`. What it does is in connect/, and is loaded when it is called. */
import type { Command } from 'commander';
import { timeoutArgument } from './broker-command.js';
import type { DisconnectFlags } from './connect/run.js';

export function addDisconnectCommand(program: Command): void {
  program
    .command('disconnect')
    .description('stop and disable the agent, clear its status at the broker, and take the registration back')
    .option('--purge', 'also remove the certificates and the key that connect copied or made')
    .option('--config <path>', 'the agent’s configuration file (default: /etc/yggdrasil/config.toml)')
    .option(
      '--timeout <time>',
      'how long to wait for systemd (2m), or for the registration service (5m)',
      timeoutArgument,
    )
    .option('--json', 'print one JSON document')
    .action(async (flags: DisconnectFlags) => (await import('./connect/run.js')).disconnect(flags));
}
