/**
 * What becomes of the messages on `data/in`. Each is acknowledged once it is safe: recorded, known already, or buried
 * as dead (CONTRACT 1.1, 1.2). What finds the store full waits here, unacknowledged, at most `receiveMaximum` of it
 * and in order, until there is room (1.13). Nothing here holds up the next message: deciding is done in one turn.
 */
import { crashPoint } from '../crash-point.js';
import { errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import type { Failure, MessageKey } from '../message/index.js';
import type { Signal } from '../signal/index.js';
import type { Clock } from '../time.js';
import { Gate } from './admission.js';
import type { Acceptance, Burial, Delivery, NewInbound, StorePort } from './ports.js';
import type { RouterSettings } from './settings.js';
import type { Topics } from './topics.js';

/** A message that could not be accepted, as it is announced. */
export interface MalformedMessage {
  readonly topic: string;
  readonly failure: Failure;
  readonly messageId: string | undefined;
  readonly directive: string | undefined;
  readonly size: number;
}

/** What intake has counted since the start, and what it holds now. */
export interface IntakeCounts {
  readonly accepted: number;
  readonly duplicates: number;
  readonly refused: number;
  readonly dropped: number;
  readonly held: number;
}

export interface IntakeOptions {
  readonly store: Pick<StorePort, 'accept' | 'bury' | 'room'>;
  readonly topics: Topics;
  readonly settings: RouterSettings;
  readonly clock: Clock;
  readonly log: Log;
  readonly dataRecv: Signal<MessageKey>;
  readonly malformed: Signal<MalformedMessage>;
  /** An error answer was written to the store and wants to be published. */
  readonly answered: () => void;
  /** Connects anew, so that the broker sends again what was left to it. */
  readonly renew: () => void;
}

interface Held {
  readonly message: NewInbound;
  readonly delivery: Delivery;
}

export class Intake {
  readonly #options: IntakeOptions;
  readonly #gate: Gate;
  /** In order of arrival. */
  #held: Held[] = [];
  #isRetrySet = false;
  /** A message was left to the broker on this link. */
  #isAnyLeft = false;
  #scope: AbortSignal = AbortSignal.abort();
  #counts = { accepted: 0, duplicates: 0, refused: 0, dropped: 0 };

  constructor(options: IntakeOptions) {
    this.#options = options;
    this.#gate = new Gate(options);
  }

  get counts(): IntakeCounts {
    return { ...this.#counts, held: this.#held.length };
  }

  /** Begins to look for room; ends with the scope. */
  start(scope: AbortSignal): void {
    this.#scope = scope;
    this.#options.store.room?.connect(() => this.#retry(), scope);
  }

  /** The link has ended: what the broker will send again is its own to keep. */
  linkDown(): void {
    this.#held = this.#held.filter(({ delivery }) => delivery.qos === 0);
    this.#isAnyLeft = false;
  }

  /** Takes a delivery of `data/in`. */
  take(delivery: Delivery): void {
    const admission = this.#gate.admit(delivery);
    switch (admission.kind) {
      case 'refused':
        void this.#refuse(delivery, admission);
        return;
      case 'ignored':
        this.#options.log.warn('data.ignored', `a message on data/in is ignored: ${admission.reason}`);
        delivery.ack();
        return;
      case 'admitted':
        for (const text of admission.warnings) {
          const { messageId, directive } = admission.message;
          this.#options.log.warn('data.attribute', `a message carries what is not heeded: ${text}`, {
            messageId,
            directive,
          });
        }
        // Behind what waits: the order of arrival holds for all of them.
        if (this.#held.length > 0 || !this.#accept(admission.message, delivery)) {
          this.#hold({ message: admission.message, delivery });
        }
    }
  }

  /** Offers a message to the store; false when it is full. One that fails waits to be offered again. */
  #accept(message: NewInbound, delivery: Delivery): boolean {
    const { messageId, directive } = message;
    const failed = (error: unknown): void => {
      const text = `cannot record a message: ${errorText(error)}; it is tried again`;
      this.#options.log.error('data.not_recorded', text, { messageId, directive });
      this.#hold({ message, delivery });
    };
    let acceptance: Acceptance;
    try {
      FAULT: crashPoint('intake.parsed');
      acceptance = this.#options.store.accept(message, { isRetained: delivery.retain });
    } catch (error) {
      failed(error);
      return true;
    }
    if (acceptance.kind === 'full') return false;
    acceptance.durable.then(() => {
      FAULT: crashPoint('intake.durable');
      delivery.ack();
      if (acceptance.kind === 'accepted') {
        this.#counts.accepted += 1;
        this.#options.dataRecv.emit(acceptance.key);
        return;
      }
      this.#counts.duplicates += 1;
      this.#options.log.debug('data.not_taken', `a message is not taken anew: ${acceptance.kind}`, {
        messageId,
        directive,
      });
      if (acceptance.kind === 'cancelled') this.#options.answered();
    }, failed);
    return true;
  }

  #hold(held: Held): void {
    const { settings, log } = this.#options;
    if (this.#held.length >= settings.receiveMaximum) {
      // Unacknowledged: at QoS 1 the broker sends it again on the next connection.
      this.#counts.dropped += 1;
      if (held.delivery.qos > 0) this.#isAnyLeft = true;
      const { messageId, directive } = held.message;
      log.error('data.no_room', 'a message finds no room, on disk or in memory; it is left to the broker', {
        messageId,
        directive,
        qos: held.delivery.qos,
      });
      return;
    }
    if (this.#held.length === 0) {
      log.warn('data.waiting', 'the store takes no more; messages wait unacknowledged until it does');
    }
    this.#held.push(held);
    this.#setRetry();
  }

  #setRetry(): void {
    if (this.#isRetrySet) return;
    this.#isRetrySet = true;
    const fire = (): void => {
      this.#isRetrySet = false;
      this.#retry();
    };
    this.#options.clock.after(this.#options.settings.roomInterval, fire, this.#scope);
  }

  /** Offers what waits to the store again, until it is full. */
  #retry(): void {
    const waiting = this.#held;
    this.#held = [];
    const left = waiting.findIndex(({ message, delivery }) => !this.#accept(message, delivery));
    if (left < 0) {
      if (this.#isAnyLeft) this.#options.renew();
      return;
    }
    this.#held = [...waiting.slice(left), ...this.#held];
    this.#setRetry();
  }

  async #refuse(
    delivery: Delivery,
    refused: { failure: Failure; messageId: string | undefined; directive: string | undefined },
  ): Promise<void> {
    const { log, malformed, store, clock, answered } = this.#options;
    const { failure, messageId, directive } = refused;
    const { topic, payload } = delivery;
    this.#counts.refused += 1;
    const size = delivery.truncatedFrom ?? payload.length;
    log.warn('data.refused', `a message is refused: ${failure.text}`, {
      topic,
      code: failure.code,
      messageId,
      directive,
    });
    malformed.emit({ topic, failure, messageId, directive, size });
    const burial: Burial = {
      failure,
      content: payload,
      arrivedAt: clock.now(),
      ...(messageId === undefined ? {} : { messageId }),
      ...(directive === undefined ? {} : { directive }),
    };
    try {
      if ((await store.bury(burial)) !== undefined) answered();
    } catch (error) {
      log.error('data.not_buried', `cannot keep a refused message as dead: ${errorText(error)}`, {
        messageId,
        directive,
      });
    }
    // Whatever happened: unacknowledged it would come again for ever.
    delivery.ack();
  }
}
