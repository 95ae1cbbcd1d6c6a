/** The program `ygg`: the operator's and the worker author's command line. */
import { AgentError, errorText } from '../errors.js';
import { yggCommand } from './commands.js';
import { exitCodeOf } from './usage.js';

const EX_SOFTWARE = 70;

void start();

async function start(): Promise<void> {
  try {
    await yggCommand().parseAsync();
  } catch (error) {
    const usage = exitCodeOf(error);
    if (usage !== undefined) {
      process.exitCode = usage;
      return;
    }
    process.stderr.write(`ygg: ${errorText(error)}\n`);
    process.exitCode = error instanceof AgentError ? error.exitCode : EX_SOFTWARE;
  }
}
