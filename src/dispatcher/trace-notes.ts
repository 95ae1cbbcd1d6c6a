/**
 * Which trace the messages belong to that a worker was given last, so that its answers can say so too, also those that
 * come long after the receipt. Nothing is kept of messages that carry no trace.
 */
import { traceContextOf, withTraceContext, type TraceContext } from '../message/trace-context.js';
import type { Metadata } from '../message/envelope.js';
import type { InboundRecord } from '../message/record.js';

/** Of one worker. The oldest are forgotten: then an answer carries no trace, and is complete all the same. */
const MOST_NOTES = 1024;

export class TraceNotes {
  readonly #notes = new Map<string, TraceContext>();

  /** A message goes to the worker. */
  note({ messageId, metadata }: Pick<InboundRecord, 'messageId' | 'metadata'>): void {
    if (metadata['traceparent'] === undefined) return;
    const context = traceContextOf(metadata);
    if (context === undefined) return;
    // Moves it to the end, if it was there.
    this.#notes.delete(messageId);
    this.#notes.set(messageId, context);
    if (this.#notes.size <= MOST_NOTES) return;
    for (const oldest of this.#notes.keys()) {
      this.#notes.delete(oldest);
      return;
    }
  }

  /** The metadata of a result, with the trace of the message it answers, where that had one. */
  passOn(metadata: Metadata, responseTo: string): Metadata {
    return this.#notes.size === 0 ? metadata : withTraceContext(metadata, this.#notes.get(responseTo));
  }
}
