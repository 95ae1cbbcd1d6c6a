/**
 * One run of the handler for one message: what the handler is given, the replies it makes, and how the run ends. A run
 * outlives the delivery that began it: when the agent went away, the message's next delivery joins it.
 */
import type { Data } from '../../protocol/generated/yggdrasil.js';
import { errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import { AgentLost, type Completed, type Delivery, type IncomingBody, type RefusalKind } from './delivery.js';
import { EarlyReplies, type PendingReply } from './early-replies.js';
import { statusText } from './grpc.js';
import {
  dataFromReply,
  listOfReplies,
  messageFromData,
  Refusal,
  type Replies,
  type Reply,
  type WorkerMessage,
} from './message.js';

/** What a handler may use besides the message. */
export interface HandlerContext {
  /**
   * Aborted when the worker is told to stop: finish soon, or throw and the agent delivers the message again. Aborted
   * with a {@link Cancelled} as its reason when the sender wants the message given up: throw, and it ends as cancelled.
   */
  readonly signal: AbortSignal;
  /** Sends a reply now; resolves when the agent has it safe. Replies keep their order. */
  readonly send: (reply: Reply) => Promise<void>;
  readonly log: Log;
  /** The index of the next reply, which makes its id. */
  readonly replyIndex: number;
}

/** Does the work of one message. A throw makes the agent deliver it again after a back-off. */
export type Handler = (message: WorkerMessage, context: HandlerContext) => Promise<Replies> | Replies;

/** The reason of a `context.signal` whose message was cancelled by its sender. Agents with the stream alone tell this. */
export class Cancelled extends Error {
  override readonly name = 'Cancelled';
}

/** What a run needs of the runs it is one of. */
export interface RunOwner {
  readonly log: Log;
  readonly handler: Handler;
  /** Why the worker stops; undefined while it does not. */
  readonly stopReason: Error | undefined;
  /** Whether bodies are given to the handler as streams. */
  readonly isStreaming: boolean;
  /** Hands a reply over before the end, however long that takes. */
  send(data: Data): Promise<void>;
  /** Its outcome is handed over in its turn: the next run may begin. */
  released(run: Run): void;
  /** It is completed, and no delivery waits for it: one may come again. */
  kept(run: Run): void;
  /** Nobody is owed anything for it any more. */
  ended(run: Run): void;
}

/** `finishing`: the handler is done, what it sent before is not yet accepted. `completed`: its replies are on their way. */
type State = 'queued' | 'running' | 'finishing' | 'completed' | 'ended';

const NONE: readonly never[] = [];

export class Run implements Completed {
  #state: State = 'queued';
  /** Who waits for it: the first one's completion carries the replies. */
  #deliveries: Delivery[];
  #message: WorkerMessage | undefined;
  #body: IncomingBody | undefined;
  #nextIndex = 0;
  #early: EarlyReplies | undefined;
  /** Replies of `send` that go with the completion: their senders hear how it ends. */
  #pending: readonly PendingReply[] = NONE;
  /** What the completion holds, once the handler is done. */
  #replies: readonly Data[] = NONE;
  #abort: AbortController | undefined;
  #abortReason: Error | undefined;
  #log: Log | undefined;

  constructor(
    delivery: Delivery,
    private readonly owner: RunOwner,
  ) {
    this.#deliveries = [delivery];
    this.data = delivery.data;
  }

  readonly data: Data;

  get isQueued(): boolean {
    return this.#state === 'queued';
  }

  /** Whether no delivery waits for it (any more). */
  get isOrphan(): boolean {
    return this.#deliveries.length === 0;
  }

  /** Whether its handler is done, and nobody knows yet that its replies are durable. */
  get isCompleted(): boolean {
    return this.#state === 'completed';
  }

  /** The delivery whose content it works on. */
  get first(): Delivery | undefined {
    return this.#deliveries[0];
  }

  /** For the context; made when a handler asks for it. */
  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController();
      const reason = this.#abortReason ?? this.owner.stopReason;
      if (reason !== undefined) this.#abort.abort(reason);
    }
    return this.#abort.signal;
  }

  get log(): Log {
    this.#log ??= this.owner.log.child({ message_id: this.data.messageId });
    return this.#log;
  }

  get nextIndex(): number {
    return this.#nextIndex;
  }

  /** Calls the handler with `content`. Never throws. */
  start(content: Buffer): void {
    this.#state = 'running';
    this.#body = this.first?.body;
    let returned: Promise<Replies> | Replies;
    try {
      const body = this.owner.isStreaming ? this.#body : undefined;
      this.#message = messageFromData(this.data, content, body);
      returned = this.owner.handler(this.#message, new Context(this));
    } catch (error) {
      this.#fail(error);
      return;
    }
    if (!isPromise(returned)) this.#finish(returned);
    else {
      returned.then(
        (replies) => this.#finish(replies),
        (error: unknown) => this.#fail(error),
      );
    }
  }

  /** For the context: hands a reply over while the handler runs. */
  send(reply: Reply): Promise<void> {
    if (this.#state !== 'running') {
      const late = `a reply to message ${this.data.messageId} came after its handler was done: await what sends it`;
      return Promise.reject(new Error(late));
    }
    this.#early ??= new EarlyReplies((data) => this.owner.send(data));
    return this.#early.add(this.#dataOf(reply));
  }

  /** The same message came again: this run answers for that delivery, too. */
  join(delivery: Delivery): void {
    this.#deliveries.push(delivery);
    if (this.#state === 'completed' && this.#deliveries.length === 1) void delivery.complete(this.#replies, this);
  }

  /** The delivery is void, since its transport is gone. */
  lose(delivery: Delivery): void {
    this.#deliveries = this.#deliveries.filter((other) => other !== delivery);
  }

  /** Tells the handler to give up. */
  abort(reason: Error): void {
    this.#abortReason ??= reason;
    this.#abort?.abort(reason);
  }

  /** Gives it back without (or after) a run of the handler. */
  refuse(kind: RefusalKind, reason: string): void {
    this.#end();
    for (const delivery of this.#deliveries) delivery.refuse(kind, reason);
  }

  settled(): void {
    if (this.#state !== 'completed') return;
    this.#end();
    for (const { resolve } of this.#pending) resolve();
    // The others came while the first one's completion was under way: theirs need no replies any more.
    for (const delivery of this.#deliveries.slice(1)) void delivery.complete(NONE, this);
  }

  rejected(error: Error): void {
    if (this.#state !== 'completed') return;
    this.#refuseWith(error);
  }

  /** Nobody asks for its outcome any more. */
  forget(): void {
    for (const { reject } of this.#pending) reject(new AgentLost('the agent has gone and did not ask for it again'));
    this.#end();
  }

  #finish(returned: Replies): void {
    try {
      const replies = listOfReplies(returned).map((reply) => this.#dataOf(reply));
      if (this.#early === undefined) this.#complete(replies);
      else void this.#completeAfter(this.#early, replies);
    } catch (error) {
      this.#fail(error);
    }
  }

  async #completeAfter(early: EarlyReplies, replies: readonly Data[]): Promise<void> {
    this.#state = 'finishing';
    try {
      this.#pending = await early.close();
      this.#complete([...this.#pending.map(({ data }) => data), ...replies]);
    } catch (error) {
      this.#refuseWith(error);
      this.owner.released(this);
    }
  }

  #complete(replies: readonly Data[]): void {
    this.#state = 'completed';
    this.#replies = replies;
    this.#body?.stop();
    const handedOver = this.first?.complete(replies, this);
    if (handedOver === undefined) this.owner.released(this);
    else void handedOver.finally(() => this.owner.released(this));
    if (this.isOrphan) this.owner.kept(this);
  }

  #fail(error: unknown): void {
    this.#state = 'finishing';
    const refuse = (): void => {
      this.#refuseWith(error);
      this.owner.released(this);
    };
    // What it sent before goes first. The first failure of that is what the handler threw, or comes second to it.
    if (this.#early === undefined) refuse();
    else void this.#early.flush().then(refuse, refuse);
  }

  #refuseWith(error: unknown): void {
    const { kind, reason } = this.#refusalOf(error);
    if (kind === 'cancelled') this.log.info('worker.cancelled', `the handler gave the cancelled message up: ${reason}`);
    else this.log.error('worker.handler_failed', `the handler failed: ${reason}`, { kind });
    for (const { reject } of this.#pending) reject(error instanceof Error ? error : new Error(reason));
    this.refuse(kind, reason);
  }

  #refusalOf(error: unknown): { kind: RefusalKind; reason: string } {
    const reason = statusText(errorText(error));
    if (this.#abortReason instanceof Cancelled) return { kind: 'cancelled', reason };
    if (error instanceof Refusal) return { kind: 'invalid', reason };
    // What is broken off because we stop, or because the agent went, is nobody's fault: it counts no attempt
    // (CONTRACT 1.5).
    const isInterrupted = this.owner.stopReason !== undefined || this.#body?.failure instanceof AgentLost;
    return { kind: isInterrupted ? 'unavailable' : 'failed', reason };
  }

  #end(): void {
    this.#state = 'ended';
    this.#body?.stop();
    this.owner.ended(this);
  }

  #dataOf(reply: Reply): Data {
    const data = dataFromReply(reply, this.data, this.#nextIndex);
    this.#nextIndex += 1;
    return data;
  }
}

/** An object of its own, so that a handler sees nothing of the run but this. */
class Context implements HandlerContext {
  readonly #run: Run;
  #send: HandlerContext['send'] | undefined;

  constructor(run: Run) {
    this.#run = run;
  }

  get signal(): AbortSignal {
    return this.#run.signal;
  }

  get log(): Log {
    return this.#run.log;
  }

  get replyIndex(): number {
    return this.#run.nextIndex;
  }

  /** A function that needs no `this`: handlers take contexts apart. */
  get send(): HandlerContext['send'] {
    this.#send ??= (reply) => this.#run.send(reply);
    return this.#send;
  }
}

function isPromise(returned: Promise<Replies> | Replies): returned is Promise<Replies> {
  return returned !== undefined && 'then' in returned && typeof returned.then === 'function';
}
