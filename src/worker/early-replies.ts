/**
 * The replies that a handler sends before it returns. They are handed over one after the other, each once the agent has
 * the one before, so that their order holds whatever the agent refuses for a while. What is still waiting when the
 * handler returns goes with its completion, in one transaction.
 */
import type { Data } from '../../protocol/generated/yggdrasil.js';

/** A reply that was not handed over, with the promise that its sender holds. */
export interface PendingReply {
  readonly data: Data;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export class EarlyReplies {
  readonly #waiting: PendingReply[] = [];
  #failure: Error | undefined;
  #isClosed = false;
  #handOver: Promise<void> | undefined;

  constructor(private readonly send: (data: Data) => Promise<void>) {}

  /** Resolves when the agent has it safe; rejects when the agent does not take it, or one before it. */
  add(data: Data): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const added = new Promise<void>((resolve, reject) => this.#waiting.push({ data, resolve, reject }));
    // A handler need not await each send: its end reports the failure, so here it must not count as unhandled.
    added.catch(() => undefined);
    this.#handOver ??= this.#all();
    return added;
  }

  /** No more are handed over: what is left, once the one under way is accepted. Rejects with the first failure. */
  async close(): Promise<readonly PendingReply[]> {
    this.#isClosed = true;
    await this.#handOver;
    if (this.#failure !== undefined) throw this.#failure;
    return this.#waiting;
  }

  /** Resolves when all are accepted; rejects with the first failure. */
  async flush(): Promise<void> {
    await this.#handOver;
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #all(): Promise<void> {
    // The turn's end: a handler that returns before it has all its replies in one completion.
    await new Promise(setImmediate);
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      try {
        await this.send(next.data);
        next.resolve();
      } catch (error) {
        this.#fail(error instanceof Error ? error : new Error(String(error)), next);
      }
    }
    this.#handOver = undefined;
  }

  #next(): PendingReply | undefined {
    return this.#isClosed ? undefined : this.#waiting.shift();
  }

  #fail(failure: Error, reply: PendingReply): void {
    this.#failure = failure;
    for (const { reject } of [reply, ...this.#waiting.splice(0)]) reject(failure);
  }
}
