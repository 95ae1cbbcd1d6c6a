export {
  createLog,
  recentLines,
  resolveLogFormat,
  type LogDestination,
  type LogOptions,
  type ProgramLog,
} from './create-log.js';
export { escapeControls, safeJson, textLine, type Line, type LogFormat } from './format.js';
export { silentLog, type Log, type LogFields, type LogLevel } from './log.js';
