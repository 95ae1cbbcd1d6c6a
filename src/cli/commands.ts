/**
 * All that `ygg` can be told to do, as one tree of commands. The program parses with it; its help, man page and
 * completions are read off it. Each command has a file of its own.
 */
import { Command } from 'commander';
import { VERSION } from '../version.js';
import { addConfigCommand } from './config-command.js';
import { addCompletionCommand } from './completion-command.js';
import { addConnectCommand } from './connect-command.js';
import { addDisconnectCommand } from './disconnect-command.js';
import { addFactsCommand } from './facts-command.js';
import { addDoctorCommand } from './doctor-command.js';
import { addDispatchCommand } from './dispatch-command.js';
import { addEventsCommand } from './events-command.js';
import { addLinkCommand } from './link-command.js';
import { addListenCommand } from './listen-command.js';
import { addLogsCommand } from './logs-command.js';
import { addMessagesCommand } from './messages-command.js';
import { addPingCommand } from './ping-command.js';
import { addReloadCommand } from './reload-command.js';
import { addSendCommand } from './send-command.js';
import { addStatusCommand } from './status-command.js';
import { addTopCommand } from './top-command.js';
import { addVersionCommand } from './version-command.js';
import { addSupportBundleCommand } from './support-bundle-command.js';
import { suggestCommands } from './usage.js';
import { addWorkerCommand } from './worker-run.js';
import { addWorkersCommand } from './workers-command.js';

/** Makes the tree anew; nothing runs before it is given arguments to parse. */
export function yggCommand(): Command {
  const program = new Command('ygg')
    .description('the command line of the Yggdrasil agent')
    .version(VERSION, '-V, --version')
    .showSuggestionAfterError()
    .showHelpAfterError('(ygg --help tells the commands)')
    .exitOverride()
    .enablePositionalOptions();
  addStatusCommand(program);
  addWorkersCommand(program);
  addMessagesCommand(program);
  addLinkCommand(program);
  addLogsCommand(program);
  addConfigCommand(program);
  addReloadCommand(program);
  addFactsCommand(program);
  addTopCommand(program);
  addDispatchCommand(program);
  addEventsCommand(program);
  addPingCommand(program);
  addSendCommand(program);
  addListenCommand(program);
  addDoctorCommand(program);
  addSupportBundleCommand(program);
  addWorkerCommand(program);
  addConnectCommand(program);
  addDisconnectCommand(program);
  addVersionCommand(program);
  addCompletionCommand(program);
  suggestCommands(program);
  return program;
}
