/**
 * A delivery on a stream, from its frame until what the worker said of it is durable; and what the queue is told of it.
 */
import { status } from '@grpc/grpc-js';
import { type Body, type Delivery, Refusal_Kind } from '../../../protocol/generated/stream.js';
import type { Data } from '../../../protocol/generated/yggdrasil.js';
import type { InboundRecord } from '../../message/record.js';
import { dataFromRecord } from '../codec.js';
import type { Answer, Call, Report } from '../link-port.js';
import type { CompletionWatch } from './books.js';
import type { Batch } from './results.js';
import { Violation } from './violation.js';
import type { Load } from './window.js';

/** Is told how the commit of a completion went. */
export interface CommitPort {
  readonly durable: (flight: StreamFlight) => void;
  readonly failed: (flight: StreamFlight, error: unknown) => void;
}

/** It is what stands in the frame, what it takes of the window, and who is told of its commit: one object, not five. */
export class StreamFlight implements Delivery, Load, CompletionWatch {
  readonly kind = 'delivery';
  readonly messages = 1;
  readonly bytes: number;
  readonly bodies: number;
  readonly data: Data;
  readonly body: Body | undefined;
  /** `settling`: the worker has said what became of it, and that is not durable yet. */
  state: 'open' | 'settling' = 'open';
  /** Its end is being committed: what becomes of the stream changes nothing any more. */
  isDecided = false;
  /** The worker was asked to give it up. */
  isCancelled = false;
  /** What its completion holds, once it is being committed. */
  batch: Batch | undefined;
  /** Whether what came of it was told. */
  #isTold = false;

  constructor(
    readonly tag: number,
    private readonly call: Call,
    content: Buffer,
    private readonly port: CommitPort,
  ) {
    const { record } = call;
    const stored = record.content;
    this.data = dataFromRecord(record, content);
    this.body = stored.kind === 'file' ? { size: BigInt(stored.size) } : undefined;
    this.bytes = stored.kind === 'file' ? 0 : content.length;
    this.bodies = stored.kind === 'file' ? 1 : 0;
  }

  get record(): InboundRecord {
    return this.call.record;
  }

  get priority(): number {
    return this.call.record.priority;
  }

  /** Tells the queue what came of it; of all that would be one, the first. */
  tell(report: Report): void {
    if (this.#isTold) return;
    this.#isTold = true;
    this.call.report(report);
  }

  /** It ends as completed: how its commit goes is still told. */
  decided(batch: Batch): void {
    this.batch = batch;
    this.isDecided = true;
    if (!this.#isTold) this.call.report(COMPLETED);
  }

  durable(): void {
    this.port.durable(this);
  }

  failed(error: unknown): void {
    this.port.failed(this, error);
  }
}

const COMPLETED: Report = { kind: 'completed' };
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
