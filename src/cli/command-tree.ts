/**
 * The tree of commands as plain values, read off commander's: for completion scripts, man pages and the reference.
 * What is hidden in the help is not in it. Nothing is run.
 */
import type { Argument, Command, Option } from 'commander';
import { argumentValues, flagValues, type Values } from './completion/values.js';

export interface FlagNode {
  /** Short and long, as typed: `-V`, `--version`. */
  readonly names: readonly string[];
  readonly doc: string;
  readonly takes: 'nothing' | 'optional' | 'required';
  /** As the help writes it: `<path>`, `[seconds]`; nothing for a flag alone. */
  readonly placeholder: string;
  readonly values: Values;
  /** A heading of the help; nothing for most. */
  readonly group: string;
}

export interface ArgumentNode {
  readonly name: string;
  readonly doc: string;
  readonly isRequired: boolean;
  readonly isVariadic: boolean;
  readonly values: Values;
}

export interface CommandNode {
  /** With the program's name first: `ygg messages list`. */
  readonly path: readonly string[];
  readonly doc: string;
  readonly flags: readonly FlagNode[];
  readonly args: readonly ArgumentNode[];
  readonly commands: readonly CommandNode[];
  /** The one that runs where none is named. */
  readonly standard: string | undefined;
}

/** Reads a command and all below it. */
export function readTree(command: Command, above: readonly string[] = []): CommandNode {
  const path = [...above, command.name()];
  const help = command.createHelp();
  return {
    path,
    doc: command.description(),
    flags: help.visibleOptions(command).map((option) => readFlag(option, path)),
    args: command.registeredArguments.map((argument) => readArgument(argument, path)),
    commands: help.visibleCommands(command).map((each) => readTree(each, path)),
    standard: standardOf(command),
  };
}

/** A command and all below it, parents first. */
export function flatten(node: CommandNode): readonly CommandNode[] {
  return [node, ...node.commands.flatMap(flatten)];
}

/** The name of the command that runs where none is named. Commander tells nobody; a test holds it to this. */
export function standardOf(command: Command): string | undefined {
  const name: unknown = Reflect.get(command, '_defaultCommandName');
  return typeof name === 'string' ? name : undefined;
}

function readFlag(option: Option, path: readonly string[]): FlagNode {
  const { short, long, description, required, optional, flags, argChoices, helpGroupHeading } = option;
  const placeholder = /[<[].*$/.exec(flags)?.[0] ?? '';
  return {
    names: [short, long].filter((name) => name !== undefined),
    doc: description,
    takes: required ? 'required' : optional ? 'optional' : 'nothing',
    placeholder,
    values: flagValues(long ?? short ?? '', plainName(placeholder), argChoices, path),
    group: helpGroupHeading ?? '',
  };
}

function readArgument(argument: Argument, path: readonly string[]): ArgumentNode {
  const { description, required, variadic, argChoices } = argument;
  const name = argument.name();
  return {
    name,
    doc: description,
    isRequired: required,
    isVariadic: variadic,
    values: argumentValues(name, argChoices, path),
  };
}

function plainName(placeholder: string): string {
  return placeholder.replace(/^[<[]|\.{3}|[>\]]$/g, '');
}
