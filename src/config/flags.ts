/**
 * The command line of `yggd`, made from the declarations: parsing, which collects all problems instead of ending at
 * the first, and the help, which lists every setting by group.
 */
import { Command, CommanderError, Option } from 'commander';
import { defaultTexts } from './example.js';
import { originalSetting, ORIGINAL_SETTINGS } from './original.js';
import { didYouMean, type Problem } from './problem.js';
import { GROUPS, SETTING_NAMES, SETTINGS, settingOf, type SettingName } from './settings.js';

export type FlagsResult =
  | { readonly kind: 'help' }
  | { readonly kind: 'version' }
  | {
      readonly kind: 'flags';
      /** Setting (or a name of the original) → the texts given, in order. */
      readonly texts: ReadonlyMap<string, readonly string[]>;
      readonly configFile: string | undefined;
      readonly isCheckOnly: boolean;
      readonly problems: readonly Problem[];
    };

const AGENT_FLAGS = ['config', 'check-config', 'help', 'version'];

/** Reads the arguments after the program's name. */
export function parseFlags(argv: readonly string[]): FlagsResult {
  const texts = new Map<string, string[]>();
  const command = buildCommand((name, value) => texts.set(name, [...(texts.get(name) ?? []), value]));
  const problems: Problem[] = [];
  try {
    const { operands, unknown } = command.parseOptions(argv.map(doubleDash));
    problems.push(...operands.map((word) => flagProblem(word, 'unexpected argument: settings are given as flags')));
    // What follows an unknown flag may be its value, so only the flags are told.
    problems.push(...unknown.filter((word) => word.startsWith('-') && word !== '--').map(unknownFlag));
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    problems.push({ code: 'config.invalid', text: error.message.replace(/^error: /, '') });
  }
  const last = (name: string): string | undefined => texts.get(name)?.at(-1);
  if (last('help') !== undefined) return { kind: 'help' };
  if (last('version') !== undefined) return { kind: 'version' };
  const isCheckOnly = last('check-config') !== undefined;
  const configFile = last('config');
  for (const flag of AGENT_FLAGS) texts.delete(flag);
  return { kind: 'flags', texts, configFile, isCheckOnly, problems };
}

/** The text of `--help`: grouped, every setting in it. */
export function helpText(): string {
  return daemonCommand().helpInformation();
}

/** The command itself, which takes nothing: its help, man page and completions are read off it. */
export function daemonCommand(): Command {
  return buildCommand(() => undefined);
}

function buildCommand(take: (name: string, value: string) => void): Command {
  const command = new Command('yggd')
    .usage('[options]')
    .description(
      'Connects this machine to an MQTT broker and hands its messages to local workers.\n' +
        'Each setting is a key of config.toml, a flag and an environment variable (YGGD_LOG_LEVEL); flags win over the\n' +
        'environment, the environment over the file.',
    )
    .helpOption(false)
    .exitOverride()
    .allowUnknownOption()
    // The preset is the same for all and would only be noise.
    .configureHelp({ optionDescription: (option) => option.description })
    .configureOutput({
      writeErr: () => undefined,
      getOutHelpWidth: () => 110,
      getOutHasColors: () => false,
      outputError: () => undefined,
    });
  const add = (option: Option, name: string, alone = 'true'): void => {
    command.addOption(
      option.preset(alone).argParser((value: string) => {
        take(name, value);
        return undefined;
      }),
    );
    // A flag without a value never reaches its parser, only the event.
    if (!option.required && !option.optional) command.on(`option:${option.name()}`, () => take(name, alone));
  };
  add(
    new Option('--config <FILE>', 'Read the settings from FILE instead of config.toml in config-dir.').helpGroup(
      'Agent:',
    ),
    'config',
  );
  add(
    new Option('--check-config', 'Check the settings, tell all problems, and exit.').helpGroup('Agent:'),
    'check-config',
  );
  add(new Option('-h, --help', 'Show this help.').helpGroup('Agent:'), 'help');
  add(new Option('-v, --version', 'Show the version.').helpGroup('Agent:'), 'version');
  for (const group of GROUPS) {
    for (const name of SETTING_NAMES.filter((each) => SETTINGS[each].group === group)) {
      const { kind, doc } = settingOf(name);
      const argument = kind.alone === undefined ? `<${kind.argument}>` : `[${kind.argument}]`;
      const option = new Option(`--${name} ${argument}`, helpLine(name, doc)).helpGroup(`${group}:`);
      if (kind.words !== undefined) option.choices(kind.words);
      // What is not one of them is told later, with all other problems: the parser set here takes anything.
      add(option, name, kind.alone);
    }
  }
  for (const [name, original] of Object.entries(ORIGINAL_SETTINGS)) {
    if (original.kind !== 'same') add(new Option(`--${name} [VALUE]`).hideHelp(), name);
  }
  return command;
}

function helpLine(name: SettingName, doc: string): string {
  const repeated = settingOf(name).kind.isList === true ? ' May be repeated.' : '';
  const [asRoot, asUser] = defaultTexts(name);
  if (asRoot === undefined) return `${doc}${repeated}`;
  return `${doc}${repeated} [${asRoot === asUser ? asRoot : `as root ${asRoot}, else ${asUser}`}]`;
}

/** The original's flags may stand with one dash. */
function doubleDash(word: string): string {
  const name = /^-([a-z][a-z0-9-]+)(=|$)/.exec(word)?.[1];
  const isKnown =
    name !== undefined &&
    (Object.hasOwn(SETTINGS, name) || originalSetting(name) !== undefined || AGENT_FLAGS.includes(name));
  return isKnown ? `-${word}` : word;
}

function unknownFlag(word: string): Problem {
  const flag = word.split('=')[0] ?? word;
  const hint = didYouMean(flag.replace(/^-+/, ''), [...SETTING_NAMES, ...AGENT_FLAGS]).replace('“', '“--');
  return flagProblem(flag, `unknown flag${hint === '' ? '; --help lists all' : hint}`);
}

function flagProblem(source: string, text: string): Problem {
  return { code: 'config.invalid', text, source };
}
