/**
 * One TOML file as its top-level entries with their lines. The parser keeps no positions, so the line of a key is
 * found again in the text, which is known to be valid TOML by then.
 */
import { parse, TomlDate, TomlError } from 'smol-toml';
import { errnoOf, errorText } from '../errors.js';
import { printable, quoted } from '../message/quoted.js';
import type { Problem } from './problem.js';

export type ReadText = (path: string) => Promise<string>;

export interface TomlEntry {
  readonly key: string;
  readonly value: unknown;
  /** Counted from 1; missing when the key is written in a way that is not found again. */
  readonly line: number | undefined;
}

export type TomlFile =
  | {
      readonly kind: 'ok';
      readonly entries: readonly TomlEntry[];
      lineOf(...path: readonly string[]): number | undefined;
    }
  | { readonly kind: 'missing' }
  | { readonly kind: 'invalid'; readonly problem: Problem };

/** Reads and parses `path`. A file that is not there is `missing`, all else that fails is `invalid`. */
export async function readTomlFile(path: string, readText: ReadText): Promise<TomlFile> {
  let text;
  try {
    text = await readText(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return { kind: 'missing' };
    return { kind: 'invalid', problem: unreadable(path, error) };
  }
  return parseToml(text, path);
}

/** What to tell about a file that cannot be read. */
export function unreadable(path: string, error: unknown): Problem {
  const reasons: Partial<Record<string, string>> = {
    ENOENT: 'there is no such file',
    EACCES: 'this user may not read it',
    EISDIR: 'it is a directory',
  };
  const reason = reasons[errnoOf(error) ?? ''] ?? errorText(error);
  return { code: 'config.unreadable', text: `cannot read the file: ${reason}`, source: path };
}

/** Parses the text of a file; `source` is its name in problems. */
export function parseToml(text: string, source: string): TomlFile {
  try {
    const table = parse(text.replace(/^\uFEFF/, ''));
    const lines = keyLines(text);
    const lineOf = (...path: readonly string[]): number | undefined => lines.get(pathKey(path));
    const entries = Object.entries(table).map(([key, value]) => ({ key, value, line: lineOf(key) }));
    return { kind: 'ok', entries, lineOf };
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    // The parser's text ends in a picture of the place; the first line says it.
    const reason = (error.message.split('\n')[0] ?? '').replace(/^Invalid TOML document: /, '');
    const { line, column } = error;
    return { kind: 'invalid', problem: { code: 'config.invalid', text: `not TOML: ${reason}`, source, line, column } };
  }
}

/** What kind of thing a TOML value is, for messages. */
export function describeToml(value: unknown): string {
  if (typeof value === 'string') return quoted(value, LONGEST_VALUE);
  if (value instanceof TomlDate) return `the date ${value.toISOString()}`;
  if (Array.isArray(value)) return `the list ${printable(JSON.stringify(value, bigintText), LONGEST_VALUE)}`;
  if (typeof value === 'object' && value !== null) return 'a table';
  return String(value);
}

/** How much of a value is shown, in characters. */
const LONGEST_VALUE = 256;

function bigintText(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value;
}

const pathKey = (path: readonly string[]): string => path.join('\0');

/** Path of each key → its line. A table's own header counts as the line of the table. */
function keyLines(text: string): ReadonlyMap<string, number> {
  const lines = new Map<string, number>();
  const note = (path: readonly string[], line: number): void => {
    for (let depth = 1; depth <= path.length; depth++) {
      const key = pathKey(path.slice(0, depth));
      if (!lines.has(key)) lines.set(key, line);
    }
  };
  let table: readonly string[] = [];
  let until: string | undefined; // the quotes that end the multi-line string we are in
  for (const [index, line] of text.split('\n').entries()) {
    if (until !== undefined) {
      if (line.includes(until)) until = undefined;
      continue;
    }
    const header = /^\s*\[{1,2}([^\]]+)\]/.exec(line);
    const assignment = /^\s*((?:"[^"]*"|'[^']*'|[\w.-])(?:"[^"]*"|'[^']*'|[\w.-]|\s)*?)\s*=(.*)$/.exec(line);
    if (header?.[1] !== undefined) {
      table = splitKey(header[1]);
      note(table, index + 1);
    } else if (assignment?.[1] !== undefined) {
      note([...table, ...splitKey(assignment[1])], index + 1);
      const quotes = /"""|'''/.exec(assignment[2] ?? '')?.[0];
      if (quotes !== undefined && (assignment[2] ?? '').split(quotes).length === 2) until = quotes;
    }
  }
  return lines;
}

function splitKey(text: string): readonly string[] {
  return [...text.matchAll(/"([^"]*)"|'([^']*)'|([\w-]+)/g)].map((m) => m[1] ?? m[2] ?? m[3] ?? '');
}
