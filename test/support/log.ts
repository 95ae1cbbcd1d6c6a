/** A log that keeps its lines, so that a test can read them and wait for one. */
import type { Log, LogFields, LogLevel } from '../../src/log/log.js';
import { Signal } from '../../src/signal/index.js';

export interface LogLine {
  readonly level: LogLevel;
  readonly event: string;
  readonly text: string;
  readonly fields: LogFields;
}

export interface RecordingLog extends Log {
  readonly lines: LogLine[];
  readonly written: Signal<LogLine>;
  /** Resolves with the first line (past or future) of this event. */
  line(event: string, scope?: AbortSignal): Promise<LogLine>;
}

export function recordingLog(): RecordingLog {
  const lines: LogLine[] = [];
  const written = new Signal<LogLine>('written');
  const at = (fields: LogFields): Log => {
    const write =
      (level: LogLevel) =>
      (event: string, text: string, more: LogFields = {}): void => {
        const line = { level, event, text, fields: { ...fields, ...more } };
        lines.push(line);
        written.emit(line);
      };
    return {
      error: write('error'),
      warn: write('warn'),
      info: write('info'),
      debug: write('debug'),
      trace: write('trace'),
      child: (more) => at({ ...fields, ...more }),
      isEnabled: () => true,
    };
  };
  return {
    ...at({}),
    lines,
    written,
    line: async (event, scope = new AbortController().signal) =>
      lines.find((line) => line.event === event) ?? (await written.next(scope, (line) => line.event === event)),
  };
}
