/**
 * The worker SDK, `yggdrasil-agent/worker`: everything a worker in TypeScript or JavaScript needs. `serve` registers
 * with the agent, again whenever the agent was away, gives each message to a handler, hands its replies over and
 * returns the receipt only after the agent has them safe: a message is lost neither with the worker nor with the agent.
 *
 * ```ts
 * import { endWithError, jsonReply, serve } from 'yggdrasil-agent/worker';
 *
 * await serve({ handler: 'uptime', features: { version: '1' } }, () => {
 *   return jsonReply({ seconds: process.uptime() });
 * }).catch(endWithError);
 * ```
 *
 * A message comes at least once: a handler may run again for a message it has seen (the worker was killed in its
 * midst), and its replies then carry the same ids. docs/writing-a-worker.md tells the rest.
 */
export { serve } from './serve.js';
export type { ServeOptions } from './options.js';
export type { WorkerEvent } from './event.js';
export type { TransportChoice } from './transport.js';
export { Cancelled, type Handler, type HandlerContext } from './run.js';
export { jsonReply, Refusal, type Replies, type Reply, type WorkerMessage } from './message.js';
export { runProgram, type ProgramOptions, type ProgramResult } from './program.js';
export { endWithError } from './end.js';
export { stderrLog } from './stderr-log.js';
export { AgentError, errorText } from '../errors.js';
export type { Log, LogFields, LogLevel } from '../log/log.js';
