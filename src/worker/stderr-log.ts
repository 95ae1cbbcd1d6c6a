/**
 * The log of a worker that was given none: lines on standard error, which the agent takes into its own log with the
 * worker's name. YGG_LOG_LEVEL, which the agent sets, says from which level on.
 */
import type { Log, LogFields, LogLevel } from '../log/log.js';

const LEVELS: readonly LogLevel[] = ['error', 'warn', 'info', 'debug', 'trace'];

/** `level` is a name of any case, as in YGG_LOG_LEVEL; one that nobody knows means info. */
export function stderrLog(
  level: string = process.env['YGG_LOG_LEVEL'] ?? 'info',
  write: (line: string) => void = (line) => process.stderr.write(line),
): Log {
  const given = LEVELS.findIndex((known) => known === level.toLowerCase());
  const limit = given === -1 ? LEVELS.indexOf('info') : given;
  const isEnabled = (asked: LogLevel): boolean => LEVELS.indexOf(asked) <= limit;
  const withFields = (fields: LogFields): Log => {
    const writer =
      (at: LogLevel) =>
      (event: string, text: string, more: LogFields = {}): void => {
        if (isEnabled(at)) write(formatLine(at, event, text, { ...fields, ...more }));
      };
    return {
      error: writer('error'),
      warn: writer('warn'),
      info: writer('info'),
      debug: writer('debug'),
      trace: writer('trace'),
      child: (more) => withFields({ ...fields, ...more }),
      isEnabled,
    };
  };
  return withFields({});
}

/** One line, whatever the text holds: a line break inside it would read as a second entry. */
function formatLine(level: LogLevel, event: string, text: string, fields: LogFields): string {
  const values = Object.entries(fields).map(([name, value]) => ` ${name}=${JSON.stringify(value)}`);
  return `${level.toUpperCase()} ${event}: ${text.replace(/[\r\n]+/g, ' ')}${values.join('')}\n`;
}
