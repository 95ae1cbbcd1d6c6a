/** Calls of gRPC over Node's HTTP/2, for the ways that messages take. */
export { framed, framedInPlace, type FrameProblem, PREFIX, writePrefix } from './frame.js';
export { GrpcChannel } from './grpc-channel.js';
export { GrpcServer, type Answer, type ServerMethod } from './grpc-server.js';
export { type ServerCall, statusOfProblem } from './server-call.js';
export { DROPPED, type CallStatus } from './status.js';
export type { Frame, StreamCall, StreamHandlers } from './stream-call.js';
export { methodAt } from './unary-call.js';
