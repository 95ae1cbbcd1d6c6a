/** `ygg messages answers`: what came back to a message that was dispatched on this machine, and was not collected yet. */
import type { Command } from 'commander';
import { asksAgent, withAgent, type AdminFlags } from './admin-command.js';
import { AgentError } from '../errors.js';
import { ANSWER_WITHIN_MS, collect } from './answers.js';
import { timeoutArgument } from './broker-command.js';

export function addAnswersCommand(messages: Command): void {
  asksAgent(messages.command('answers'))
    .description('print the answers to a message that was dispatched on this machine, and keep them no longer')
    .argument('<id>', 'the message id, as `ygg dispatch` printed it')
    .option('--wait', 'wait for one when there is none yet')
    .option('--timeout <time>', 'how long to wait for it (default: 10s)', timeoutArgument)
    .action(async (id: string, flags: AdminFlags & { readonly wait?: boolean; readonly timeout?: number }) => {
      const { wait = false, timeout = ANSWER_WITHIN_MS, json = false } = flags;
      await withAgent(flags, async (client, output) => {
        const scope = new AbortController();
        const options = { client, output, messageId: id, timeout: wait ? timeout : undefined, isJson: json };
        const count = await collect(client.answers(id, wait, scope.signal), scope, options);
        if (count === 0) throw new AgentError('admin.refused', `no answer to ${id} waits here`);
      });
    });
}
