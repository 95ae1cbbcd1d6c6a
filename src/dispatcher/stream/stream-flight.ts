/**
 * A delivery on a stream, from its frame until what the worker said of it is durable; and what the queue is told of it.
 */
import { status } from '@grpc/grpc-js';
import { Refusal_Kind } from '../../../protocol/generated/stream.js';
import type { InboundRecord } from '../../message/record.js';
import type { Answer, Report } from '../link-port.js';
import { Violation } from './violation.js';
import type { Load } from './window.js';

export interface StreamFlight {
  readonly tag: number;
  readonly record: InboundRecord;
  readonly load: Load;
  /** What the queue wants to be told; undefined once it was, or does not want to be any more. */
  done: ((report: Report) => void) | undefined;
  /** `settling`: the worker has said what became of it, and that is not durable yet. */
  state: 'open' | 'settling';
  /** Its end is being committed: what becomes of the stream changes nothing any more. */
  isDecided: boolean;
  /** The worker was asked to give it up. */
  isCancelled: boolean;
}

export const COMPLETED: Report = { kind: 'completed' };
export const WRITTEN: Report = { kind: 'written' };

/** Outcomes of one lane keep their order. */
export function laneOf(record: InboundRecord): string {
  return `${record.directiveKey}/${record.priority}`;
}

/** What a delivery takes of the window. */
export function loadOf({ content }: InboundRecord): Load {
  return content.kind === 'inline'
    ? { messages: 1, bytes: content.bytes.length, bodies: 0 }
    : { messages: 1, bytes: 0, bodies: 1 };
}

/** What a refusal means, in the words of a unary call. */
export function answerFrom(kind: Refusal_Kind, reason: string): Answer {
  const answer = (code: status): Answer => ({ kind: 'status', code, details: reason, isConnected: true });
  switch (kind) {
    case Refusal_Kind.FAILED:
      return answer(status.INTERNAL);
    case Refusal_Kind.UNAVAILABLE:
      return answer(status.UNAVAILABLE);
    case Refusal_Kind.INVALID:
      return answer(status.INVALID_ARGUMENT);
    case Refusal_Kind.CANCELLED:
      return { kind: 'cancelled' };
    case Refusal_Kind.UNRECOGNIZED:
    default:
      throw new Violation(`${kind} is no kind of refusal`);
  }
}
