/**
 * Publishes the results of the store's lane `mqtt`, in order, as many at once as the link allows. A result is done
 * when the broker acknowledged it; when the link ends first it goes back to its old place and is sent again on the
 * next (CONTRACT 1.10–1.12). One loop takes from the lane and hands to the link, all it can in one turn; it stands still
 * while a body is read from disk, so that no later result overtakes.
 */
import { crashPoint } from '../crash-point.js';
import { errorText, isDamaged } from '../errors.js';
import type { Log } from '../log/log.js';
import { DataPayloads, jsonContent, type Failure, type MessageKey, type OutboundRecord } from '../message/index.js';
import { fullJitter, type Clock, type Random } from '../time.js';
import { SlotTable } from '../signal/index.js';
import type { Link } from './link.js';
import type { Payload, PublishOptions, SendOutcome, StorePort } from './ports.js';
import type { RouterSettings } from './settings.js';
import { Suspects } from './suspects.js';
import type { Topics } from './topics.js';

/** The lane of all results that go to the broker. */
export const MQTT_LANE = 'mqtt';

/** MQTT 5: the broker wants less, not never [MQTT5-3.4.2.1]. */
const QUOTA_EXCEEDED = 0x97;

/** How a result is published. */
const PUBLISH: PublishOptions = { qos: 1, retain: false };

export interface OutboxOptions {
  readonly store: Pick<
    StorePort,
    'nextOutbound' | 'markSending' | 'unsend' | 'retryOutbound' | 'endOutbound' | 'readContent' | 'laneDue'
  >;
  readonly topics: Topics;
  readonly settings: RouterSettings;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

interface InFlight {
  readonly record: OutboundRecord;
  readonly link: Link;
  /** Only what was handed to the link can make the broker cut it. */
  isHandedOver: boolean;
}

export class Outbox {
  readonly #options: OutboxOptions;
  readonly #suspects = new Suspects();
  readonly #payloads = new DataPayloads();
  #link: Link | undefined;
  /** Taken from the lane for the present link and not ended: what a cut puts back. */
  readonly #inFlight = new SlotTable<InFlight>();
  #isDraining = false;
  /** One of the results in flight has to be there by itself. */
  #isAlone = false;
  /** The first result cannot be read just now: nothing overtakes it. */
  #isPutOff = false;
  /** The last time that was written, and its text: many results go out in one millisecond. */
  #sent = { at: Number.NaN, text: '' };
  #scope: AbortSignal = AbortSignal.abort();

  constructor(options: OutboxOptions) {
    this.#options = options;
  }

  /** Results that were published and not acknowledged. */
  get inFlight(): number {
    return this.#inFlight.size;
  }

  /** Begins to listen for results that are due again. */
  start(scope: AbortSignal): void {
    this.#scope = scope;
    this.#options.store.laneDue.connect((lane) => {
      if (lane === MQTT_LANE) this.nudge();
    }, scope);
  }

  linkUp(link: Link): void {
    this.#link = link;
    link.onRoom = () => this.nudge();
    this.nudge();
  }

  /** The link has ended. `isSuspicious`: one of the results in flight may be the cause. */
  linkDown(isSuspicious: boolean): void {
    const { store } = this.#options;
    const inFlight = this.#inFlight.values();
    const written = inFlight.filter(({ isHandedOver }) => isHandedOver).map(({ record }) => record.key);
    this.#link = undefined;
    this.#inFlight.clear();
    this.#isAlone = false;
    const guilty = isSuspicious ? this.#suspects.cut(written) : undefined;
    for (const { record } of inFlight) if (record.key !== guilty) store.unsend(record.key);
    if (guilty === undefined) return;
    const text = 'the broker cut the connection three times when this result alone was on its way';
    this.#end(guilty, { code: 'malformed', text });
  }

  /** There may be something to publish. */
  nudge(): void {
    if (!this.#isDraining) this.#drain();
  }

  #drain(): void {
    this.#isDraining = true;
    try {
      for (let link = this.#link; link !== undefined; link = this.#link) {
        const taken = this.#take(link);
        if (taken === undefined) break;
        const { content } = taken.record;
        if (content.kind === 'inline') this.#send(taken, content.bytes);
        else {
          void this.#read(taken);
          return;
        }
      }
    } catch (error) {
      const { log, clock, settings } = this.#options;
      log.error('result.not_read', `cannot read the results that wait: ${errorText(error)}; it is tried again`);
      clock.after(settings.roomInterval, () => this.nudge(), this.#scope);
    }
    this.#isDraining = false;
  }

  /** The next record of the lane with a place in the window, or undefined when either has to be waited for. */
  #take(link: Link): InFlight | undefined {
    const { store } = this.#options;
    if (this.#isAlone || this.#isPutOff) return undefined;
    const record = store.nextOutbound(MQTT_LANE);
    if (record === undefined) return undefined;
    const mustGoAlone = this.#suspects.mustGoAlone(record.key);
    // On a link that has carried something: a broker that cuts each at once says nothing of the result.
    if (mustGoAlone && (this.#inFlight.size > 0 || !link.isProven)) return undefined;
    if (!link.tryTake()) return undefined;
    this.#isAlone = mustGoAlone;
    const taken: InFlight = { record, link, isHandedOver: false };
    this.#inFlight.add(record.key, taken);
    store.markSending(record.key);
    return taken;
  }

  /** Sends a record whose body is in a file, then goes on with those behind it. */
  async #read(taken: InFlight): Promise<void> {
    const { record, link } = taken;
    try {
      const bytes = await this.#options.store.readContent(record.content);
      if (this.#link === link) this.#send(taken, bytes);
    } catch (error) {
      if (this.#link === link) this.#unreadable(record.key, link, error);
    }
    this.#isDraining = false;
    this.nudge();
  }

  /** Hands a record to the link, in the place taken for it; what comes of it is dealt with when it comes. */
  #send(taken: InFlight, bytes: Buffer): void {
    const { destination } = taken.record;
    const isOwn = destination.kind === 'topic';
    const topic = isOwn ? destination.topic : this.#options.topics.dataOut;
    const options = isOwn ? { ...PUBLISH, correlationData: destination.correlationData } : PUBLISH;
    const payload = this.#payload(taken.record, bytes);
    FAULT: crashPoint('publish.before-write');
    taken.isHandedOver = true;
    taken.link.publishHeld(topic, payload, options, (outcome) => {
      taken.link.landed(outcome);
      this.#settle(taken, outcome);
      // Calls for the next.
      taken.link.release();
    });
  }

  #settle({ record, link }: InFlight, outcome: SendOutcome): void {
    // A link that ended has put back all it had, and `cut` says no more than that it will end.
    if (this.#link !== link || outcome.kind === 'cut') return;
    this.#landed(record.key);
    FAULT: crashPoint('publish.acknowledged');
    if (outcome.kind === 'too-large') {
      const text = `it makes a packet of ${outcome.size} bytes, and the broker takes ${outcome.limit}`;
      this.#end(record.key, { code: 'too-large', text });
    } else if (outcome.reasonCode === QUOTA_EXCEEDED) {
      this.#waitForQuota(record);
    } else if (outcome.reasonCode >= 0x80) {
      const text = `the broker refused it with reason code 0x${outcome.reasonCode.toString(16)}`;
      this.#end(record.key, { code: 'unroutable', text });
    } else {
      this.#end(record.key);
    }
  }

  #unreadable(key: MessageKey, link: Link, error: unknown): void {
    const text = `its content cannot be read: ${errorText(error)}`;
    if (isDamaged(error)) this.#giveUp(key, link, { code: 'malformed', text });
    else this.#putOff(key, link, text);
  }

  /** Puts a record back that cannot be read now, and tries again a little later. */
  #putOff(key: MessageKey, link: Link, reason: string): void {
    const { store, log, clock, settings } = this.#options;
    this.#landed(key);
    link.release();
    store.unsend(key);
    this.#isPutOff = true;
    log.error('result.not_read', `a result is put off: ${reason}; it is tried again`, { key });
    const again = (): void => {
      this.#isPutOff = false;
      this.nudge();
    };
    clock.after(settings.roomInterval, again, this.#scope);
  }

  /** Ends a record before it was handed to the link, and gives its place back. */
  #giveUp(key: MessageKey, link: Link, failure: Failure): void {
    this.#landed(key);
    this.#end(key, failure);
    link.release();
  }

  #landed(key: MessageKey): void {
    this.#inFlight.delete(key);
    this.#isAlone = false;
  }

  /** Nobody waits for it: the store records it when it can; a crash before that publishes it again: at least once. */
  #end(key: MessageKey, failure?: Failure): void {
    const { store, log } = this.#options;
    this.#suspects.forget(key);
    if (failure !== undefined) log.warn('result.dead', `a result is given up: ${failure.text}`, { key });
    const ended = failure === undefined ? store.endOutbound(key, 'sent') : store.endOutbound(key, 'dead', failure);
    ended.then(recorded, (error: unknown) =>
      log.error('result.not_recorded', `cannot record the end of a result: ${errorText(error)}`, { key }),
    );
  }

  #waitForQuota(record: OutboundRecord): void {
    const { store, settings, clock, random, log } = this.#options;
    const { key } = record;
    const wait = fullJitter(settings.quotaBackoff, record.attempts, random);
    log.warn('result.quota', 'the broker’s quota is exceeded; a result is tried again later', { key, wait });
    store.retryOutbound(key, clock.now() + wait).catch((error: unknown) => {
      log.error('result.not_recorded', `cannot put a result off: ${errorText(error)}`, { key });
    });
  }

  #payload(record: OutboundRecord, bytes: Buffer): Payload {
    const { content, metadata } = jsonContent(bytes, record.metadata);
    const { messageId, responseTo, directive } = record;
    return this.#payloads.of({ messageId, responseTo, sent: this.#now(), directive, metadata, content });
  }

  #now(): string {
    const at = this.#options.clock.now();
    if (at !== this.#sent.at) this.#sent = { at, text: new Date(at).toISOString() };
    return this.#sent.text;
  }
}

function recorded(): void {
  FAULT: crashPoint('publish.recorded');
}
