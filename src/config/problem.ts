/**
 * What is wrong with the configuration, as a value: problems are collected and told all at once, each with the place
 * where it stands.
 */
import { AgentError, type ErrorCode } from '../errors.js';
import { printable } from '../message/quoted.js';

export interface Problem {
  readonly code: ErrorCode;
  /** A sentence for a person: what is wrong and what to do. Never a secret. */
  readonly text: string;
  /** Where it stands: a file, `--flag` or an environment variable. Missing for what stands nowhere. */
  readonly source?: string;
  /** Counted from 1, in `source` when that is a file. */
  readonly line?: number;
  readonly column?: number;
}

/** What is shown of a problem and of its place, in characters: both may quote what somebody wrote. */
const LONGEST_TEXT = 800;
const LONGEST_PLACE = 200;

/** One line for a person: `/etc/yggdrasil/config.toml:3: …`. */
export function describeProblem(problem: Problem): string {
  const place = [problem.source, problem.line, problem.column].filter((part) => part !== undefined).join(':');
  const text = printable(problem.text, LONGEST_TEXT);
  return place === '' ? text : `${printable(place, LONGEST_PLACE)}: ${text}`;
}

/** All problems as one error, with the code of the first. */
export function problemsError(problems: readonly Problem[]): AgentError {
  const code = problems[0]?.code ?? 'config.invalid';
  return new AgentError(code, problems.map(describeProblem).join('\n'), { problems: problems.length });
}

/** Longer than any name there is, with room for mistakes. */
const LONGEST_WORD = 100;

/** The entry of `names` that is nearest to `word`, or undefined when none is near enough to be meant. */
export function nearestName(word: string, names: Iterable<string>): string | undefined {
  // Nobody means a short name by so long a word, and the distance costs their product.
  if (word.length > LONGEST_WORD) return undefined;
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const name of names) {
    const distance = editDistance(plain(word), plain(name));
    if (distance < bestDistance) [best, bestDistance] = [name, distance];
  }
  return best;
}

/** Case, and `-` against `_`, are not what somebody got wrong. */
const plain = (word: string): string => word.toLowerCase().replaceAll('_', '-');

/** `; did you mean “x”?`, or nothing. */
export function didYouMean(word: string, names: Iterable<string>): string {
  const nearest = nearestName(word, names);
  return nearest === undefined ? '' : `; did you mean “${nearest}”?`;
}

/** Levenshtein's distance: insertions, removals and replacements from one word to the other. */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, i) => i);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}
