/** `ygg connect`: enrols this machine, and starts its agent. What it does is in connect/, and is loaded when it is called. */
import type { Command } from 'commander';
import { timeoutArgument } from './broker-command.js';
import type { ConnectFlags } from './connect/way.js';

export function addConnectCommand(program: Command): void {
  const several = (value: string, before: readonly string[] | undefined): readonly string[] => [
    ...(before ?? []),
    value,
  ];
  program
    .command('connect')
    .description('enrol this machine, by registration or with a certificate, and start its agent')
    .optionsGroup('By registration:')
    .option('--organization <id>', 'register with this organization (com.redhat.RHSM1)')
    .option(
      '--activation-key <key>',
      'by this activation key; may be repeated. Every user can read arguments: a file is better',
      several,
    )
    .option('--activation-key-file <path>', 'by the activation keys in this file, one a line')
    .option('--username <name>', 'by this user; the password is asked for on the terminal')
    .option('--password-file <path>', 'the user’s password, in one line')
    .option('--server-url <url>', 'register at this server (default: as rhsm.conf says)')
    .option('--environment <name>', 'register to this environment; may be repeated', several)
    .option('--content-template <name>', 'register with this content template; may be repeated', several)
    .option('--enable-content', 'enable the content that the registration brings')
    .optionsGroup('By certificate:')
    .option('--cert <path>', 'enrol with this certificate; it is checked and copied')
    .option('--key <path>', 'its key (default: the one that --csr made)')
    .option('--ca <path>', 'the authority of the broker’s certificate (default: the system’s authorities)')
    .option(
      '--csr [path]',
      'make a key, and a request to have its certificate signed, into this file or to standard output',
    )
    .option('--client-id <id>', 'the name to ask for in the request (default: as before, else a new UUID)')
    .optionsGroup('Options:')
    .option('--broker <url>', 'the broker to set; may be repeated', several)
    .option(
      '--config <path>',
      'the agent’s configuration file; certificates go beside it (default: /etc/yggdrasil/config.toml)',
    )
    .option('--group <name>', 'the daemon’s group, which may read the key (default: yggdrasil)')
    .option('--force', 'register anew; overwrite files that others put there')
    .option('--no-start', 'do not enable and start yggd.service')
    .option('--timeout <time>', 'how long to wait for a registration (5m), or for systemd (2m)', timeoutArgument)
    .option('--json', 'print one JSON document')
    .action(async (flags: ConnectFlags) => (await import('./connect/run.js')).connect(flags));
}
