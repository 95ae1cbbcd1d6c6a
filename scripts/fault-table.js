/**
 * The table of a fault run: read from the lines its tests left, printed as Markdown, and with `--record` put into
 * docs/guarantees.md between the marks that stand there.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { cpus, release, totalmem } from 'node:os';
import process from 'node:process';

const BEGIN = '<!-- fault run: begin -->';
const END = '<!-- fault run: end -->';
const ORDER = ['storage', 'network', 'session', 'workers', 'content', 'envelope', 'local attacker', 'operation'];

/** The rows that the tests left in this file, the last of each fault, in the order of the contract. */
export async function readRows(file) {
  const text = await readFile(file, 'utf8').catch(() => '');
  const rows = text.split('\n').filter(Boolean).map(JSON.parse);
  const last = new Map(rows.map((row) => [`${row.group}: ${row.fault}`, row]));
  return [...last.values()].sort(
    (a, b) => ORDER.indexOf(a.group) - ORDER.indexOf(b.group) || a.fault.localeCompare(b.fault),
  );
}

/** Lines of Markdown: a row a fault, and their sum. */
export function tableOf(rows) {
  const cells = ({ group, fault, rounds, kills, messages, lost, duplicated }) =>
    [group, fault, rounds, kills.agent, kills.worker, kills.broker, messages, lost, duplicated].join(' | ');
  const sum = (of) => rows.reduce((total, row) => total + of(row), 0);
  const total = {
    group: '**all**',
    fault: `${rows.length} faults`,
    rounds: sum((row) => row.rounds),
    kills: {
      agent: sum(({ kills }) => kills.agent),
      worker: sum(({ kills }) => kills.worker),
      broker: sum(({ kills }) => kills.broker),
    },
    messages: sum((row) => row.messages),
    lost: sum((row) => row.lost),
    duplicated: sum((row) => row.duplicated),
  };
  return [
    '| group | fault | rounds | kills of the agent | of workers | of the broker | messages | lost | duplicated |',
    '|---|---|---|---|---|---|---|---|---|',
    ...[...rows, total].map((row) => `| ${cells(row)} |`),
  ];
}

/** What the run ran on, in a line. */
export function machineOf() {
  const { platform, arch, version } = process;
  const memory = Math.round(totalmem() / 2 ** 30);
  const model = cpus()[0]?.model.trim() ?? 'unknown processor';
  return `Node ${version}, ${platform} ${release()} ${arch}, ${cpus().length} cores (${model}), ${memory} GiB`;
}

/** Puts the table into the document in the place of the one before. */
export async function recordTable(document, rows, { version }) {
  const text = await readFile(document, 'utf8');
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`${document} has no place for the table: ${BEGIN} … ${END}`);
  const day = new Date().toISOString().slice(0, 10);
  const took = rows.reduce((total, row) => total + row.took, 0);
  const head = `${day}, version ${version}, ${machineOf()}; ${Math.round(took / 60_000)} minutes.`;
  const section = [BEGIN, '', head, '', ...tableOf(rows), '', END].join('\n');
  await writeFile(document, text.slice(0, begin) + section + text.slice(end + END.length));
}
