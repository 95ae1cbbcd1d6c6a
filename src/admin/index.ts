export { AdminClient } from './client.js';
export { LOG_LEVELS } from './log-calls.js';
export type {
  AgentStatus,
  DispatchEvent,
  Dispatched,
  Event,
  LocalAnswer,
  TracedMessage,
} from '../../protocol/generated/admin.js';
export type { LocalDispatch, LocalHeard, LocalMessage, MessageDesk } from './message-ports.js';
export { MESSAGE_STATES } from './message-view.js';
export type { AdminDesk, AnyMessage, Answer, ConfigDesk, LogDesk, MessagePage, WorkerDesk } from './ports.js';
export { adminSocket, AdminPost, type AdminOptions } from './server.js';
