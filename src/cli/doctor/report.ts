/** How findings look: for a person, one under the other with what to do; for a pipe in lines; as one JSON document. */
import { printable } from '../../message/index.js';
import type { Output } from '../output.js';
import { countsOf, OUTCOMES, type Finding, type Outcome } from './finding.js';

const COLOURS: Readonly<Record<Outcome, number>> = { ok: 32, warning: 33, failed: 31, skipped: 90 };
const WIDTH = Math.max(...OUTCOMES.map((outcome) => outcome.length)) + 2;
const DEFAULT_COLUMNS = 100;
const FEWEST_COLUMNS = 40;

export interface Look {
  readonly isColoured: boolean;
  /** Of the terminal, where it has any. */
  readonly columns: number | undefined;
}

/** For a person. */
export function reportText(findings: readonly Finding[], { isColoured, columns }: Look): string {
  const room = Math.max(FEWEST_COLUMNS, columns || DEFAULT_COLUMNS) - WIDTH;
  const indent = ' '.repeat(WIDTH);
  const lines = findings.flatMap(({ check, about, outcome, seen, todo }) => {
    const head = [check, about].filter(Boolean).join(' ');
    const [first = '', ...rest] = wrapped(printable(`${head}: ${seen}`), room);
    const todos = todo === '' ? [] : wrapped(printable(`→ ${todo}`), room);
    return [
      `${painted(outcome, isColoured)}${' '.repeat(WIDTH - outcome.length)}${first}`,
      ...[...rest, ...todos].map((line) => indent + line),
    ];
  });
  return `${[...lines, '', summary(findings)].join('\n')}\n`;
}

function painted(outcome: Outcome, isColoured: boolean): string {
  return isColoured ? `\u001b[${COLOURS[outcome]}m${outcome}\u001b[0m` : outcome;
}

export function summary(findings: readonly Finding[]): string {
  const counts = countsOf(findings);
  return OUTCOMES.map((outcome) => `${counts[outcome]} ${outcome}`).join(', ');
}

/** Lines of at most so many characters, broken at blanks; a word that is longer stays whole. */
function wrapped(text: string, room: number): readonly string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > room) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}

/** For a pipe: check, about, outcome, seen and todo, with tabs between them. */
export function reportLines(findings: readonly Finding[], output: Output): void {
  output.table(
    ['CHECK', 'ABOUT', 'OUTCOME', 'SEEN', 'TODO'],
    findings.map(({ check, about, outcome, seen, todo }) => [check, about, outcome, seen, todo]),
  );
}

export interface ReportHead {
  readonly version: string;
  readonly time: string;
}

export function reportJson(findings: readonly Finding[], head: ReportHead): unknown {
  return { ...head, summary: countsOf(findings), findings };
}
