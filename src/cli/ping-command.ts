/** `ygg ping`: whether an agent is there, asked as a server asks it, through the broker. */
import type { Command } from 'commander';
import { encodeCommand, newMessageId } from '../message/index.js';
import { asksBroker, clientArgument, timeoutArgument, withBroker, type BrokerFlags } from './broker-command.js';
import { answerTo, now } from './heard.js';

export function addPingCommand(program: Command): void {
  asksBroker(program.command('ping'))
    .description('ask an agent, through the broker, whether it is there')
    .argument('<client>', 'its client id', clientArgument)
    .option('--timeout <time>', 'how long to wait (default: 10s)', timeoutArgument)
    .action(async (client: string, flags: BrokerFlags & { readonly timeout?: number }) => {
      await withBroker(
        flags,
        (prefix) => [`${prefix}/${client}/control/out`],
        async (desk, output) => {
          const began = performance.now();
          const id = newMessageId();
          const answer = answerTo(desk, id, flags.timeout, client);
          await desk.publish(`${desk.prefix}/${client}/control/in`, encodeCommand(id, now(), 'ping'));
          await answer;
          const ms = Math.round(performance.now() - began);
          if (flags.json === true) output.json({ client, answer: 'pong', milliseconds: ms });
          else output.line(`pong from ${client} after ${ms} ms`);
        },
      );
    });
}
