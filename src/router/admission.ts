/**
 * Whether a payload of `data/in` may become a record, and which one. Pure but for the rate: bytes and limits in, a
 * message or the reason against it out.
 */
import {
  decodeData,
  directiveKey,
  LastDirective,
  readableIds,
  readAttributes,
  type DataEnvelope,
  type Failure,
  type ReplyTopic,
} from '../message/index.js';
import type { Clock, Millis } from '../time.js';
import type { Delivery, NewInbound } from './ports.js';
import { RateLimit } from './rate-limit.js';
import type { RouterSettings } from './settings.js';
import { isResponseTopicAllowed, type Topics } from './topics.js';

export type Admission =
  | { readonly kind: 'admitted'; readonly message: NewInbound; readonly warnings: readonly string[] }
  | {
      readonly kind: 'refused';
      readonly failure: Failure;
      readonly messageId: string | undefined;
      readonly directive: string | undefined;
    }
  /** A retained message that carries no id: it comes at every connect, and nothing tells whether it is new. */
  | { readonly kind: 'ignored'; readonly reason: string };

export interface GateOptions {
  readonly topics: Topics;
  readonly settings: RouterSettings;
  readonly clock: Clock;
}

/** The gate every data message passes: sizes before parsing, then the envelope, then who may send how much. */
export class Gate {
  readonly #options: GateOptions;
  readonly #rate: RateLimit | undefined;
  readonly #allowed: ReadonlySet<string> | undefined;
  readonly #lastDirective = new LastDirective();

  constructor(options: GateOptions) {
    this.#options = options;
    const { rateLimit, allowedDirectives } = options.settings;
    this.#rate = rateLimit === undefined ? undefined : new RateLimit(rateLimit);
    this.#allowed = allowedDirectives && new Set(allowedDirectives.map((name) => name.replaceAll('-', '_')));
  }

  admit(delivery: Delivery): Admission {
    const { settings, clock } = this.#options;
    const { payload } = delivery;
    const size = delivery.truncatedFrom ?? payload.length;
    if (delivery.truncatedFrom !== undefined || size > settings.maxMessageSize) {
      const text = `the message has ${size} bytes, more than max-message-size (${settings.maxMessageSize}) allows`;
      return { kind: 'refused', failure: { code: 'too-large', text }, ...readableIds(payload) };
    }
    if (payload.length === 0) {
      const failure: Failure = { code: 'malformed', text: 'the payload is empty' };
      return { kind: 'refused', failure, messageId: undefined, directive: undefined };
    }
    const decoded = decodeData(payload, settings.decodeLimits, this.#lastDirective);
    if (decoded.kind === 'malformed') {
      const { messageId, directive, reason } = decoded;
      return { kind: 'refused', failure: { code: 'malformed', text: reason }, messageId, directive };
    }
    const { envelope } = decoded;
    if (delivery.retain && readableIds(payload).messageId === undefined) {
      return {
        kind: 'ignored',
        reason: 'it is retained and has no message_id, so it cannot be told whether it is new',
      };
    }
    return this.#refusal(envelope) ?? this.#message(envelope, delivery, clock.now());
  }

  #refusal({ directive, messageId }: DataEnvelope): Admission | undefined {
    if (this.#allowed === undefined && this.#rate === undefined) return undefined;
    const key = directiveKey(directive);
    if (this.#allowed !== undefined && !this.#allowed.has(key)) {
      const text = `the directive ${directive} is not among those this agent takes`;
      return { kind: 'refused', failure: { code: 'unroutable', text }, messageId, directive };
    }
    if (this.#rate?.admits(key, this.#options.clock.monotonic()) === false) {
      const text = `more than ${this.#rate.perSecond} messages a second for the directive ${directive}`;
      return { kind: 'refused', failure: { code: 'unroutable', text }, messageId, directive };
    }
    return undefined;
  }

  #message(envelope: DataEnvelope, delivery: Delivery, arrivedAt: Millis): Admission {
    const { expiresAt, priority, unreadable } = readAttributes(envelope.metadata, arrivedAt);
    const replyTopic = this.#replyTopic(delivery);
    const isAnswerable = delivery.responseTopic === undefined || replyTopic !== undefined;
    const warnings = unreadable.length === 0 && isAnswerable ? NO_WARNINGS : warningsOf(unreadable, isAnswerable);
    const { messageId, responseTo, directive, metadata, content } = envelope;
    const message: NewInbound = {
      messageId,
      responseTo,
      directive,
      metadata,
      content,
      priority,
      arrivedAt,
      expiresAt: earliest(expiresAt, delivery.messageExpiry, arrivedAt),
      replyTopic,
    };
    return { kind: 'admitted', message, warnings };
  }

  #replyTopic({ responseTopic, correlationData }: Delivery): ReplyTopic | undefined {
    const { topics, settings } = this.#options;
    if (responseTopic === undefined) return undefined;
    if (!isResponseTopicAllowed(topics, settings.responseTopics, responseTopic)) return undefined;
    return { kind: 'topic', topic: responseTopic, correlationData };
  }
}

const NO_WARNINGS: readonly string[] = [];

function warningsOf(unreadable: readonly string[], isAnswerable: boolean): readonly string[] {
  const warnings = unreadable.map((name) => `the metadata "${name}" cannot be read and counts as not given`);
  if (!isAnswerable) warnings.push('its response topic is not allowed; replies go to data/out');
  return warnings;
}

/** When a message ends by its own attributes, or by what MQTT says in seconds from its arrival. */
function earliest(own: Millis | undefined, messageExpiry: number | undefined, arrivedAt: Millis): Millis | undefined {
  if (messageExpiry === undefined) return own;
  const brokers = arrivedAt + messageExpiry * 1000;
  return own === undefined ? brokers : Math.min(own, brokers);
}
