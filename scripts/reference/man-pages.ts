/** The man pages ygg(1), yggd(8) and yggdrasil-config.toml(5), in the man(7) macros of roff. */
import type { CommandNode, FlagNode } from '../../src/cli/command-tree.js';
import {
  choicesText,
  daemonTree,
  exitCodes,
  flagText,
  leaves,
  operatorTree,
  ownFlags,
  settingsByGroup,
  synopsis,
  VERSION,
  workerKeys,
} from './sources.js';

/** Path from the root → text. */
export function manPages(): readonly (readonly [string, string])[] {
  return [
    ['docs/man/ygg.1', operatorPage()],
    ['docs/man/yggd.8', daemonPage()],
    ['docs/man/yggdrasil-config.toml.5', configPage()],
  ];
}

const LETTERS: Readonly<Record<string, string>> = {
  '\\': '\\e',
  '-': '\\-',
  '’': '\\(cq',
  '‘': '\\(oq',
  '“': '\\(lq',
  '”': '\\(rq',
  '–': '\\(en',
  '…': '...',
  '→': '\\(->',
  '≥': '\\(>=',
  '×': '\\(mu',
  '`': '\\(ga',
  '^': '\\(ha',
  '~': '\\(ti',
  "'": '\\(aq',
};

/** Text as roff has it, whatever stands at the begin of a line. Throws for a letter that it has no name for. */
function roff(text: string): string {
  const escaped = text
    .replace(/\s+/g, ' ')
    .trim()
    .replace(/[^\x20-\x7e]|[\\\-`^~']/gu, (letter) => {
      const found = LETTERS[letter];
      if (found === undefined) throw new Error(`a man page has no letter for ${letter} in: ${text}`);
      return found;
    });
  return /^[.]/.test(escaped) ? `\\&${escaped}` : escaped;
}

const bold = (text: string): string => `\\fB${roff(text)}\\fR`;
const quoted = (text: string): string => `"${text.replaceAll('"', '\\(dq')}"`;
const heading = (text: string): string => `.SH ${quoted(roff(text))}`;
const section = (text: string): string => `.SS ${quoted(roff(text))}`;
const paragraph = (text: string): string => `.PP\n${roff(text)}`;
const entry = (term: string, text: string): string => `.TP\n${term}\n${text}`;
/** The words of a synopsis: what is typed as it stands is bold. */
const typed = (text: string): string =>
  text
    .split(' ')
    .map((word) => (/^[<[]/.test(word) ? `\\fI${roff(word)}\\fR` : bold(word)))
    .join(' ');

function page(name: string, manual: number, doc: string, parts: readonly string[]): string {
  return `${[
    '.\\" Made by scripts/generate-docs.ts from the sources; do not edit.',
    `.TH ${quoted(roff(name.toUpperCase()))} ${manual} "" "yggdrasil\\-agent ${roff(VERSION)}" "Yggdrasil agent"`,
    // Text flush left, and no word cut in two: names of flags are looked for as they stand.
    '.ad l\n.nh',
    heading('NAME'),
    `${roff(name)} \\- ${roff(doc)}`,
    ...parts,
  ].join('\n')}\n`;
}

function operatorPage(): string {
  const tree = operatorTree();
  const groups = tree.commands.filter(({ path }) => path.at(-1) !== 'help');
  return page('ygg', 1, tree.doc, [
    heading('SYNOPSIS'),
    typed('ygg <command> [flags] [arguments]'),
    heading('DESCRIPTION'),
    roff(
      'ygg asks the agent of this machine, or others through the broker. On a terminal it prints tables, in a pipe the same fields with tabs between them and without a head, and with --json one JSON document. Control characters in what others wrote are spelled out.',
    ),
    paragraph(
      'To ask the agent of this machine takes root, or a member of the group of the daemon (yggdrasil, as installed).',
    ),
    heading('FLAGS'),
    ...tree.flags.map(flagEntry),
    heading('COMMANDS'),
    ...groups.flatMap(commandSections),
    heading('EXIT STATUS'),
    ...exitStatus(),
    heading('ENVIRONMENT'),
    entry(bold('NO_COLOR'), roff('No colours, whatever the output is.')),
    heading('FILES'),
    entry(bold('/run/yggdrasil/admin/admin.sock'), roff('Where the agent of the machine listens.')),
    entry(
      bold('/etc/yggdrasil/config.toml'),
      roff('Its settings, and the broker for the commands that go through it.'),
    ),
    seeAlso('yggd(8)', 'yggdrasil-config.toml(5)'),
  ]);
}

function commandSections(node: CommandNode): readonly string[] {
  const about = node.commands.length > 0 ? [section(node.path.slice(1).join(' ')), roff(sentence(node.doc))] : [];
  return [...about, ...leaves(node).flatMap(commandSection)];
}

function commandSection(node: CommandNode): readonly string[] {
  const { doc, args } = node;
  return [
    node.path.length > 2 ? `.PP\n${typed(synopsis(node))}` : section(synopsis(node).slice('ygg '.length)),
    ...(node.path.length > 2 ? ['.br'] : []),
    roff(sentence(doc)),
    '.RS 4',
    ...args.map(({ name, doc: about }) => entry(`\\fI${roff(name)}\\fR`, roff(sentence(about)))),
    ...ownFlags(node).map(flagEntry),
    '.RE',
  ];
}

function flagEntry(flag: FlagNode): string {
  return entry(typed(flagText(flag)), roff([sentence(flag.doc), choicesText(flag)].join(' ')));
}

/** The help has no full stop at the end of a line; a page has. */
function sentence(text: string): string {
  const trimmed = text.trim();
  if (trimmed === '') return 'As its name says.';
  return `${trimmed.charAt(0).toUpperCase()}${trimmed.slice(1)}${/[.:!?\]]$/.test(trimmed) ? '' : '.'}`;
}

function exitStatus(): readonly string[] {
  return exitCodes().map(([code, meaning]) => entry(bold(String(code)), roff(meaning)));
}

function daemonPage(): string {
  const tree = daemonTree();
  const groups = [...new Set(tree.flags.map(({ group }) => group))];
  return page('yggd', 8, 'Yggdrasil agent: commands from an MQTT broker to local workers', [
    heading('SYNOPSIS'),
    typed('yggd [flags]'),
    heading('DESCRIPTION'),
    roff(tree.doc),
    paragraph(
      'A message that was acknowledged to the broker is kept in a journal on disk until a worker has it, over any end of the daemon. Workers are the executables in worker-dir whose names end in “worker”; they are started, watched and stopped by the daemon.',
    ),
    heading('FLAGS'),
    ...groups.flatMap((group) => [
      section(group.replace(/:$/, '')),
      ...tree.flags.filter((flag) => flag.group === group).map(flagEntry),
    ]),
    heading('SIGNALS'),
    entry(
      bold('SIGTERM, SIGINT'),
      roff('Stop: nothing more is taken, work in hand comes to its end. A second one ends the daemon at once.'),
    ),
    entry(bold('SIGHUP'), roff('Read the configuration again, and take what can be taken while running.')),
    heading('EXIT STATUS'),
    ...exitStatus(),
    heading('ENVIRONMENT'),
    roff(
      'Each setting can be given as a variable: YGGD_ and its name in capitals with _ for -, such as YGGD_LOG_LEVEL.',
    ),
    heading('FILES'),
    ...files(),
    seeAlso('ygg(1)', 'yggdrasil-config.toml(5)', 'systemctl(1)'),
  ]);
}

function files(): readonly string[] {
  return [
    entry(bold('/etc/yggdrasil/config.toml'), roff('The settings; see yggdrasil-config.toml(5).')),
    entry(bold('/etc/yggdrasil/tags.toml'), roff('Tags of this machine, told to the fleet.')),
    entry(bold('/etc/yggdrasil/workers/'), roff('A file for each worker that needs settings of its own.')),
    entry(bold('/var/lib/yggdrasil/'), roff('The journal, contents that were fetched, the client id.')),
    entry(bold('/run/yggdrasil/'), roff('The sockets.')),
  ];
}

function configPage(): string {
  return page('yggdrasil-config.toml', 5, 'settings of the Yggdrasil agent', [
    heading('SYNOPSIS'),
    bold('/etc/yggdrasil/config.toml'),
    '.br',
    bold('/etc/yggdrasil/workers/<executable>.toml'),
    heading('DESCRIPTION'),
    roff(
      'The file is TOML. Each key is also a flag of yggd(8) and an environment variable; flags win over the environment, the environment over the file. An unknown key, or a value of a wrong kind, is an error: yggd --check-config tells all of them with file and line.',
    ),
    paragraph(
      'A duration is a number of seconds or text such as "500ms", "30s", "1h30m"; a size is a number of bytes or text such as "64KiB", "16MiB". A relative path starts at the directory of the file it stands in.',
    ),
    ...settingsByGroup().flatMap(({ group, settings }) => [
      heading(group.toUpperCase()),
      ...settings.map(({ name, argument, doc, expects, standard, isReloadable }) =>
        entry(
          `${bold(name)} = \\fI${roff(argument)}\\fR`,
          [
            roff(doc),
            roff(`It must be ${expects}.`),
            roff(standard === '' ? 'There is no default.' : `Default: ${standard}.`),
            ...(isReloadable ? [roff('Taken over at a reload (SIGHUP).')] : []),
          ].join('\n'),
        ),
      ),
    ]),
    heading('WORKERS'),
    roff(
      'A worker has a file of its own, workers/<executable>.toml below config-dir, where it needs one. It is read each time the worker is started.',
    ),
    ...workerKeys().map(({ name, expects, doc }) =>
      entry(bold(name), `${roff(doc)}\n${roff(`It must be ${expects}.`)}`),
    ),
    heading('EXAMPLES'),
    '.nf',
    ...[
      'broker = ["mqtts://broker.example.com:8883"]',
      'cert-file = "/etc/yggdrasil/agent.crt"',
      'key-file = "/etc/yggdrasil/agent.key"',
      'ca-root = ["/etc/yggdrasil/ca.crt"]',
    ].map(roff),
    '.fi',
    seeAlso('yggd(8)', 'ygg(1)'),
  ]);
}

function seeAlso(...names: readonly string[]): string {
  const links = names.map((name) =>
    name.replace(/^(.*)(\(\d\))$/, (_, word: string, manual: string) => bold(word) + manual),
  );
  return `${heading('SEE ALSO')}\n${links.join(',\n')}`;
}
