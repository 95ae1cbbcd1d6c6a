export { AdminClient } from './client.js';
export { MESSAGE_STATES } from './message-view.js';
export type { AdminDesk, AnyMessage, Answer, MessagePage } from './ports.js';
export { adminSocket, AdminPost, type AdminOptions } from './server.js';
