/**
 * The port through which every part speaks to the log. Only `log/` knows what stands behind it.
 */

export type LogLevel = 'error' | 'warn' | 'info' | 'debug' | 'trace';

/** Values that belong to a line. Never a payload above `trace`, never a secret. */
export type LogFields = Readonly<Record<string, unknown>>;

export interface Log {
  /** `event` is a stable id such as `worker.started`; `text` a sentence for a person. */
  error(event: string, text: string, fields?: LogFields): void;
  warn(event: string, text: string, fields?: LogFields): void;
  /** What an operator would act on or count. */
  info(event: string, text: string, fields?: LogFields): void;
  /** What a developer would want to see. */
  debug(event: string, text: string, fields?: LogFields): void;
  trace(event: string, text: string, fields?: LogFields): void;
  /** The same log with fields that stand on each of its lines. */
  child(fields: LogFields): Log;
  /** Whether a line of this level would be written: ask before building an expensive one. */
  isEnabled(level: LogLevel): boolean;
}

/** A log that writes nothing. */
export const silentLog: Log = {
  error: ignore,
  warn: ignore,
  info: ignore,
  debug: ignore,
  trace: ignore,
  child: () => silentLog,
  isEnabled: () => false,
};

function ignore(): void {
  // Nothing is written: that is what this log is for.
}
