/**
 * Lines of the service's log as they may be given away: what workers wrote is counted and left out, since it may hold
 * what messages hold; so is all below `info`, and of what speaks of a message all that others said.
 */

export interface JournalLines {
  readonly lines: readonly string[];
  /** Lines of workers that were left out. */
  readonly ofWorkers: number;
}

/** Events whose text repeats what a worker, a server or a sender said. */
const FOREIGN = /^(worker\.output|dispatcher|result|data|post|fetch|command|message|processor)\b/;
const DETAILS = /\b(reason|error|cause|text|url|urls?)=("(?:\\.|[^"\\])*"|\S+)/g;
const DEBUG = 7;

/** From what `journalctl --output=json` prints: an object a line. */
export function journalLines(json: string): JournalLines {
  const lines: string[] = [];
  let ofWorkers = 0;
  for (const row of json.split('\n')) {
    const entry = parsed(row);
    if (entry === undefined || Number(entry['PRIORITY'] ?? 6) >= DEBUG) continue;
    // What is no UTF-8 comes as a list of bytes.
    const message = typeof entry['MESSAGE'] === 'string' ? entry['MESSAGE'] : '';
    const isOurs = entry['SYSLOG_IDENTIFIER'] === 'yggd';
    const kept = isOurs ? ownLine(message) : { text: message };
    if (kept === 'of-worker') ofWorkers += 1;
    else if (kept !== 'debug') lines.push(`${timeOf(entry)} ${priorityOf(entry)} ${kept.text}`);
  }
  return { lines, ofWorkers };
}

type Kept = 'of-worker' | 'debug' | { readonly text: string };

function ownLine(message: string): Kept {
  if (message.startsWith('{')) return jsonLine(message);
  const at = message.lastIndexOf('  event=');
  if (at < 0) return plainLine(message);
  const event = message.slice(at + '  event='.length).split(' ', 1)[0] ?? '';
  return withoutForeign(event, message.slice(0, at), message.slice(at));
}

function withoutForeign(event: string, text: string, fields: string): Kept {
  if (event.startsWith('worker.output')) return 'of-worker';
  if (!FOREIGN.test(event)) return { text: text + fields };
  return { text: shortened(text) + fields.replace(DETAILS, '$1=[left out]') };
}

/** `log-format = "json"`. */
function jsonLine(message: string): Kept {
  const line = parsed(message);
  if (line === undefined) return { text: '[a line that was cut]' };
  const { text = '', event = '', level = '', ...fields } = line;
  if (level === 'debug' || level === 'trace') return 'debug';
  const pairs = Object.entries(fields).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
  return withoutForeign(String(event), String(text), `  event=${String(event)} ${pairs.join(' ')}`);
}

/** `log-format = "text"`, which names no event; or the last words of a program that crashed. */
function plainLine(message: string): Kept {
  // eslint-disable-next-line no-control-regex -- levels may be coloured
  const [, level] = /^\S+ (?:\u001b\[\d+m)?(ERROR|WARN|INFO|DEBUG|TRACE)\b/.exec(message) ?? [];
  if (level === 'DEBUG' || level === 'TRACE') return 'debug';
  if (/\sstream=(stdout|stderr)\b/.test(message)) return 'of-worker';
  return { text: level === undefined ? message : shortened(message, message.indexOf(level)) };
}

function shortened(text: string, from = 0): string {
  const at = text.indexOf(': ', from);
  return at < 0 ? text : `${text.slice(0, at)}: …`;
}

function timeOf(entry: Readonly<Record<string, unknown>>): string {
  const time = Number(entry['__REALTIME_TIMESTAMP'] ?? 0) / 1000;
  return Number.isFinite(time) && time > 0 ? new Date(time).toISOString() : '-';
}

const WORDS = ['emerg', 'alert', 'crit', 'error', 'warn', 'notice', 'info'];

function priorityOf(entry: Readonly<Record<string, unknown>>): string {
  return WORDS[Number(entry['PRIORITY'] ?? 6)] ?? '';
}

function parsed(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : undefined;
  } catch {
    // An empty line, or one that was cut.
    return undefined;
  }
}
