/**
 * Spans for OpenTelemetry, for a program that embeds the agent and has registered a tracer provider: `receive` until a
 * message is on stable storage, `dispatch` while its worker has it, `publish` while a result is on its way. They belong to
 * the trace that the message names, or follow on its `receive`. A tracer that fails costs its spans and nothing else.
 * Loaded only where a provider was registered: then the API is there too.
 */
import {
  createTraceState,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
  type Attributes,
  type Context,
  type SpanContext,
  type Tracer,
} from '@opentelemetry/api';
import { errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import { traceContextOf, type Failure, type InboundRecord, type OutboundRecord } from '../message/index.js';
import type { Clock } from '../time.js';
import { Marks } from './marks.js';
import type { InboundStep, OutboundStep } from './ports.js';

const RING = 8192;
/** Messages whose spans are known to those that follow. */
const MOST_CONTEXTS = 4096;

export interface TracesOptions {
  readonly version: string;
  readonly clock: Pick<Clock, 'now'>;
  readonly log: Log;
}

interface Span {
  readonly name: string;
  readonly kind: SpanKind;
  readonly parent: Context;
  readonly start: number | undefined;
  readonly attributes: Attributes;
  readonly failure: Failure | undefined;
}

export class Traces {
  readonly #tracer: Tracer;
  readonly #since = new Marks(RING);
  /** Message id → the span that received it. */
  readonly #received = new Map<string, SpanContext>();
  #hasFailed = false;

  constructor(private readonly options: TracesOptions) {
    this.#tracer = trace.getTracer('yggdrasil-agent', options.version);
  }

  inbound(record: InboundRecord, step: InboundStep, failure?: Failure): void {
    const { key, directive, messageId } = record;
    const attributes = { 'messaging.message.id': messageId, 'yggdrasil.directive': directive };
    switch (step) {
      case 'arriving':
        this.#since.set(key, this.options.clock.now());
        return;
      case 'accepted':
        this.#span(
          () => ({
            name: `receive ${directive}`,
            kind: SpanKind.CONSUMER,
            parent: this.#parent(record.metadata, messageId),
            start: this.#since.get(key),
            attributes: { ...attributes, 'messaging.system': 'mqtt', 'messaging.operation.type': 'receive' },
            failure,
          }),
          (received) => this.#remember(messageId, received),
        );
        return;
      case 'dispatching':
        this.#since.set(key, this.options.clock.now());
        return;
      default:
        if (record.state !== 'dispatching') return;
        this.#span(() => ({
          name: `dispatch ${directive}`,
          kind: SpanKind.CLIENT,
          parent: this.#parent(record.metadata, messageId),
          start: this.#since.get(key),
          attributes: { ...attributes, 'yggdrasil.outcome': step, 'messaging.operation.type': 'process' },
          failure,
        }));
    }
  }

  outbound(record: OutboundRecord, step: OutboundStep, failure?: Failure): void {
    const { key, messageId, responseTo, destination } = record;
    if (step === 'sending') {
      this.#since.set(key, this.options.clock.now());
      return;
    }
    if (step === 'queued') return;
    this.#span(() => ({
      name: destination.kind === 'url' ? 'post result' : 'publish result',
      kind: SpanKind.PRODUCER,
      parent: this.#parent(record.metadata, responseTo),
      start: this.#since.get(key),
      attributes: {
        'messaging.system': destination.kind === 'url' ? 'http' : 'mqtt',
        'messaging.operation.type': 'send',
        'messaging.message.id': messageId,
        'messaging.message.conversation_id': responseTo,
        'yggdrasil.outcome': step,
      },
      failure,
    }));
  }

  committed(): void {
    // Transactions serve many messages: they belong to no trace.
  }

  #span(describe: () => Span, made?: (context: SpanContext) => void): void {
    const { clock } = this.options;
    try {
      const { name, kind, parent, start, attributes, failure } = describe();
      // Of what happened before the present process, or is long forgotten, nobody knows how long it took.
      if (start === undefined) return;
      const span = this.#tracer.startSpan(name, { kind, startTime: start, attributes }, parent);
      if (failure !== undefined) span.setStatus({ code: SpanStatusCode.ERROR, message: failure.text });
      span.end(clock.now());
      made?.(span.spanContext());
    } catch (error) {
      if (this.#hasFailed) return;
      this.#hasFailed = true;
      this.options.log.warn('trace.failed', `the tracer provider fails: ${errorText(error)}; spans are missing`);
    }
  }

  #parent(metadata: InboundRecord['metadata'], messageId: string): Context {
    const carried = traceContextOf(metadata);
    if (carried === undefined) {
      const received = this.#received.get(messageId);
      return received === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, received);
    }
    const [, traceId = '', spanId = '', flags = ''] = carried.traceparent.split('-');
    const { tracestate } = carried;
    return trace.setSpanContext(ROOT_CONTEXT, {
      traceId,
      spanId,
      traceFlags: Number.parseInt(flags, 16),
      isRemote: true,
      ...(tracestate === undefined ? {} : { traceState: createTraceState(tracestate) }),
    });
  }

  #remember(messageId: string, received: SpanContext): void {
    this.#received.set(messageId, received);
    if (this.#received.size <= MOST_CONTEXTS) return;
    for (const oldest of this.#received.keys()) {
      this.#received.delete(oldest);
      return;
    }
  }
}
