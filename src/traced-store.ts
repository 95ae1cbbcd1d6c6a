/**
 * The datastore of an agent, which tells the trace of the steps that no signal announces: those that a part takes by
 * telling the store. One number is written for each; nothing waits for it and nothing depends on it.
 */
import { Datastore, type DatastoreOptions } from './datastore/index.js';
import type { DirectiveKey, Failure, InboundEnd, MessageKey, OutboundEnd, Content } from './message/index.js';
import { STEP, type Trace } from './trace/index.js';

export class TracedStore extends Datastore {
  constructor(
    options: DatastoreOptions,
    private readonly trace: Trace,
  ) {
    super(options);
  }

  override markFetching(key: MessageKey): boolean {
    const isFetching = super.markFetching(key);
    if (isFetching) this.trace.mark(key, STEP.fetching);
    return isFetching;
  }

  override async fetched(key: MessageKey, content: Content): Promise<void> {
    await super.fetched(key, content);
    this.trace.mark(key, STEP.fetched);
  }

  override markDispatching(key: MessageKey): void {
    super.markDispatching(key);
    this.trace.mark(key, STEP.underWay);
  }

  override requeue(key: MessageKey): void {
    super.requeue(key);
    this.trace.mark(key, STEP.back);
  }

  override async end(
    key: MessageKey,
    end: Exclude<InboundEnd, 'delivered'>,
    failure: Failure,
  ): ReturnType<Datastore['end']> {
    const ending = await super.end(key, end, failure);
    if (ending.kind === 'ended') this.trace.ended(key, end);
    return ending;
  }

  override async cancel(directive: DirectiveKey, messageId: string): ReturnType<Datastore['cancel']> {
    const cancellation = await super.cancel(directive, messageId);
    if (cancellation.kind === 'cancelled') this.trace.ended(cancellation.key, 'cancelled');
    return cancellation;
  }

  override markSending(key: MessageKey): void {
    super.markSending(key);
    this.trace.mark(key, STEP.underWay);
  }

  override unsend(key: MessageKey): void {
    super.unsend(key);
    this.trace.mark(key, STEP.back);
  }

  override retryOutbound(key: MessageKey, dueAt: number): Promise<void> {
    this.trace.mark(key, STEP.back);
    return super.retryOutbound(key, dueAt);
  }

  /** When the broker, or whoever it was for, has acknowledged it: the journal learns it a little later. */
  override endOutbound(key: MessageKey, end: OutboundEnd, failure?: Failure): Promise<boolean> {
    this.trace.ended(key, end);
    return super.endOutbound(key, end, failure);
  }
}
