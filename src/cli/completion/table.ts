/**
 * The tree of commands as the completion scripts look things up: by the words of a command, with the same few questions
 * in each shell. A group of commands with a standard one takes that one's flags and arguments as its own.
 */
import { flatten, type CommandNode, type FlagNode } from '../command-tree.js';
import type { Values } from './values.js';

export interface Offer {
  readonly word: string;
  readonly doc: string;
}

export interface Entry {
  /** `ygg messages list` */
  readonly command: string;
  readonly commands: readonly Offer[];
  readonly flags: readonly Offer[];
  /** By flag, what its value may be; flags that take none are not in it. */
  readonly values: readonly { readonly flags: readonly string[]; readonly wants: string }[];
  /** What each argument may be; of a variadic last one the index is `*`. */
  readonly args: readonly { readonly index: string; readonly wants: string }[];
}

/** One entry for each command of each program. */
export function completionTable(programs: readonly CommandNode[]): readonly Entry[] {
  return programs.flatMap(flatten).map(entryOf);
}

function entryOf(node: CommandNode): Entry {
  const standard = node.commands.find(({ path }) => path.at(-1) === node.standard);
  const flags = unique([...node.flags, ...(standard?.flags ?? [])]);
  const args = [...node.args, ...(standard?.args ?? [])];
  return {
    command: node.path.join(' '),
    commands: node.commands.map(({ path, doc }) => ({ word: path.at(-1) ?? '', doc: oneLine(doc) })),
    flags: flags.flatMap(({ names, doc }) => names.map((word) => ({ word, doc: oneLine(doc) }))),
    values: flags
      .filter(({ takes }) => takes !== 'nothing')
      .map(({ names, takes, values }) => ({
        flags: names,
        wants: `${takes === 'optional' ? 'maybe ' : ''}${wanted(values)}`,
      })),
    args: args.map(({ values, isVariadic }, index) => ({
      index: isVariadic ? '*' : String(index),
      wants: wanted(values),
    })),
  };
}

/** As a script has it: `words a b`, `live workers`, `files`. */
function wanted(values: Values): string {
  if (values.kind === 'words') return `words ${values.words.filter((word) => /^[\w.:@%+/-]+$/.test(word)).join(' ')}`;
  return values.kind === 'live' ? `live ${values.what}` : values.kind;
}

function unique(flags: readonly FlagNode[]): readonly FlagNode[] {
  const known = new Map(flags.map((flag) => [flag.names.join(), flag]));
  return [...known.values()];
}

/** A menu shows one line, and of that the beginning. */
function oneLine(doc: string): string {
  return (doc.split('\n', 1)[0] ?? '').replace(/\s+/g, ' ').trim();
}
