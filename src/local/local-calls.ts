/**
 * Messages that are dispatched on this machine, by its operator instead of the broker. They take the same way: journal,
 * dedupe, retries, expiry. Their answers are journaled as all results are, and wait in a lane of their own until whoever
 * collects them says that they have them; so an answer survives its caller, a restart, and an agent without a broker.
 * Those that nobody collects are bounded, and end as dead messages, where they can still be looked at.
 */
import { errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import {
  contentSize,
  decodeData,
  directiveKey,
  encodeData,
  isJson,
  readAttributes,
  type Metadata,
  type MessageKey,
  type OutboundRecord,
} from '../message/index.js';
import { Signal } from '../signal/index.js';
import type { Clock, Millis } from '../time.js';
import type { AnswerLimits, LocalStore, NewInbound } from './ports.js';

const LANE = 'local';
const HOUR: Millis = 3_600_000;
const NULL = Buffer.from('null');
/** Less than what one lane holds in memory. */
const ANSWER_LIMITS: AnswerLimits = { count: 256, bytes: 64 * 1024 * 1024, age: 24 * HOUR };

/** A message as its operator gives it. */
export interface LocalMessage {
  readonly messageId: string;
  readonly directive: string;
  readonly metadata: Metadata;
  /** JSON, as a broker's message has it; or nothing. */
  readonly content: Buffer;
}

/** What became of it at once. All but `refused` are on stable storage, and are answered in the end. */
export type Dispatched =
  | { readonly kind: 'accepted'; readonly key: MessageKey; readonly isHandled: boolean }
  /** The id is pending or was delivered: it is not taken again. */
  | { readonly kind: 'known' }
  /** It has ended already; its answer says why. */
  | { readonly kind: 'ended' }
  | { readonly kind: 'refused'; readonly reason: string };

export type Heard =
  | { readonly kind: 'answer'; readonly record: OutboundRecord }
  /** The message has come to this end. Answers may still follow. */
  | { readonly kind: 'end'; readonly end: string };

export interface LocalCallsOptions {
  readonly store: LocalStore;
  /** Bytes of a whole message, as for one of the broker. */
  readonly maxMessageSize: number;
  readonly limits?: AnswerLimits;
  readonly clock: Clock;
  readonly log: Log;
}

export class LocalCalls {
  /** A message is on stable storage. */
  readonly dataRecv: Signal<MessageKey>;
  /** An answer may have come, or a message may have ended. */
  readonly #changed = new Signal<void>('local-changed');

  constructor(private readonly options: LocalCallsOptions) {
    this.dataRecv = new Signal('data-recv', (error) =>
      options.log.error('local.handler_failed', 'what was to be done with a message of this machine failed', { error }),
    );
  }

  /** Begins to listen for answers, and to end those that nobody collects. */
  start(scope: AbortSignal): void {
    const { store, clock } = this.options;
    store.laneDue.connect((lane) => {
      if (lane === LANE) this.answered();
    }, scope);
    const sweep = (): void => {
      this.#trim();
      clock.after(HOUR, sweep, scope);
    };
    sweep();
  }

  /** Takes a message in. Rejects with `journal.write_failed` when it could not be recorded. */
  async dispatch(message: LocalMessage): Promise<Dispatched> {
    const { store } = this.options;
    const admitted = this.#admit(message);
    if ('reason' in admitted) return { kind: 'refused', reason: admitted.reason };
    const acceptance = store.accept(admitted);
    if (acceptance.kind === 'full') {
      return { kind: 'refused', reason: 'the spool has no room: nothing is taken in until what waits has gone' };
    }
    await acceptance.durable;
    switch (acceptance.kind) {
      case 'accepted':
        this.dataRecv.emit(acceptance.key);
        return { kind: 'accepted', key: acceptance.key, isHandled: this.#isHandled(admitted) };
      case 'duplicate':
        return { kind: 'known' };
      case 'cancelled':
      case 'unroutable':
        return { kind: 'ended' };
    }
  }

  /**
   * The answers to a message, those that wait already and those to come, and its end. It is over once the message has
   * ended and has an answer, and when `scope` ends. An answer that is not `collected` comes again to the next who asks.
   */
  async *hear(messageId: string, scope: AbortSignal): AsyncGenerator<Heard, void, void> {
    const told = new Set<MessageKey>();
    let isEnded = false;
    while (!scope.aborted) {
      // Begun before the look: what comes in between is not missed.
      const change = this.#changed.next(scope);
      change.catch(() => undefined);
      for (const record of this.options.store.listing.answers) {
        if (record.responseTo !== messageId || told.has(record.key)) continue;
        told.add(record.key);
        yield { kind: 'answer', record };
        // Its own answer is the agent's last word on a message.
        if (record.worker === undefined) return;
      }
      const [ended] = this.options.store.listing.endsOf(messageId);
      if (ended !== undefined && !isEnded) yield { kind: 'end', end: ended.end };
      isEnded = ended !== undefined;
      if (isEnded && told.size > 0) return;
      // Ends with the scope, which is looked at above.
      await change.catch(() => undefined);
    }
  }

  /** Whoever waited for an answer has it. False when there is none of this key. */
  async collected(key: MessageKey): Promise<boolean> {
    const { store } = this.options;
    if (store.outbound(key)?.destination.kind !== 'local') return false;
    return store.endOutbound(key, 'sent');
  }

  /** A result has come in; whether it is one for this machine is looked up here. */
  answered(): void {
    if (this.options.store.listing.answers.length === 0) return;
    this.#changed.emit();
    this.#trim();
  }

  /** The dispatcher is done with a message. */
  dispatched(): void {
    if (this.#changed.size > 0) this.#changed.emit();
  }

  /** The same rules as for a message of the broker, but for what concerns only the broker: who may name which directive. */
  #admit({ messageId, directive, metadata, content }: LocalMessage): NewInbound | { readonly reason: string } {
    const { clock, maxMessageSize } = this.options;
    // An envelope without one would be given one that nobody knows.
    if (messageId === '') return { reason: 'the message id is empty' };
    if (content.length > 0 && !isJson(content)) return { reason: 'the content is not JSON' };
    const arrivedAt = clock.now();
    const envelope = { messageId, responseTo: '', sent: new Date(arrivedAt).toISOString(), directive, metadata };
    const payload = encodeData({ ...envelope, content: content.length > 0 ? content : NULL });
    if (payload.length > maxMessageSize) {
      return {
        reason: `the message has ${payload.length} bytes, more than max-message-size (${maxMessageSize}) allows`,
      };
    }
    const decoded = decodeData(payload);
    if (decoded.kind === 'malformed') return { reason: decoded.reason };
    const { priority, expiresAt, unreadable } = readAttributes(metadata, arrivedAt);
    const [wrong] = unreadable;
    // A server cannot be told at once, and an operator can.
    if (wrong !== undefined) return { reason: `the metadata "${wrong}" cannot be read` };
    return {
      ...{ messageId: decoded.envelope.messageId, responseTo: '', directive: decoded.envelope.directive },
      ...{
        metadata: decoded.envelope.metadata,
        content,
        priority,
        arrivedAt,
        expiresAt,
        replyTopic: { kind: 'local' },
      },
    };
  }

  #isHandled({ directive }: NewInbound): boolean {
    const key = directiveKey(directive);
    return this.options.store.workers
      .all()
      .some(
        ({ state, handlers }) =>
          state === 'registered' && handlers.some((handler) => directiveKey(handler.directive) === key),
      );
  }

  /** Ends the oldest answers while there are too many, and those that are too old. */
  #trim(): void {
    const { store, log, clock, limits = ANSWER_LIMITS } = this.options;
    const { answers } = store.listing;
    let count = 0;
    let bytes = 0;
    for (const { key, content, arrivedAt, responseTo } of answers.toReversed()) {
      count += 1;
      bytes += contentSize(content);
      if (count <= limits.count && bytes <= limits.bytes && arrivedAt + limits.age > clock.now()) continue;
      const text = 'nobody has collected this answer: it waited too long, or too many wait';
      log.info('local.not_collected', 'an answer for this machine is given up', { key, responseTo });
      store.endOutbound(key, 'dead', { code: 'expired', text }).catch((error: unknown) => {
        log.error('local.not_recorded', `the end of an answer could not be recorded yet: ${errorText(error)}`, { key });
      });
    }
  }
}
