export { Dispatcher, type DispatcherOptions, type HandlerOfWorker } from './dispatcher.js';
export { DEFAULT_LIMITS } from './ports.js';
export type {
  AgentConfig,
  CompletionAcceptance,
  ContentReader,
  ContentWriter,
  DispatchLimits,
  DispatchSettings,
  DispatchStore,
  FileContent,
  Handler,
  NewResult,
  Outcome,
  Peer,
  Preparation,
  ProcessExit,
  ResultAcceptance,
  WorkerEntry,
} from './ports.js';
