/** `ygg listen`: what an agent, or the whole fleet, says through the broker. */
import type { Command } from 'commander';
import { countArgument } from './admin-command.js';
import { asksBroker, clientArgument, withBroker, type BrokerDesk, type BrokerFlags } from './broker-command.js';
import { envelopeOf, now, text, type Envelope } from './heard.js';
import type { Output } from './output.js';

export function addListenCommand(program: Command): void {
  asksBroker(program.command('listen'))
    .description('print what an agent, or the whole fleet, publishes, until Ctrl-C')
    .argument('[client]', 'a client id (default: all that the broker lets you hear)', clientArgument)
    .option('--count <n>', 'end after so many', countArgument)
    .action(async (client: string | undefined, flags: BrokerFlags & { readonly count?: number }) => {
      await withBroker(
        flags,
        (prefix) => ['control', 'data'].map((kind) => `${prefix}/${client ?? '+'}/${kind}/out`),
        (desk, output) => listen(desk, output, flags),
      );
    });
}

function listen(
  desk: BrokerDesk,
  output: Output,
  { count = Infinity, json = false }: { readonly count?: number; readonly json?: boolean },
): Promise<void> {
  const scope = new AbortController();
  return new Promise((resolve) => {
    let left = count;
    desk.hear((delivery) => {
      delivery.ack();
      const envelope = envelopeOf(delivery);
      // One that tells that an agent has no status any more is empty.
      if (envelope === undefined || left === 0) return;
      const client = delivery.topic.split('/').at(-3) ?? '';
      if (json)
        output.line(
          JSON.stringify({ ...envelope, at: now(), client, topic: delivery.topic, retained: delivery.retain }),
        );
      else output.table([], [[now(), client, ...summaryOf(envelope)]]);
      left -= 1;
      if (left > 0) return;
      scope.abort();
      resolve();
    }, scope.signal);
  });
}

/** Type, what it is about, and its content in one line. */
function summaryOf({ type, directive, response_to: to, metadata, content }: Envelope): readonly string[] {
  if (type === 'connection-status') {
    const { state, dispatchers } = (content ?? {}) as {
      readonly state?: unknown;
      readonly dispatchers?: object | null;
    };
    return [text(type), text(state), Object.keys(dispatchers ?? {}).join(',')];
  }
  if (type === 'event') return [text(type), text(content), text(to)];
  const error = metadata as { readonly error?: unknown } | null | undefined;
  return [text(type), text(directive), text(to), error?.error === undefined ? text(content) : text(error.error)];
}
