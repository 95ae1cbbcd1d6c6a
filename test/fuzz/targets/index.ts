/**
 * Every parser that takes bytes, text or objects from outside. A file a part of the program; within it each target names
 * its parser, its generator (`inputs`, `examples`) and its oracle (`judge`).
 */
import type { Target } from '../target.js';
import { configTargets } from './config.js';
import { connectionTargets } from './connection.js';
import { datastoreTargets } from './datastore.js';
import { grpcTargets } from './grpc.js';
import { logTargets } from './log.js';
import { messageTargets } from './message.js';
import { packetReaderTargets } from './packet-reader.js';
import { processTargets } from './process.js';
import { processorTargets } from './processor.js';
import { routerTargets } from './router.js';
import { workerTargets } from './worker.js';

export const TARGETS: readonly Target[] = [
  ...messageTargets,
  ...routerTargets,
  ...connectionTargets,
  ...packetReaderTargets,
  ...grpcTargets,
  ...datastoreTargets,
  ...processorTargets,
  ...configTargets,
  ...processTargets,
  ...workerTargets,
  ...logTargets,
];
