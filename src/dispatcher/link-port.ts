/**
 * The way to one incarnation of a worker, as queue and seat see it: calls of the original, or our stream. What comes of
 * a message is told once, by `report`; of one that is `completed` also how its commit went.
 */
import type { Event } from '../../protocol/generated/yggdrasil.js';
import type { MessageKey } from '../message/ids.js';
import type { InboundRecord } from '../message/record.js';
import type { Millis } from '../time.js';
import type { Health, Report } from './plan.js';

export type { Answer, Health, Report } from './plan.js';

/** A message that goes to the worker, as whoever sends it wants to be told of it. */
export interface Call {
  readonly record: InboundRecord;
  /** It may be called once more after the call was cancelled, or not. */
  report(report: Report): void;
}

/** Breaks a call off, where that can be told. Nothing once it has ended. */
export type Cancel = () => void;

/** Whether a message may go now. `not-for-it`: another may. */
export type Room = 'here' | 'not-for-it' | 'none';

export interface Link {
  readonly transport: 'unary' | 'stream';
  /** It is up: messages can be sent. */
  readonly isReady: boolean;
  /** False: not even the smallest message may go. */
  readonly hasRoom: boolean;
  /** True: it asks for messages itself before this turn of the event loop ends, and what is there by then goes together. */
  asksSoon(): boolean;
  /** Whether it reads contents that lie in files by itself. */
  readonly takesFiles: boolean;
  /** Why the worker can never take this message, if it cannot. */
  problemWith(record: InboundRecord): string | undefined;
  roomFor(record: InboundRecord): Room;
  /** Hands a message to the worker. Only while `isReady`; `content` is empty when the link reads the file. */
  send(call: Call, content: Buffer): Cancel | undefined;
  /** Asks the worker to give a message up. False when it cannot be told. */
  giveUp(key: MessageKey): boolean;
  /** Asks the worker how it is. Resolves always; `silence` when no answer came within `timeout`. */
  check(timeout: Millis): Promise<Health>;
  /** Tells the worker of an event, once, if it can take it. Resolves true when it did. */
  notify(event: Event, timeout: Millis): Promise<boolean>;
  /** Ends it, and everything on it; where it can, it tells the worker why. Idempotent. */
  close(reason: string): void;
}
