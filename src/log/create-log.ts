/**
 * The log behind the `Log` port: pino writes the lines, in one of three formats, without secrets, synchronously, so
 * that the last line before an exit is there. The level may change while it runs, for all children at once.
 */
import { fstatSync } from 'node:fs';
import { isatty } from 'node:tty';
import { destination as pinoDestination, pino, type DestinationStream, type Logger } from 'pino';
import { Ring, type RingLimits } from '../signal/index.js';
import type { Clock } from '../time.js';
import { systemClock } from '../time.js';
import { journalLine, safeJson, textLine, type LogFormat } from './format.js';
import type { Log, LogFields, LogLevel } from './log.js';
import { cleanFields, withoutUserInfo } from './redact.js';

export interface LogDestination {
  /** Takes whole lines, with their line end, before it returns. */
  write(lines: string): void;
  /** Writes what it may have kept back. */
  flushSync?(): void;
}

export interface LogOptions {
  readonly level: LogLevel;
  /** `auto`: text on a terminal, journal where standard error is the journal's stream, else JSON. */
  readonly format: LogFormat | 'auto';
  /** Standard error unless given. */
  readonly destination?: LogDestination;
  /** $JOURNAL_STREAM, `device:inode` of the stream that goes to the journal. */
  readonly journalStream?: string | undefined;
  /** $NO_COLOR is set. */
  readonly isColourless?: boolean;
  readonly clock?: Clock;
  /** Keeps the lines that are written, as JSON, for whoever asks later: made by `recentLines`. */
  readonly recent?: Ring<string>;
}

/** The log of a program, and the handles only its owner has. */
export interface ProgramLog extends Log {
  readonly format: LogFormat;
  readonly level: LogLevel;
  /** Takes effect at once, for all children too. */
  setLevel(level: LogLevel): void;
  /** Everything that was logged is written when it returns. Safe to call at exit, and more than once. */
  flush(): void;
}

const STDERR = 2;

/** Lines, and characters of memory. */
const RECENT: RingLimits = { entries: 1000, weight: 256 * 1024 };

/** A place for the newest lines of a log. */
export function recentLines(): Ring<string> {
  return new Ring(RECENT, (line) => line.length);
}

const RANKS: Readonly<Record<LogLevel, number>> = { error: 0, warn: 1, info: 2, debug: 3, trace: 4 };

/** Makes a log. It holds no handle but standard error and needs no stop. */
export function createLog(options: LogOptions): ProgramLog {
  const format = options.format === 'auto' ? resolveLogFormat(streamOf(STDERR), options.journalStream) : options.format;
  const isColoured = options.destination === undefined && isatty(STDERR) && options.isColourless !== true;
  const destination = options.destination ?? standardError();
  const clock = options.clock ?? systemClock;
  const gate = { level: options.level };
  const logger = pino(
    {
      // The gate decides, since a child of pino keeps the level it was made with.
      level: 'trace',
      base: null,
      messageKey: 'text',
      timestamp: () => `,"time":"${new Date(clock.now()).toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    keeping(options.recent, streamFor(format, destination, isColoured)),
  );
  return {
    ...logOn(logger, gate),
    format,
    get level() {
      return gate.level;
    },
    setLevel: (level) => {
      gate.level = level;
    },
    flush: () => destination.flushSync?.(),
  };
}

interface Gate {
  level: LogLevel;
}

function logOn(logger: Logger, gate: Gate): Log {
  const isEnabled = (level: LogLevel): boolean => RANKS[level] <= RANKS[gate.level];
  const write =
    (level: LogLevel) =>
    (event: string, text: string, fields: LogFields = {}): void => {
      if (isEnabled(level)) logger[level]({ event, ...renamed(cleanFields(fields)) }, withoutUserInfo(text));
    };
  return {
    error: write('error'),
    warn: write('warn'),
    info: write('info'),
    debug: write('debug'),
    trace: write('trace'),
    child: (fields) => logOn(logger.child(renamed(cleanFields(fields))), gate),
    isEnabled,
  };
}

const OWN_KEYS = new Set(['time', 'level', 'event', 'text']);

/** A field may not stand in for the line's own. */
function renamed(fields: Record<string, unknown>): Record<string, unknown> {
  const entries = Object.entries(fields).map(
    ([name, value]) => [OWN_KEYS.has(name) ? `${name}_` : name, value] as const,
  );
  return Object.fromEntries(entries);
}

/** Nothing is made for the ring: it keeps pino's own line, which is without secrets by then. */
function keeping(recent: Ring<string> | undefined, stream: DestinationStream): DestinationStream {
  if (recent === undefined) return stream;
  return {
    write(json) {
      recent.push(json.trimEnd());
      stream.write(json);
    },
  };
}

/** pino gives lines of JSON; the other formats are made of them. */
function streamFor(format: LogFormat, destination: LogDestination, isColoured: boolean): DestinationStream {
  if (format === 'json') return { write: (json) => destination.write(`${safeJson(json.trimEnd())}\n`) };
  return {
    write(json) {
      const { time, level, event, text, ...fields } = JSON.parse(json) as Record<string, unknown>; // pino's own line
      const line = { time: String(time), level: levelOf(level), event: String(event), text: String(text), fields };
      destination.write(`${format === 'journal' ? journalLine(line) : textLine(line, isColoured)}\n`);
    },
  };
}

function levelOf(label: unknown): LogLevel {
  return label === 'error' || label === 'warn' || label === 'debug' || label === 'trace' ? label : 'info';
}

/** Standard error, written synchronously. Nobody can be told when it is gone, so it is then left alone. */
function standardError(): LogDestination {
  const stream = pinoDestination({ fd: STDERR, sync: true });
  stream.on('error', () => undefined);
  return {
    write: (lines) => void stream.write(lines),
    flushSync: () => stream.flushSync(),
  };
}

interface Stream {
  readonly isTerminal: boolean;
  /** `device:inode`, as $JOURNAL_STREAM has it. */
  readonly id: string | undefined;
}

function streamOf(fd: number): Stream {
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    return { isTerminal: isatty(fd), id: `${dev}:${ino}` };
  } catch {
    return { isTerminal: false, id: undefined }; // standard error is closed
  }
}

/** What `auto` means (systemd.exec(5), $JOURNAL_STREAM): the variable counts only if the stream is still that one. */
export function resolveLogFormat(stream: Stream, journalStream: string | undefined): LogFormat {
  if (stream.isTerminal) return 'text';
  return journalStream !== undefined && journalStream === stream.id ? 'journal' : 'json';
}
