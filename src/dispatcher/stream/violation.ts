/** What a worker may not do on a stream. */
import { status } from '@grpc/grpc-js';
import { statusOfProblem, type CallStatus, type FrameProblem } from '../../grpc/index.js';

/** A rule of stream.proto that the worker broke: its call ends with INVALID_ARGUMENT, and this text names the rule. */
export class Violation extends Error {
  override readonly name = 'Violation';
}

/** Frames without anything in them that may come in a row: a later version may put something there that we skip. */
export const MOST_EMPTY = 100;

/** How a call ends that brought no frame which can be taken. `tooLarge`: what is said of one that is. */
export function statusOfUnfit(problem: FrameProblem, tooLarge: string): CallStatus {
  if (problem.kind === 'too-large') return { code: status.INVALID_ARGUMENT, details: tooLarge };
  return statusOfProblem(problem);
}
