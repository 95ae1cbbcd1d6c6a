/**
 * What becomes of the messages on `data/in`. Each is acknowledged once it is safe: recorded, known already, or buried
 * as dead (CONTRACT 1.1, 1.2). What cannot be recorded now, be it good or refused, waits here, unacknowledged, at most
 * `receiveMaximum` of it and in order, until it can (1.13). Nothing here holds up the next message: deciding is done in
 * one turn.
 */
import { crashPoint } from '../crash-point.js';
import { errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import type { Failure, MessageKey } from '../message/index.js';
import type { Signal } from '../signal/index.js';
import type { Clock } from '../time.js';
import { Gate, type Admission } from './admission.js';
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
  /** Reads nothing more from this link until `readOn`. */
  readonly holdReading: () => void;
  readonly readOn: () => void;
}

/**
 * On their way to the journal at once, and bytes of them: above either nothing more is read until half is recorded.
 * Not every broker counts what is unacknowledged, and none does in MQTT 3.1.1: one that sends 20,000 messages at once
 * would have them all in our memory (measured: 280 MB).
 */
const MOST_RECORDING = 1024;
const MOST_RECORDING_BYTES = 8 * 1024 * 1024;

/** A message that is to be recorded, as what it is or as dead. */
interface Arrival {
  readonly delivery: Delivery;
  readonly link: number;
  readonly order: number;
  readonly what: What;
}

type What =
  { readonly kind: 'admitted'; readonly message: NewInbound } | { readonly kind: 'burial'; readonly burial: Burial };

/** A message that the store has taken, and will have recorded soon. */
interface Offer {
  readonly arrival: Arrival;
  readonly message: NewInbound;
  readonly acceptance: Taken;
}

/** Those that become safe with the same commit. */
interface Batch {
  readonly durable: Promise<void>;
  readonly offers: Offer[];
}

/** How a message is offered: one that is retained is taken only when its id is new. */
const RETAINED = { isRetained: true };
const NEW = { isRetained: false };

type Taken = Exclude<Acceptance, { kind: 'full' }>;

export class Intake {
  readonly #options: IntakeOptions;
  readonly #gate: Gate;
  /** In order of arrival. */
  #held: Arrival[] = [];
  #isRetrySet = false;
  /** A message was left to the broker on this link. */
  #isAnyLeft = false;
  /** The last one offered could not be recorded: the next is no news. */
  #isFailing = false;
  /** Tells the links apart. */
  #link = 0;
  #arrivals = 0;
  /** Offered to the store, and not yet recorded. */
  readonly #recording = { messages: 0, bytes: 0 };
  #isReadingHeld = false;
  /** The last batch, while its commit is under way. */
  #batch: Batch | undefined;
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
    this.#link += 1;
    this.#isReadingHeld = false;
    this.#held = this.#held.filter(({ delivery }) => delivery.qos === 0);
    this.#isAnyLeft = false;
  }

  /** Takes a delivery of `data/in`. */
  take(delivery: Delivery): void {
    const admission = this.#gate.admit(delivery);
    if (admission.kind === 'ignored') {
      this.#options.log.warn('data.ignored', `a message on data/in is ignored: ${admission.reason}`);
      delivery.ack();
      return;
    }
    const link = this.#link;
    const order = this.#arrivals++;
    if (admission.kind === 'refused') {
      // What waits for room in the spool is no reason to wait: dead messages have a room of their own.
      this.#offer({ delivery, link, order, what: { kind: 'burial', burial: this.#refused(delivery, admission) } });
      return;
    }
    if (admission.warnings.length > 0) this.#warn(admission);
    const arrival: Arrival = { delivery, link, order, what: admission };
    // Behind what waits: the order of arrival holds for all of them.
    if (this.#held.length > 0 || !this.#offer(arrival)) this.#hold(arrival);
  }

  #warn({ message, warnings }: Admission & { kind: 'admitted' }): void {
    const { messageId, directive } = message;
    for (const text of warnings) {
      this.#options.log.warn('data.attribute', `a message carries what is not heeded: ${text}`, {
        messageId,
        directive,
      });
    }
  }

  /** Offers a message to the store; false when it is full. One that fails waits to be offered again. */
  #offer(arrival: Arrival): boolean {
    const { what } = arrival;
    try {
      if (what.kind === 'burial') {
        this.#bury(what.burial, arrival);
        return true;
      }
      return this.#accept(what.message, arrival);
    } catch (error) {
      this.#failed(arrival, error);
      return true;
    }
  }

  /** Hands a message to the store, and sees to it when that is safe; false when the store is full. */
  #accept(message: NewInbound, arrival: Arrival): boolean {
    FAULT: crashPoint('intake.parsed');
    const { delivery } = arrival;
    const acceptance = this.#options.store.accept(message, delivery.retain ? RETAINED : NEW);
    if (acceptance.kind === 'full') return false;
    this.#weigh(1, delivery.payload.length);
    const offer: Offer = { arrival, message, acceptance };
    // The store gives one promise for all of a commit: the messages of a batch need one reaction, not one each.
    if (this.#batch?.durable === acceptance.durable) this.#batch.offers.push(offer);
    else this.#begin({ durable: acceptance.durable, offers: [offer] });
    return true;
  }

  #begin(batch: Batch): void {
    this.#batch = batch;
    batch.durable.then(
      () => {
        this.#end(batch);
        for (const offer of batch.offers) this.#safe(offer);
      },
      (error: unknown) => {
        this.#end(batch);
        for (const offer of batch.offers) this.#notSafe(offer, error);
      },
    );
  }

  /** What comes from here on would be told of nothing. */
  #end(batch: Batch): void {
    if (this.#batch === batch) this.#batch = undefined;
  }

  /** Its commit is through: the message may be acknowledged, and goes on. */
  #safe({ arrival: { delivery }, message, acceptance }: Offer): void {
    FAULT: crashPoint('intake.durable');
    delivery.ack();
    if (acceptance.kind === 'accepted') {
      this.#counts.accepted += 1;
      this.#options.dataRecv.emit(acceptance.key);
    } else this.#notTaken(message, acceptance);
    this.#weigh(-1, -delivery.payload.length);
    this.#recorded();
  }

  #notSafe({ arrival }: Offer, error: unknown): void {
    this.#weigh(-1, -arrival.delivery.payload.length);
    this.#failed(arrival, error);
  }

  /** Tells of a message that became no record of its own. */
  #notTaken({ messageId, directive }: NewInbound, { kind }: Acceptance): void {
    const { log, answered } = this.#options;
    if (kind === 'unroutable') {
      this.#counts.refused += 1;
      const text = 'a message is ended at once: too many directives that nobody ever registered wait for a worker';
      log.warn('data.unroutable', text, { messageId, directive });
    } else {
      this.#counts.duplicates += 1;
      log.debug('data.not_taken', `a message is not taken anew: ${kind}`, { messageId, directive });
    }
    if (kind !== 'duplicate') answered();
  }

  #bury(burial: Burial, arrival: Arrival): void {
    const { delivery } = arrival;
    const { length } = delivery.payload;
    const buried = this.#options.store.bury(burial);
    this.#weigh(1, length);
    buried.then(
      (answer) => {
        delivery.ack();
        if (answer !== undefined) this.#options.answered();
        this.#weigh(-1, -length);
        this.#recorded();
      },
      (error: unknown) => {
        this.#weigh(-1, -length);
        this.#failed(arrival, error);
      },
    );
  }

  /** Counts what is on its way to the journal, and holds the broker back while that is too much. */
  #weigh(messages: 1 | -1, bytes: number): void {
    const recording = this.#recording;
    recording.messages += messages;
    recording.bytes += bytes;
    if (!this.#isReadingHeld) {
      // One that was recorded holds nothing: its link may have ended, and the next is held from its first message on.
      if (messages < 0 || (recording.messages <= MOST_RECORDING && recording.bytes <= MOST_RECORDING_BYTES)) return;
      this.#isReadingHeld = true;
      this.#options.holdReading();
    } else if (recording.messages * 2 <= MOST_RECORDING && recording.bytes * 2 <= MOST_RECORDING_BYTES) {
      this.#isReadingHeld = false;
      this.#options.readOn();
    }
  }

  #recorded(): void {
    this.#isFailing = false;
    if (!this.#isAnyLeft || this.#held.length > 0) return;
    this.#isAnyLeft = false;
    this.#options.renew();
  }

  #failed(arrival: Arrival, error: unknown): void {
    const { messageId, directive } = idsOf(arrival);
    const text = `cannot record a message: ${errorText(error)}; it is tried again`;
    this.#options.log[this.#isFailing ? 'debug' : 'error']('data.not_recorded', text, { messageId, directive });
    this.#isFailing = true;
    this.#hold(arrival);
  }

  #hold(arrival: Arrival): void {
    const { settings, log } = this.#options;
    const { qos } = arrival.delivery;
    // Its link has ended meanwhile, and the broker sends it again on the next.
    if (qos > 0 && arrival.link !== this.#link) return;
    if (this.#held.length >= settings.receiveMaximum) {
      // Unacknowledged: at QoS 1 the broker sends it again on the next connection.
      this.#counts.dropped += 1;
      if (qos > 0) this.#isAnyLeft = true;
      const { messageId, directive } = idsOf(arrival);
      log.error('data.no_room', 'a message finds no room, on disk or in memory; it is left to the broker', {
        messageId,
        directive,
        qos,
      });
      return;
    }
    if (this.#held.length === 0 && !this.#isFailing) {
      log.warn('data.waiting', 'the store takes no more; messages wait unacknowledged until it does');
    }
    // Those that fail later may have come earlier than those that found no room.
    const behind = this.#held.findIndex(({ order }) => order > arrival.order);
    this.#held.splice(behind < 0 ? this.#held.length : behind, 0, arrival);
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
    // One that fails at once is held again, and the others stay behind it.
    const left = waiting.findIndex((arrival) => this.#held.length > 0 || !this.#offer(arrival));
    if (left < 0) return;
    this.#held.push(...waiting.slice(left));
    this.#setRetry();
  }

  /** Tells of a message that is refused, and makes of it what is kept. */
  #refused(delivery: Delivery, refused: Admission & { kind: 'refused' }): Burial {
    const { log, malformed, clock } = this.#options;
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
    return {
      failure,
      content: payload,
      arrivedAt: clock.now(),
      ...(messageId === undefined ? {} : { messageId }),
      ...(directive === undefined ? {} : { directive }),
    };
  }
}

function idsOf({ what }: Arrival): { readonly messageId?: string; readonly directive?: string } {
  return what.kind === 'admitted' ? what.message : what.burial;
}
