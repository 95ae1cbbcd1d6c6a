/** `ygg messages trace`: each step that a message and its answers have taken, with its time. */
import type { Command } from 'commander';
import type { TracedMessage } from '../admin/index.js';
import { asksAgent, withAgent, type AdminFlags } from './admin-command.js';
import { instant, type Cell, type Output } from './output.js';

const HEAD = ['KEY', 'WAY', 'STEP', 'TIME', 'AFTER', 'DETAIL'];

export function addTraceCommand(messages: Command): void {
  asksAgent(messages.command('trace'))
    .description('each step that a message and its answers have taken, with its time')
    .argument('<id>', 'its message id, or its key')
    .action(async (id: string, flags: AdminFlags) => {
      await withAgent(flags, async (client, output) => {
        const { messages: traced } = await client.trace(id);
        if (flags.json === true) output.json(traced.map(traceView));
        else showTrace(output, traced);
      });
    });
}

/** Steps of all of them, in the order of time: `AFTER` counts from the first. */
function showTrace(output: Output, traced: readonly TracedMessage[]): void {
  const [first] = traced;
  if (output.isTerminal && first !== undefined) {
    output.fields([
      ['message', first.messageId],
      ['directive', first.directive],
      ['state', first.state],
    ]);
    output.line('');
  }
  const rows = traced
    .flatMap(({ key, direction, steps }) => steps.map((step) => ({ key, direction, ...step })))
    .sort((a, b) => a.at - b.at);
  const begin = rows[0]?.at ?? 0;
  output.table(
    HEAD,
    rows.map(({ key, direction, name, at, detail }): readonly Cell[] => [
      key === 0n ? '-' : key,
      direction === 'inbound' ? 'in' : 'out',
      name,
      instant(at),
      milliseconds(at - begin),
      detail,
    ]),
  );
}

function milliseconds(span: number): string {
  return `${span.toFixed(span < 100 ? 2 : 0)} ms`;
}

function traceView({ key, direction, messageId, responseTo, directive, state, steps }: TracedMessage): unknown {
  return {
    key: key === 0n ? null : key,
    direction,
    ...{ message_id: messageId, response_to: responseTo, directive, state },
    steps: steps.map(({ name, at, detail }) => ({
      step: name,
      at: instant(at),
      at_ms: round(at),
      detail: detail || null,
    })),
  };
}

/** Microseconds are more than the clock is good for. */
function round(at: number): number {
  return Math.round(at * 1000) / 1000;
}
