/** Sends each message of an export, one after the other, and tells what became of it. */
import { errorText } from '../errors.js';
import { printable } from '../message/index.js';
import { linesOf, readLine, type OutgoingMessage } from './export-line.js';
import { nameOf } from './outgoing.js';
import type { Output } from './output.js';
import { Progress } from './progress.js';

/** What became of a line. */
interface Outcome {
  readonly line: number;
  readonly message_id?: string;
  readonly outcome: string;
  readonly key?: bigint;
  readonly reason?: string;
}

/**
 * A line that is no message, or is refused, is told and keeps the others from nothing; the exit code is 1 then. Results
 * are passed over: nobody can be given one.
 */
export async function sendLines(
  path: string,
  { json = false }: { readonly json?: boolean },
  output: Output,
  send: (message: OutgoingMessage) => Promise<Pick<Outcome, 'outcome' | 'key'>>,
): Promise<void> {
  const progress = new Progress(output);
  let sent = 0;
  let results = 0;
  const outcomes = async function* (): AsyncGenerator<Outcome> {
    for await (const { line, number } of linesOf(path)) {
      const read = readLine(line);
      if (read.kind === 'result') {
        results += 1;
        continue;
      }
      let outcome: Outcome;
      try {
        if (read.kind === 'problem') throw new Error(read.problem);
        outcome = { line: number, message_id: read.message.messageId, ...(await send(read.message)) };
        sent += 1;
      } catch (error) {
        process.exitCode = 1;
        outcome = { line: number, outcome: 'refused', reason: errorText(error) };
        progress.clear();
        process.stderr.write(`ygg: line ${number} of ${nameOf(path)}: ${printable(errorText(error))}\n`);
      }
      progress.show(`${sent} sent`);
      yield outcome;
    }
  };
  try {
    if (json) await output.jsonList(outcomes());
    else {
      for await (const { message_id: id, outcome } of outcomes()) {
        if (id !== undefined) output.table([], [[id, outcome]]);
      }
    }
  } finally {
    progress.clear();
  }
  if (results > 0) process.stderr.write(`ygg: ${results} results were passed over: only messages can be sent\n`);
}
