/**
 * The program `ygg`: the operator's and the worker author's command line. Each command has a file of its own.
 */
import { Command } from 'commander';
import { AgentError, errorText } from '../errors.js';
import { VERSION } from '../version.js';
import { addLinkCommand } from './link-command.js';
import { addListenCommand } from './listen-command.js';
import { addMessagesCommand } from './messages-command.js';
import { addPingCommand } from './ping-command.js';
import { addSendCommand } from './send-command.js';
import { addStatusCommand } from './status-command.js';
import { addWorkerCommand } from './worker-run.js';
import { addWorkersCommand } from './workers-command.js';

const EX_SOFTWARE = 70;

const program = new Command('ygg')
  .description('the command line of the Yggdrasil agent')
  .version(VERSION, '-V, --version')
  .showSuggestionAfterError()
  .showHelpAfterError('(ygg --help tells the commands)')
  .enablePositionalOptions();
addStatusCommand(program);
addWorkersCommand(program);
addMessagesCommand(program);
addLinkCommand(program);
addPingCommand(program);
addSendCommand(program);
addListenCommand(program);
addWorkerCommand(program);

void start();

async function start(): Promise<void> {
  try {
    await program.parseAsync();
  } catch (error) {
    process.stderr.write(`ygg: ${errorText(error)}\n`);
    process.exitCode = error instanceof AgentError ? error.exitCode : EX_SOFTWARE;
  }
}
