/**
 * What `ygg` prints: for a person a table with a head, for a pipe the same fields in lines with tabs between them, and
 * with --json one document. What others wrote is never sent to a terminal as it is: control characters are spelled out.
 */
import { errnoOf } from '../errors.js';
import { printable } from '../message/index.js';

export type Cell = string | number | bigint;

/** Where it goes: standard output, or what a test hands in. */
export interface Sink {
  readonly isTTY?: boolean | undefined;
  write(text: string | Uint8Array, written?: (error?: Error | null) => void): unknown;
}

export class Output {
  constructor(private readonly sink: Sink = process.stdout) {}

  get isTerminal(): boolean {
    return this.sink.isTTY === true;
  }

  line(text: string): void {
    this.sink.write(`${text}\n`);
  }

  bytes(bytes: Uint8Array): void {
    this.sink.write(bytes);
  }

  /** Columns of text with two blanks between them on a terminal; else tabs, and no head. An empty head is none. */
  table(head: readonly string[], rows: readonly (readonly Cell[])[], indent = ''): void {
    const texts = rows.map((row) => row.map((cell) => printable(String(cell))));
    if (!this.isTerminal) {
      for (const row of texts) this.line(row.join('\t'));
      return;
    }
    const all = head.length === 0 ? texts : [head, ...texts];
    const columns = all[0] ?? [];
    const widths = columns.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
    for (const row of all)
      this.line(`${indent}${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')}`.trimEnd());
  }

  /** Names and values under each other. */
  fields(fields: readonly (readonly [string, Cell])[]): void {
    const width = this.isTerminal ? Math.max(...fields.map(([name]) => name.length)) : 0;
    for (const [name, value] of fields) {
      const gap = this.isTerminal ? ' '.repeat(width - name.length + 2) : '\t';
      this.line(`${name}${gap}${printable(String(value))}`);
    }
  }

  /** Resolves when what was written so far has left this program. */
  written(): Promise<void> {
    return new Promise((resolve) => this.sink.write('', () => resolve()));
  }

  json(value: unknown): void {
    this.line(jsonText(value, 2));
  }

  /** One of many documents, on a line of its own. */
  jsonLine(value: unknown): void {
    this.line(jsonText(value));
  }

  /** A list that may be long: each element on a line of its own, as one JSON document. */
  async jsonList(values: AsyncIterable<unknown>): Promise<void> {
    let isFirst = true;
    for await (const value of values) {
      this.sink.write(`${isFirst ? '[\n' : ',\n'}${jsonText(value)}`);
      isFirst = false;
    }
    this.line(isFirst ? '[]' : '\n]');
  }
}

/** Whoever reads the output may have seen enough (`| head`): that ends the program and is no failure. */
export function endWithReader(): void {
  process.stdout.on('error', (error) => {
    if (errnoOf(error) === 'EPIPE') process.exit(0);
    throw error;
  });
}

/** Keys and times are far below 2^53. What JSON lets stand and a terminal obeys is escaped. */
function jsonText(value: unknown, space?: number): string {
  const json = JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? Number(each) : each), space);
  // Line by line: the line ends of a document are its own.
  return space === undefined
    ? printable(json)
    : json
        .split('\n')
        .map((line) => printable(line))
        .join('\n');
}

/** A wall time as RFC 3339 in UTC; nothing for 0. */
export function instant(time: bigint | number): string {
  return Number(time) === 0 ? '' : new Date(Number(time)).toISOString();
}

/** A span of time, with its two largest units. */
export function span(milliseconds: number): string {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  const units: readonly (readonly [string, number])[] = [
    ['d', 86_400],
    ['h', 3_600],
    ['min', 60],
    ['s', 1],
  ];
  const first = units.findIndex(([, length]) => seconds >= length);
  if (first < 0) return '0 s';
  let rest = seconds;
  const parts: string[] = [];
  for (const [name, length] of units.slice(first, first + 2)) {
    const count = Math.floor(rest / length);
    rest -= count * length;
    if (count > 0) parts.push(`${count} ${name}`);
  }
  return parts.join(' ');
}

/** A number of bytes for a person. */
export function size(bytes: bigint | number): string {
  let value = Number(bytes);
  for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
    if (value < 1024 || unit === 'GiB')
      return `${value < 10 && unit !== 'B' ? value.toFixed(1) : Math.round(value)} ${unit}`;
    value /= 1024;
  }
  return '';
}
