export { Signal, type ErrorSink } from './signal.js';
export { Channel, type FullPolicy } from './channel.js';
