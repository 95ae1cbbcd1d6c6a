export { createLog, resolveLogFormat, type LogDestination, type LogOptions, type ProgramLog } from './create-log.js';
export { escapeControls, type LogFormat } from './format.js';
export { silentLog, type Log, type LogFields, type LogLevel } from './log.js';
