/**
 * How a line looks: `text` for a terminal, `journal` for systemd (a priority first, sd-daemon(3)), `json` for machines.
 * Whatever a worker or a broker wrote, no control character reaches a terminal and no line becomes two.
 */
import type { LogLevel } from './log.js';

export type LogFormat = 'text' | 'json' | 'journal';

export interface Line {
  readonly time: string;
  readonly level: LogLevel;
  readonly event: string;
  readonly text: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** syslog(3): 3 error, 4 warning, 6 informational, 7 debug. */
const PRIORITIES: Readonly<Record<LogLevel, number>> = { error: 3, warn: 4, info: 6, debug: 7, trace: 7 };
const COLOURS: Readonly<Record<LogLevel, number>> = { error: 31, warn: 33, info: 32, debug: 36, trace: 90 };

/** C0 and C1 controls, DEL, line separators, and the marks that turn the direction of text. */
// eslint-disable-next-line no-control-regex -- finding control characters is what it is for
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const SHORT: Readonly<Partial<Record<string, string>>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** A text that a terminal shows as it is. */
export function escapeControls(text: string): string {
  return text.replace(UNSAFE, (char) => SHORT[char] ?? unicodeEscape(char));
}

/** JSON with the characters escaped that JSON lets stand and a terminal obeys. */
export function safeJson(json: string): string {
  return json.replace(UNSAFE, unicodeEscape);
}

function unicodeEscape(char: string): string {
  return `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

/** `2026-01-01T00:00:00.000Z INFO  worker started  worker=echo pid=7`. */
export function textLine(line: Line, isColoured: boolean): string {
  const level = line.level.toUpperCase().padEnd(5);
  const shown = isColoured ? `\u001b[${COLOURS[line.level]}m${level}\u001b[0m` : level;
  return `${line.time} ${shown} ${escapeControls(line.text)}${pairs(line.fields)}`;
}

/** The journal has the time; the event goes along as a field. */
export function journalLine(line: Line): string {
  return `<${PRIORITIES[line.level]}>${escapeControls(line.text)}${pairs({ event: line.event, ...line.fields })}`;
}

function pairs(fields: Readonly<Record<string, unknown>>): string {
  const texts = Object.entries(fields).map(([name, value]) => `${escapeControls(name)}=${pairValue(value)}`);
  return texts.length === 0 ? '' : `  ${texts.join(' ')}`;
}

function pairValue(value: unknown): string {
  if (typeof value === 'string' && /^[^\s"'=\\]+$/.test(value)) return escapeControls(value);
  return safeJson(JSON.stringify(value));
}
