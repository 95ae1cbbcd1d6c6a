/** docs/reference: what there is to look up, in Markdown, made from the same sources as the help and the man pages. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
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
  workerKeys,
} from './sources.js';

const MADE = 'Made from the sources by scripts/generate-docs.ts; `npm run docs` makes it again.';

/** Path from the root → text, not yet formatted. `root` is the repository. */
export async function referenceDocuments(root: string): Promise<readonly (readonly [string, string])[]> {
  const proto = await readFile(join(root, 'protocol/admin.proto'), 'utf8');
  return [
    ['docs/reference/ygg.md', operatorDocument()],
    ['docs/reference/yggd.md', daemonDocument()],
    ['docs/reference/config.md', configDocument()],
    ['docs/reference/admin.md', adminDocument(proto)],
  ];
}

const cell = (text: string): string => text.replace(/\s+/g, ' ').replaceAll('|', '\\|').replaceAll('<', '&lt;').trim();
const code = (text: string): string => `\`${text.replaceAll('|', '\\|')}\``;
const row = (...cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
const table = (head: readonly string[], rows: readonly string[]): string =>
  [row(...head), row(...head.map(() => '---')), ...rows].join('\n');

function operatorDocument(): string {
  const tree = operatorTree();
  const groups = tree.commands.filter(({ path }) => path.at(-1) !== 'help');
  return `# ygg

${MADE}

${tree.doc}.

${table(
  ['command', 'what it does'],
  groups.flatMap(leaves).map((node) => row(code(node.path.join(' ')), cell(node.doc))),
)}

${groups.map(commandDocument).join('\n\n')}

${exitDocument()}
`;
}

function commandDocument(node: CommandNode): string {
  const title = `## ${node.path.join(' ')}\n\n${node.doc}`;
  if (node.commands.length === 0) return [title, usage(node)].join('\n\n');
  return [title, ...leaves(node).map((leaf) => `### ${leaf.path.join(' ')}\n\n${leaf.doc}\n\n${usage(leaf)}`)].join(
    '\n\n',
  );
}

function usage(node: CommandNode): string {
  const args = node.args.map(({ name, doc }) => row(code(name), cell(doc)));
  const flags = ownFlags(node).map(flagRow);
  const rows = [...args, ...flags];
  return [`    ${synopsis(node)}`, ...(rows.length > 0 ? [table(['', ''], rows)] : [])].join('\n\n');
}

function flagRow(flag: FlagNode): string {
  return row(code(flagText(flag)), cell([flag.doc, choicesText(flag)].filter(Boolean).join('. ')));
}

function exitDocument(): string {
  const rows = exitCodes().map(([exit, meaning]) => row(String(exit), cell(meaning)));
  return `## Exit codes\n\n${table(['code', 'meaning'], rows)}`;
}

function daemonDocument(): string {
  const tree = daemonTree();
  const groups = [...new Set(tree.flags.map(({ group }) => group))];
  return `# yggd

${MADE}

${tree.doc}

    yggd [flags]

${groups
  .map((group) => {
    const rows = tree.flags.filter((flag) => flag.group === group).map(flagRow);
    return `## ${group.replace(/:$/, '')}\n\n${table(['flag', ''], rows)}`;
  })
  .join('\n\n')}

${exitDocument()}
`;
}

function configDocument(): string {
  const groups = settingsByGroup().map(({ group, settings }) => {
    const rows = settings.map(({ name, doc, expects, standard, variable, isReloadable }) =>
      row(
        code(name),
        cell(doc),
        cell(expects),
        standard === '' ? '–' : code(standard),
        code(variable),
        isReloadable ? 'yes' : 'no',
      ),
    );
    return `## ${group}\n\n${table(['key', '', 'a value', 'default', 'variable', 'reload'], rows)}`;
  });
  const keys = workerKeys().map(({ name, doc, expects }) => row(code(name), cell(doc), cell(expects)));
  return `# config.toml

${MADE}

Each key is also a flag of \`yggd\` (\`--log-level debug\`) and an environment variable; flags win over the environment, the environment over the file. A key that is reloaded is taken over at
SIGHUP; any other takes a restart. \`yggd --check-config\` tells all mistakes with file and line.

${groups.join('\n\n')}

## workers/&lt;executable>.toml

A worker's own file, where it needs one; it is read each time the worker is started.

${table(['key', '', 'a value'], keys)}
`;
}

interface Described {
  readonly about: string;
  readonly text: string;
}

/** The service and its messages, with the comments above each. */
function adminDocument(proto: string): string {
  const head = /^((?:\/\/.*\n)+)/.exec(proto)?.[1] ?? '';
  const blocks = [...proto.matchAll(/^((?:\/\/.*\n)*)(service|message|enum) (\w+) \{(?:\}|\n([^]*?)^\})$/gm)];
  const calls = blocks.filter(([, , kind]) => kind === 'service').flatMap(([, , , , body = '']) => described(body));
  const messages = blocks.filter(([, , kind]) => kind !== 'service');
  const callRows = calls.map(({ about, text }) => {
    const [, name = '', request = '', answer = ''] = /^rpc (\w+)\((.*?)\) returns \((.*?)\)/.exec(text) ?? [];
    return row(code(name), code(request), code(answer), cell(about));
  });
  return `# The operator's service

${MADE}

${comment(head)}

The file is \`protocol/admin.proto\`: from it, clients in other languages are generated. \`ygg\` is one.

${table(['call', 'request', 'answer', ''], callRows)}

${messages
  .map(([, about = '', , name = '', body = '']) => {
    const rows = described(body).map(({ about: doc, text }) => {
      const [, type = '', field = ''] = /^(.*) (\w+) = \d+;/.exec(text) ?? ['', '', text];
      return row(code(field), code(type), cell(doc));
    });
    return [
      `## ${name}`,
      ...(about === '' ? [] : [comment(about)]),
      rows.length > 0 ? table(['field', 'type', ''], rows) : 'Empty.',
    ].join('\n\n');
  })
  .join('\n\n')}
`;
}

/** The lines of a block with the comment above each. */
function described(body: string): readonly Described[] {
  const found: Described[] = [];
  let about = '';
  for (const line of body.split('\n').map((each) => each.trim())) {
    if (line.startsWith('//')) about += `${line}\n`;
    else {
      if (line !== '' && !line.endsWith('{') && line !== '}') found.push({ about: comment(about), text: line });
      about = '';
    }
  }
  return found;
}

function comment(lines: string): string {
  return lines
    .replaceAll(/^\s*\/\/ ?/gm, '')
    .replace(/\s+/g, ' ')
    .trim();
}
