/**
 * The W3C Trace Context that a message may carry in its metadata: which trace it belongs to. It is passed on to the
 * worker with the rest of the metadata, and into the answers; the agent makes none by itself.
 */
import { metadataFrom } from './codec.js';
import type { Metadata } from './envelope.js';

export interface TraceContext {
  readonly traceparent: string;
  /** What the tracing systems on the way have to say; undefined when there is nothing. */
  readonly tracestate: string | undefined;
}

/** Longest tracestate that is passed on: as much as each party must (W3C Trace Context, 3.3.1.5). */
const MAX_TRACESTATE = 512;
const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;

/** The context in the metadata of a message; undefined when there is none, or none that can be read. */
export function traceContextOf(metadata: Metadata): TraceContext | undefined {
  const { traceparent, tracestate } = metadata;
  if (traceparent === undefined || !TRACEPARENT.test(traceparent)) return undefined;
  const isGood = tracestate !== undefined && tracestate !== '' && tracestate.length <= MAX_TRACESTATE;
  return { traceparent, tracestate: isGood ? tracestate : undefined };
}

/** The metadata of an answer, with the context of what it answers; one that it has of its own stays. */
export function withTraceContext(metadata: Metadata, context: TraceContext | undefined): Metadata {
  if (context === undefined || metadata['traceparent'] !== undefined) return metadata;
  const { traceparent, tracestate } = context;
  const state = tracestate === undefined ? [] : [['tracestate', tracestate] as const];
  return metadataFrom([
    ...Object.entries(metadata).filter(([name]) => name !== 'tracestate'),
    ['traceparent', traceparent],
    ...state,
  ]);
}
