/**
 * The agent's calls. A call is answered only after the handler is done and the agent has accepted every reply; that
 * answer is the receipt (CONTRACT 1.2). At most `concurrency` handlers run at once. A message that comes again while
 * its handler still runs (the agent restarted) joins that run instead of starting a second one.
 */
import { status } from '@grpc/grpc-js';
import type { Data } from '../../protocol/generated/yggdrasil.js';
import { errorText } from '../errors.js';
import type { Log } from '../log/log.js';
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
  /** Aborted when the worker is told to stop: finish soon, or throw and the agent delivers the message again. */
  readonly signal: AbortSignal;
  /** Sends a reply now; resolves when the agent has it safe. Replies keep their order. */
  send(reply: Reply): Promise<void>;
  readonly log: Log;
  /** The index of the next reply, which makes its id. */
  readonly replyIndex: number;
}

/** Does the work of one message. A throw makes the agent deliver it again after a back-off. */
export type Handler = (message: WorkerMessage, context: HandlerContext) => Promise<Replies> | Replies;

/** How a call ended: the receipt, or the gRPC status that tells the agent why not. */
export type CallOutcome =
  { readonly kind: 'done' } | { readonly kind: 'failed'; readonly code: status; readonly details: string };

export interface CallsOptions {
  readonly handler: Handler;
  readonly concurrency: number;
  readonly log: Log;
  /** Hands a reply to the agent; resolves when it is on stable storage. */
  readonly send: (data: Data) => Promise<void>;
}

export class Calls {
  readonly #stopping = new AbortController();
  readonly #running = new Map<string | symbol, Promise<CallOutcome>>();
  // Bounded by the server's grpc.max_concurrent_streams.
  readonly #waiting: (() => void)[] = [];
  #free: number;

  constructor(private readonly options: CallsOptions) {
    this.#free = options.concurrency;
  }

  /** Never rejects. */
  async take(data: Data): Promise<CallOutcome> {
    const key = data.messageId === '' ? Symbol('no id') : `${data.directive}\0${data.messageId}`;
    const running = this.#running.get(key);
    if (running !== undefined) return await running;
    const run = this.#inTurn(data);
    this.#running.set(key, run);
    try {
      return await run;
    } finally {
      this.#running.delete(key);
    }
  }

  /** Tells the handlers to finish, refuses new calls, and resolves when the last one has ended. Idempotent. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all(this.#running.values());
  }

  async #inTurn(data: Data): Promise<CallOutcome> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      if (this.#stopping.signal.aborted) return unavailable('the worker is stopping');
      return await this.#handle(data);
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    }
  }

  async #handle(data: Data): Promise<CallOutcome> {
    const message = messageFromData(data);
    const log = this.options.log.child({ message_id: message.messageId });
    const replies = new ReplyQueue(message, this.options.send);
    const context: HandlerContext = {
      signal: this.#stopping.signal,
      send: (reply) => replies.send(reply),
      log,
      get replyIndex() {
        return replies.next;
      },
    };
    try {
      const returned = await this.options.handler(message, context);
      for (const reply of listOfReplies(returned)) void replies.send(reply);
      await replies.close();
      return { kind: 'done' };
    } catch (error) {
      const outcome = this.#outcomeOf(error);
      await replies.close().catch(() => undefined); // Its first failure is what the handler threw, or comes second to it.
      log.error('worker.handler_failed', `the handler failed: ${outcome.details}`, { status: status[outcome.code] });
      return outcome;
    }
  }

  #outcomeOf(error: unknown): CallOutcome & { kind: 'failed' } {
    const details = statusText(errorText(error));
    if (error instanceof Refusal) return { kind: 'failed', code: status.INVALID_ARGUMENT, details };
    // What is broken off because we stop is nobody's fault: UNAVAILABLE counts no attempt (CONTRACT 1.5).
    return this.#stopping.signal.aborted ? unavailable(details) : { kind: 'failed', code: status.INTERNAL, details };
  }
}

/** The replies to one message, numbered and handed over one after the other in the order they were sent. */
class ReplyQueue {
  #next = 0;
  #isClosed = false;
  #last: Promise<void> = Promise.resolve();

  constructor(
    private readonly request: WorkerMessage,
    private readonly deliver: (data: Data) => Promise<void>,
  ) {}

  get next(): number {
    return this.#next;
  }

  send(reply: Reply): Promise<void> {
    if (this.#isClosed) {
      const late = `a reply to message ${this.request.messageId} came after its handler was done: await what sends it`;
      return Promise.reject(new Error(late));
    }
    const data = dataFromReply(reply, this.request, this.#next);
    this.#next += 1;
    this.#last = this.#last.then(() => this.deliver(data));
    // A handler need not await each send: `close` reports the failure, so here it must not count as unhandled.
    this.#last.catch(() => undefined);
    return this.#last;
  }

  /** No more replies; resolves when the agent has accepted all, rejects with the first failure. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#last;
  }
}

function unavailable(details: string): CallOutcome & { kind: 'failed' } {
  return { kind: 'failed', code: status.UNAVAILABLE, details };
}
