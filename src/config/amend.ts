/**
 * Changes settings in the text of a configuration file and leaves all else as the operator wrote it: comments, blanks,
 * order. The parser keeps none of these, so the text is changed; what came of it is parsed and compared with what was
 * meant, and a text that is written in a way this does not see through is refused, never spoiled.
 */
import { isDeepStrictEqual } from 'node:util';
import { parse } from 'smol-toml';
import { parseToml } from './toml-file.js';
import { describeProblem } from './problem.js';
import type { SettingName } from './settings.js';

/** A new value for a setting, or undefined to take it out. */
export type Changes = Readonly<Partial<Record<SettingName, string | readonly string[] | undefined>>>;

export type Amended =
  { readonly kind: 'ok'; readonly text: string } | { readonly kind: 'refused'; readonly reason: string };

/** Never throws; `source` is the file's name in the reason of a refusal. */
export function amendToml(text: string, changes: Changes, source: string): Amended {
  const read = parseToml(text, source);
  if (read.kind === 'invalid') return { kind: 'refused', reason: describeProblem(read.problem) };
  if (read.kind === 'missing') return amendToml('', changes, source);
  const wanted = new Map(read.entries.map(({ key, value }) => [key, value]));
  let amended = text;
  for (const [key, value] of Object.entries(changes)) {
    if (isDeepStrictEqual(wanted.get(key), value)) continue;
    if (value === undefined) wanted.delete(key);
    else wanted.set(key, value);
    amended = withValue(amended, key, value);
  }
  return isAsMeant(amended, Object.fromEntries(wanted))
    ? { kind: 'ok', text: amended }
    : {
        kind: 'refused',
        reason: `${source} is written in a way that cannot be amended by a program: write ${linesOf(changes)} into it`,
      };
}

/** The top-level strings and lists of strings of a file, as they stand there; whatever else it holds is left out. */
export function plainSettings(text: string): Readonly<Record<string, string | readonly string[]>> {
  const read = parseToml(text, '');
  if (read.kind !== 'ok') return {};
  return Object.fromEntries(
    read.entries.flatMap(({ key, value }) =>
      typeof value === 'string' || (Array.isArray(value) && value.every((each) => typeof each === 'string'))
        ? [[key, value]]
        : [],
    ),
  );
}

function isAsMeant(text: string, wanted: Readonly<Record<string, unknown>>): boolean {
  try {
    return isDeepStrictEqual(plain(parse(text.replace(/^\uFEFF/, ''))), plain(wanted));
  } catch {
    // It is no TOML any more.
    return false;
  }
}

/** The parser's tables have no prototype. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null || value instanceof Date) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plain(each)]));
}

function linesOf(changes: Changes): string {
  return Object.entries(changes)
    .flatMap(([key, value]) => (value === undefined ? [] : [`\`${key} = ${tomlOf(value)}\``]))
    .join(', ');
}

/** A JSON string is a TOML basic string, but for the one control character that JSON leaves as it is. */
function tomlOf(value: string | readonly string[]): string {
  if (typeof value !== 'string') return `[${value.map(tomlOf).join(', ')}]`;
  return JSON.stringify(value).replaceAll('\u007f', '\\u007F');
}

function withValue(text: string, key: string, value: string | readonly string[] | undefined): string {
  const found = find(text, key);
  if (found.kind === 'value') {
    if (value !== undefined) return text.slice(0, found.from) + tomlOf(value) + text.slice(found.to);
    const end = text.indexOf('\n', found.to);
    return text.slice(0, found.lineFrom) + (end < 0 ? '' : text.slice(end + 1));
  }
  if (value === undefined) return text;
  const newline = text.includes('\r\n') ? '\r\n' : '\n';
  const before = text.slice(0, found.at);
  const gap = before === '' || before === '\uFEFF' || before.endsWith('\n') ? '' : newline;
  return `${before}${gap}${key} = ${tomlOf(value)}${newline}${text.slice(found.at)}`;
}

type Found =
  /** The key stands there: its line's begin, and where its value begins and ends. */
  | { readonly kind: 'value'; readonly lineFrom: number; readonly from: number; readonly to: number }
  /** It does not; `at` is where its line would best stand. */
  | { readonly kind: 'place'; readonly at: number };

/** Walks the statements before the first table. A comment that shows the key (`# broker = …`) is its best place. */
function find(text: string, key: string): Found {
  let at = text.startsWith('\uFEFF') ? 1 : 0;
  let place: number | undefined;
  let lastEnd: number | undefined;
  while (at < text.length) {
    const lineEnd = endOfLine(text, at);
    const line = text.slice(at, lineEnd);
    if (/^\s*\[/.test(line)) return { kind: 'place', at: place ?? lastEnd ?? at };
    const shown = /^\s*#+\s*([\w-]+)\s*=/.exec(line);
    const assignment = /^(\s*(?:"([^"\\]*)"|'([^']*)'|([\w-]+))\s*=[ \t]*)/.exec(line);
    if (shown?.[1] === key) place = lineEnd;
    if (assignment === null) {
      at = lineEnd;
      continue;
    }
    const from = at + (assignment[1] ?? '').length;
    const to = endOfValue(text, from);
    if ((assignment[2] ?? assignment[3] ?? assignment[4]) === key) return { kind: 'value', lineFrom: at, from, to };
    at = lastEnd = endOfLine(text, to);
  }
  return { kind: 'place', at: place ?? text.length };
}

function endOfLine(text: string, from: number): number {
  const end = text.indexOf('\n', from);
  return end < 0 ? text.length : end + 1;
}

/** Behind the last character of the value that begins at `from`, in a text that is known to be TOML. */
function endOfValue(text: string, from: number): number {
  let depth = 0;
  let last = from;
  for (let at = from; at < text.length;) {
    const letter = text[at] ?? '';
    if (letter === '"' || letter === "'") at = last = endOfString(text, at, letter);
    else if (letter === '#') at = depth > 0 ? endOfLine(text, at) : text.length;
    else if (letter === '\n' && depth === 0) break;
    else {
      if (letter === '[' || letter === '{') depth++;
      if (letter === ']' || letter === '}') depth--;
      at++;
      if (!/\s/.test(letter)) last = at;
    }
  }
  return last;
}

function endOfString(text: string, from: number, quote: string): number {
  const isLong = text.startsWith(quote.repeat(3), from);
  const closing = isLong ? quote.repeat(3) : quote;
  let at = from + closing.length;
  while (at < text.length && !text.startsWith(closing, at)) at += quote === '"' && text[at] === '\\' ? 2 : 1;
  at += closing.length;
  // Up to two quotes may stand right before the closing three.
  while (isLong && text[at] === quote) at++;
  return at;
}
