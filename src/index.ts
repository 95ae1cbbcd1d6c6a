/**
 * The library `yggdrasil-agent`: the agent, and its parts, from which another daemon can be built.
 *
 * ```ts
 * import { Agent, checkCredentials, createLog, loadSettings, resolveClientId } from 'yggdrasil-agent';
 * ```
 *
 * The worker SDK is `yggdrasil-agent/worker`.
 */
export { Agent, type AgentOptions, type AgentReload, type AgentReloaded, type CredentialsRenewal } from './agent.js';
export type { AgentHost } from './agent-admin.js';
export * from './config/index.js';
export { Connection, type ConnectionOptions, type Session } from './connection/index.js';
export {
  Datastore,
  LmdbJournal,
  MemoryJournal,
  type DatastoreOptions,
  type Journal,
  type ProcessEntry,
  type Replay,
  type TornRecord,
  type WorkerEntry,
} from './datastore/index.js';
export { Dispatcher, type DispatcherOptions } from './dispatcher/index.js';
export { AgentError, ERRORS, type ErrorCode, type ErrorDetails } from './errors.js';
export { createLog, recentLines, silentLog, type Log, type LogOptions, type ProgramLog } from './log/index.js';
export * from './message/index.js';
export { openCgroups, ProcessManager, type ProcessManagerOptions } from './process/index.js';
export { createUrlPolicy, DataProcessor, type DataProcessorOptions } from './processor/index.js';
export { MessageRouter, subscriptionsOf, type RouterOptions } from './router/index.js';
export { Channel, Ring, Signal, type RingReader } from './signal/index.js';
export { systemClock, type Clock, type Millis, type Random } from './time.js';
export { VERSION } from './version.js';
