/**
 * A worker that keeps a book: every start and every message it handles is a line in a file, written before anything
 * else happens. It is the ledger of the worker's end, and the proof that no two copies ever run: a copy that finds an
 * earlier one alive writes that down too.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Proc } from '../../src/process/proc.js';
import { ROOT, type Home } from './yggd.js';

export interface BookWorkerOptions {
  /** The directive; default: the name of the executable without `-worker`. */
  readonly handler?: string;
  /** JavaScript: what the handler does with `message` and `context` after the book has its line. Default: an echo. */
  readonly body?: string;
  /** JavaScript at the start, after the book has its line and before the worker registers. */
  readonly before?: string;
  /** JavaScript: further options of `serve`. */
  readonly options?: string;
}

export interface Book {
  /** Pids, in order of their starts. */
  readonly starts: readonly number[];
  /** Ids of messages, in the order in which they were begun. */
  readonly handled: readonly string[];
  /** Every line about a message (`handle`, and `returned` or `failed` where the body writes it), with the machine's time. */
  readonly lines: readonly { readonly word: string; readonly id: string; readonly at: number }[];
  /** Copies that were alive when another one started. */
  readonly overlaps: readonly string[];
}

/** The text of such a worker. */
export function bookWorker(home: Home, name: string, options: BookWorkerOptions = {}): string {
  const { handler = name.replace(/-worker$/, ''), before = '', body = ECHO, options: more = '' } = options;
  return `#!${process.env['YGG_TEST_NODE'] ?? process.execPath}
import { spawn } from 'node:child_process';
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { endWithError, serve } from ${JSON.stringify(join(ROOT, 'dist/worker.js'))};
const BOOK = ${JSON.stringify(bookFile(home, name))};
const write = (line) => appendFileSync(BOOK, line + '\\n');
/** With the machine's monotonic time in milliseconds, which the ledger compares. */
const note = (word, id) => write(word + ' ' + id + ' ' + Number(process.hrtime.bigint()) / 1e6);
const isAlive = (pid) => {
  try {
    return !/^\\d+ \\(.*\\) [ZX]/s.test(readFileSync('/proc/' + pid + '/stat', 'utf8'));
  } catch {
    return false;
  }
};
write('start ' + process.pid);
for (const [, pid] of readFileSync(BOOK, 'utf8').matchAll(/^start (\\d+)$/gm))
  if (pid !== String(process.pid) && isAlive(pid)) write('overlap ' + process.pid + ' found ' + pid);
${before}
await serve({ handler: ${JSON.stringify(handler)}, ${more} }, async (message, context) => {
  note('handle', message.messageId);
  ${body}
}).catch(endWithError);
`;
}

const ECHO = 'return { content: message.content, metadata: message.metadata };';

/** JavaScript for a body that holds the message until the file at `path` is there, or the worker has to stop. */
export function heldUntil(path: string): string {
  return `while (!existsSync(${JSON.stringify(path)})) {
    context.signal.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }`;
}

const WORDS = new Set(['handle', 'returned', 'failed']);

/** What the book of this worker holds by now. */
export function readBook(home: Home, name: string): Book {
  const lines = readLines(bookFile(home, name));
  const of = (word: string): string[] =>
    lines.filter((line) => line.startsWith(`${word} `)).map((line) => line.slice(word.length + 1));
  const messages = lines.flatMap((line) => {
    const [word = '', id = '', at] = line.split(' ');
    return WORDS.has(word) && at !== undefined ? [{ word, id, at: Number(at) }] : [];
  });
  const handled = messages.filter(({ word }) => word === 'handle').map(({ id }) => id);
  return { starts: of('start').map(Number), handled, lines: messages, overlaps: of('overlap') };
}

/** JavaScript for a body that echoes, and writes down when the agent has taken the result. */
export const RETURNING_ECHO = `await context.send({ content: message.content, metadata: message.metadata });
  note('returned', message.messageId);`;

/** The lines of a file, none where there is no file. */
export function readLines(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n').slice(0, -1);
  } catch {
    // Nobody has written to it yet.
    return [];
  }
}

/** Whether a process with this pid runs now (a zombie does not). */
export function isRunning(pid: number): boolean {
  const stat = new Proc().stat(pid);
  return stat !== undefined && stat.state !== 'Z' && stat.state !== 'X';
}

export function bookFile(home: Home, name: string): string {
  return home.path(`${name}.book`);
}
