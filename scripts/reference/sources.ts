/** What man pages and reference documents are made of: the commands, the settings, and the meaning of exit codes. */
import { readTree, type CommandNode, type FlagNode } from '../../src/cli/command-tree.js';
import { yggCommand } from '../../src/cli/commands.js';
import { daemonCommand } from '../../src/config/index.js';
import { defaultTexts } from '../../src/config/example.js';
import { GROUPS, SETTING_NAMES, SETTINGS, settingOf, variableOf, type SettingName } from '../../src/config/settings.js';
import { WORKER_KEYS } from '../../src/config/worker-settings.js';
import { ERRORS } from '../../src/errors.js';
import { VERSION } from '../../src/version.js';

export { VERSION };

export interface SettingText {
  readonly name: SettingName;
  readonly argument: string;
  readonly doc: string;
  /** What a value must be. */
  readonly expects: string;
  readonly variable: string;
  /** As TOML; nothing where there is none. */
  readonly standard: string;
  readonly isSecret: boolean;
  readonly isReloadable: boolean;
}

/** `ygg` and all its commands. */
export const operatorTree = (): CommandNode => readTree(yggCommand());

/** `yggd` with its flags. */
export const daemonTree = (): CommandNode => readTree(daemonCommand());

/** The commands below a group that do something, in the order of the help; `help` is the same everywhere. */
export function leaves(node: CommandNode): readonly CommandNode[] {
  if (node.path.at(-1) === 'help') return [];
  return node.commands.length === 0 ? [node] : node.commands.flatMap(leaves);
}

/** `ygg messages show [flags] <key>` */
export function synopsis({ path, flags, args }: CommandNode): string {
  const words = args.map(({ name, isRequired, isVariadic }) => {
    const word = `${name}${isVariadic ? '...' : ''}`;
    return isRequired ? `<${word}>` : `[${word}]`;
  });
  return [...path, ...(flags.length > 0 ? ['[flags]'] : []), ...words].join(' ');
}

/** `-V, --version`, `--config <path>` */
export function flagText({ names, placeholder }: FlagNode): string {
  return `${names.join(', ')}${placeholder === '' ? '' : ` ${placeholder}`}`;
}

/** The flags of a command but the one for help. */
export function ownFlags({ flags }: CommandNode): readonly FlagNode[] {
  return flags.filter(({ names }) => !names.includes('--help'));
}

/** What a flag may be set to, where that is few words and its text does not name them. */
export function choicesText({ values, doc }: FlagNode): string {
  if (values.kind !== 'words' || values.words.every((word) => doc.includes(word))) return '';
  return values.words.join(', ') === 'true, false' ? '' : `One of ${values.words.join(', ')}.`;
}

export function settingsByGroup(): readonly { readonly group: string; readonly settings: readonly SettingText[] }[] {
  return GROUPS.map((group) => ({
    group,
    settings: SETTING_NAMES.filter((name) => SETTINGS[name].group === group).map(settingText),
  }));
}

function settingText(name: SettingName): SettingText {
  const { kind, doc, isSecret, isReloadable } = settingOf(name);
  const [asRoot, asUser] = defaultTexts(name);
  const standard =
    asRoot === undefined ? '' : asRoot === asUser ? asRoot : `${asRoot}; as another user than root ${asUser}`;
  const { argument, expects } = kind;
  return { name, argument, doc, expects, variable: variableOf(name), standard, isSecret, isReloadable };
}

/** The keys of a worker's own file. */
export function workerKeys(): readonly { readonly name: string; readonly expects: string; readonly doc: string }[] {
  const keys = Object.entries(WORKER_KEYS).map(([name, { kind, doc }]) => ({ name, expects: kind.expects, doc }));
  return [...keys, { name: 'env', expects: 'a table of texts', doc: 'More variables for its environment.' }];
}

const EXIT_CODES: Readonly<Record<number, string>> = {
  0: 'All is well; the daemon: stopped as asked.',
  1: 'What was asked for was refused; the text says why.',
  3: 'No agent is running there.',
  64: 'Wrong use of the command line.',
  65: 'What is to be sent is no message, or a file cannot be read or written.',
  69: 'Something outside is not available: the broker, the agent, a port.',
  70: 'A failure inside: the journal or a worker could not be used.',
  73: 'A directory cannot be used: not writable, or in use by another agent.',
  77: 'This user may not do that.',
  78: 'The configuration is wrong; the text names file and line, and what to do.',
};

/** Exit code → meaning. Throws when the catalogue of errors has one without a meaning. */
export function exitCodes(): readonly (readonly [number, string])[] {
  const known = Object.entries(EXIT_CODES).map(([code, meaning]) => [Number(code), meaning] as const);
  const missing = Object.values(ERRORS).find(({ exitCode }) => EXIT_CODES[exitCode] === undefined);
  if (missing !== undefined) throw new Error(`exit code ${missing.exitCode} has no meaning in ${import.meta.filename}`);
  return known;
}
