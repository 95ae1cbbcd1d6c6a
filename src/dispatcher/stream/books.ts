/**
 * What a stream asks of the dispatcher for the results that come on it: the store, in the words of one worker.
 */
import type { MessageKey } from '../../message/ids.js';
import type { ReceivedResult } from '../codec.js';
import type { SummedContent } from '../../message/record.js';

/** A result that was checked, with its content, whichever way that came. */
export type HandedResult = Omit<ReceivedResult, 'content'> & { readonly content: Buffer | SummedContent };

/** Why nothing of it is taken: it may pass. */
export interface Full {
  readonly kind: 'full';
  readonly index: number;
  readonly reason: string;
}

/** `durable` rejects when the commit fails. */
export type Booking = { readonly kind: 'taken'; readonly durable: Promise<unknown> } | Full;

/** Who is told, in a later turn, how the commit of a completion went: one of the two, once. */
export interface CompletionWatch {
  durable(): void;
  failed(error: unknown): void;
}

export interface Books {
  /** All of it in one commit, of which `watch` is told; or nothing of it. */
  complete(
    key: MessageKey,
    results: readonly HandedResult[],
    watch: CompletionWatch,
  ): { readonly kind: 'taken' } | Full;
  accept(result: HandedResult): Booking;
  /** Resolves when the journal knows how a message ended, however often it had to try. */
  recorded(key: MessageKey): Promise<void>;
}
