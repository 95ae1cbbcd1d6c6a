/** `ygg messages export`: messages with their contents, one JSON document a line, for another machine or a look later. */
import { createWriteStream } from 'node:fs';
import { once } from 'node:events';
import { finished } from 'node:stream/promises';
import type { Writable } from 'node:stream';
import { InvalidArgumentError, type Command } from 'commander';
import type { AdminClient } from '../admin/index.js';
import { parseSize } from '../config/index.js';
import { errnoOf, errorText } from '../errors.js';
import { printable } from '../message/index.js';
import { asksAgent, withAgent } from './admin-command.js';
import { exportLine } from './export-line.js';
import { filtered, filterOf, messageView, type ListFlags } from './messages.js';
import { invalid } from './outgoing.js';
import { size, type Output } from './output.js';
import { Progress } from './progress.js';

interface ExportFlags extends ListFlags {
  readonly output?: string;
  readonly contentLimit?: number;
}

/** What one answer of the agent may hold, less its envelope. */
const LARGEST_CONTENT = 63 * 1024 * 1024;

export function addExportCommand(messages: Command): void {
  filtered(asksAgent(messages.command('export'), 'with --output: print what was written as one JSON document'))
    .description(
      'messages with their contents, a JSON document a line; `--from` of `ygg dispatch` and `ygg send` reads it',
    )
    .option('--output <path>', 'write to this file, which must not exist (default: standard output)')
    .option('--content-limit <size>', 'leave out contents that are larger (default and most: 63MiB)', sizeArgument)
    .action(async (flags: ExportFlags) => {
      await withAgent(flags, async (client, output) => {
        const sink = flags.output === undefined ? undefined : await create(flags.output);
        const written = await exportTo(sink ?? process.stdout, client, output, flags);
        if (sink !== undefined) {
          sink.end();
          await finished(sink);
          if (flags.json === true) output.json({ output: flags.output, ...written });
          else
            output.line(
              `${written.messages} messages, ${size(written.bytes)}, are in ${printable(flags.output ?? '')}`,
            );
        }
        if (written.without_content === 0) return;
        process.exitCode = 1;
        process.stderr.write(
          `ygg: ${written.without_content} messages stand there without their content: see content_problem\n`,
        );
      });
    });
}

interface Written {
  readonly messages: number;
  readonly bytes: number;
  readonly without_content: number;
}

/** One message after the other: neither end holds more than that. */
async function exportTo(sink: Writable, client: AdminClient, output: Output, flags: ExportFlags): Promise<Written> {
  const limit = flags.contentLimit ?? LARGEST_CONTENT;
  const progress = new Progress(output);
  let [messages, bytes, without] = [0, 0, 0];
  try {
    for await (const message of client.messages({ ...filterOf(flags, Date.now()), contentLimit: BigInt(limit) })) {
      const view = messageView(message);
      const { contentProblem: problem, content } = message;
      const line =
        problem === '' ? exportLine(view, content) : exportLine({ ...view, content_problem: problem }, undefined);
      if (problem !== '') without += 1;
      // What JSON lets stand, and a terminal obeys, is escaped: it means the same.
      const isForEyes = sink === process.stdout && output.isTerminal;
      const text = isForEyes ? Buffer.from(`${printable(line.toString('utf8', 0, line.length - 1))}\n`) : line;
      if (!sink.write(text)) await once(sink, 'drain');
      messages += 1;
      bytes += text.length;
      progress.show(`${messages} messages, ${size(bytes)}`);
    }
  } finally {
    progress.clear();
  }
  return { messages, bytes, without_content: without };
}

/** For its owner alone: contents may be secrets. */
async function create(path: string): Promise<Writable> {
  const sink = createWriteStream(path, { flags: 'wx', mode: 0o600 });
  try {
    await once(sink, 'open');
  } catch (error) {
    const why = errnoOf(error) === 'EEXIST' ? 'it is there already: name another file, or delete it' : errorText(error);
    throw invalid(`cannot write to ${path}: ${why}`, error);
  }
  return sink;
}

function sizeArgument(text: string): number {
  const bytes = parseSize(text);
  if (bytes === undefined || bytes < 1 || bytes > LARGEST_CONTENT)
    throw new InvalidArgumentError('a size such as 64KiB or 16MiB, at most 63MiB.');
  return bytes;
}
