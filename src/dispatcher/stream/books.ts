/**
 * What a stream asks of the dispatcher for the results that come on it: the store, in the words of one worker.
 */
import type { MessageKey } from '../../message/ids.js';
import type { ReceivedResult } from '../codec.js';
import type { ReceivedBody } from '../ports.js';

/** A result that was checked, with its content, whichever way that came. */
export type HandedResult = Omit<ReceivedResult, 'content'> & { readonly content: Buffer | ReceivedBody };

/** Taken in one commit: `durable` rejects when that fails. Or nothing of it, for a reason that may pass. */
export type Booking =
  | { readonly kind: 'taken'; readonly durable: Promise<unknown> }
  | { readonly kind: 'full'; readonly index: number; readonly reason: string };

export interface Books {
  complete(key: MessageKey, results: readonly HandedResult[]): Booking;
  accept(result: HandedResult): Booking;
  /** Resolves when the journal knows how a message ended, however often it had to try. */
  recorded(key: MessageKey): Promise<void>;
}
