/** A delivery of one stream, from the frame that brought it until the agent knows how it ended. */
import type { Data } from '../../../protocol/generated/yggdrasil.js';
import type { Completed, Delivery, IncomingBody, RefusalKind } from '../delivery.js';
import type { Run } from '../run.js';
import type { Parcel } from './parcel.js';
import type { Load } from './window.js';

/** What a delivery needs of its stream. */
export interface DeliveryStream {
  complete(delivery: StreamDelivery, replies: readonly Data[]): void;
  refuse(delivery: StreamDelivery, kind: RefusalKind, reason: string): void;
}

export class StreamDelivery implements Delivery {
  /** The run that answers it. */
  run: Run | undefined;
  /** Whom to tell what became of the completion; undefined before it is made. */
  completed: Completed | undefined;
  replies: readonly Data[] = [];
  /** The completion under way; undefined while there is none. */
  parcel: Parcel | undefined;
  /** Whether the agent told that its sender wants it given up. */
  isCancelled = false;
  /** Whether it was answered, by a completion or a refusal: then it is in the worker's window no more. */
  isAnswered = false;
  /** How often the agent did not take the completion for the moment. */
  delays = 0;

  constructor(
    readonly tag: number,
    readonly priority: number,
    readonly data: Data,
    readonly body: IncomingBody | undefined,
    readonly load: Load,
    private readonly stream: DeliveryStream,
  ) {}

  complete(replies: readonly Data[], completed: Completed): undefined {
    this.completed = completed;
    this.replies = replies;
    this.stream.complete(this, replies);
  }

  refuse(kind: RefusalKind, reason: string): void {
    // Cancelled under another delivery, and joined by this one: of this one the agent has not said so.
    this.stream.refuse(this, kind === 'cancelled' && !this.isCancelled ? 'unavailable' : kind, reason);
  }
}
