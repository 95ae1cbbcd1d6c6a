export { LocalCalls, type Dispatched, type Heard, type LocalCallsOptions, type LocalMessage } from './local-calls.js';
export type { AnswerLimits, LocalStore } from './ports.js';
