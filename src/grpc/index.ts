/** Unary calls of gRPC over Node's HTTP/2, for the ways on which each message is a call. */
export { framed, PREFIX, writePrefix } from './frame.js';
export type { CallStatus } from './status.js';
export { UnaryCall } from './unary-call.js';
export { methodAt, UnaryChannel } from './unary-channel.js';
