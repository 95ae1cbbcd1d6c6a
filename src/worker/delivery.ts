/** One delivery of a message as the runs see it, whichever transport brought it: what it holds and how it is answered. */
import type { Readable } from 'node:stream';
import type { Data } from '../../protocol/generated/yggdrasil.js';

/** Why a message is given back: Refusal.Kind of stream.proto. */
export type RefusalKind = 'failed' | 'unavailable' | 'invalid' | 'cancelled';

/** Who is told what became of a completion. */
export interface Completed {
  /** Replies and receipt are durable. */
  settled(): void;
  /** The agent does not take them, nor would it later: the delivery is to be refused. */
  rejected(error: Error): void;
}

/** Answered by `complete` or `refuse`, once; after a `rejected` completion by `refuse`. */
export interface Delivery {
  readonly data: Data;
  /** 0 to 9, 9 first. */
  readonly priority: number;
  /** Present when the content comes as a body: then `data.content` is empty. */
  readonly body: IncomingBody | undefined;
  /**
   * The work is done: hands over these replies and the receipt. The promise, where there is one, ends when the next
   * message may hand over its own without overtaking this one.
   */
  complete(replies: readonly Data[], completed: Completed): Promise<void> | undefined;
  refuse(kind: RefusalKind, reason: string): void;
}

/** A content that comes piece by piece, and only as fast as it is used. */
export interface IncomingBody {
  readonly size: number;
  /** Why it will never be whole; undefined while it may. */
  readonly failure: Error | undefined;
  /** The whole of it. Rejects when it was broken off. */
  collect(): Promise<Buffer>;
  /** The same stream each time; it fails when the body was broken off. */
  stream(): Readable;
  /** Nobody wants more of it. Idempotent. */
  stop(): void;
}

/** Thrown for what was broken off because the agent went away; the message comes again by itself. */
export class AgentLost extends Error {
  override readonly name = 'AgentLost';
}
