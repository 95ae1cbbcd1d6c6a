/**
 * Wrong use of the command line: each word that is none of ours is told with the one that is nearest, at every level of
 * the tree, and the program ends with 64, as sysexits(3) has it. Commander knows neither for a group with a standard
 * command: there a mistyped name is an argument too many of that one.
 */
import { type Command, CommanderError } from 'commander';
import { nearestName } from '../config/index.js';
import { standardOf } from './command-tree.js';

const EX_USAGE = 64;

/** The exit code when commander ends a run: 0 after help and version. Undefined for any other error. */
export function exitCodeOf(error: unknown): number | undefined {
  if (!(error instanceof CommanderError)) return undefined;
  return error.exitCode === 0 ? 0 : EX_USAGE;
}

/** Makes a group tell the nearest of its commands, where its standard one would complain of an argument too many. */
export function suggestCommands(command: Command): void {
  const names = command.commands.map((each) => each.name());
  const standard = command.commands.find((each) => each.name() === standardOf(command));
  standard?.allowExcessArguments().hook('preAction', (_, run) => {
    const word = run.args[run.registeredArguments.length];
    if (word === undefined || run.registeredArguments.at(-1)?.variadic === true) return;
    const nearest = nearestName(word, names);
    const hint = nearest === undefined ? '' : `\n(Did you mean ${nearest}?)`;
    command.error(`error: unknown command '${word}'${hint}`, { code: 'commander.unknownCommand' });
  });
  command.commands.forEach(suggestCommands);
}
