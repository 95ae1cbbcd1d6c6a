/**
 * Publishes the results of the store's lane `mqtt`, in order, as many at once as the link allows. A result is done
 * when the broker acknowledged it; when the link ends first it goes back to its old place and is sent again on the
 * next (CONTRACT 1.10–1.12). One loop takes from the lane and hands to the link, so that reading a body from disk
 * never lets a later result overtake.
 */
import { crashPoint } from '../crash-point.js';
import { errorText, isDamaged } from '../errors.js';
import type { Log } from '../log/log.js';
import { encodeData, jsonContent, type Failure, type MessageKey, type OutboundRecord } from '../message/index.js';
import { fullJitter, type Clock, type Random } from '../time.js';
import type { Link, Publication, SendOutcome } from './link.js';
import type { StorePort } from './ports.js';
import type { RouterSettings } from './settings.js';
import { Suspects } from './suspects.js';
import type { Topics } from './topics.js';

/** The lane of all results that go to the broker. */
export const MQTT_LANE = 'mqtt';

/** MQTT 5: the broker wants less, not never [MQTT5-3.4.2.1]. */
const QUOTA_EXCEEDED = 0x97;

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

export class Outbox {
  readonly #options: OutboxOptions;
  readonly #suspects = new Suspects();
  #link: Link | undefined;
  /** Taken from the lane for the present link and not ended: what a cut puts back. */
  #inFlight = new Set<MessageKey>();
  /** Those of them that were handed to the link: only they can make the broker cut it. */
  readonly #written = new Set<MessageKey>();
  #isDraining = false;
  /** One of the results in flight has to be there by itself. */
  #isAlone = false;
  /** The first result cannot be read just now: nothing overtakes it. */
  #isPutOff = false;
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
    const keys = [...this.#inFlight];
    const written = keys.filter((key) => this.#written.has(key));
    this.#written.clear();
    this.#link = undefined;
    this.#inFlight = new Set();
    this.#isAlone = false;
    const guilty = isSuspicious ? this.#suspects.cut(written) : undefined;
    for (const key of keys) if (key !== guilty) store.unsend(key);
    if (guilty === undefined) return;
    const text = 'the broker cut the connection three times when this result alone was on its way';
    void this.#end(guilty, { code: 'malformed', text });
  }

  /** There may be something to publish. */
  nudge(): void {
    if (!this.#isDraining) void this.#drain();
  }

  async #drain(): Promise<void> {
    this.#isDraining = true;
    try {
      for (let link = this.#link; link !== undefined; link = this.#link) {
        const record = this.#take(link);
        if (record === undefined) return;
        await this.#send(record, link);
      }
    } catch (error) {
      const { log, clock, settings } = this.#options;
      log.error('result.not_read', `cannot read the results that wait: ${errorText(error)}; it is tried again`);
      clock.after(settings.roomInterval, () => this.nudge(), this.#scope);
    } finally {
      this.#isDraining = false;
    }
  }

  /** The next record of the lane with a place in the window, or undefined when either has to be waited for. */
  #take(link: Link): OutboundRecord | undefined {
    const { store } = this.#options;
    if (this.#isAlone || this.#isPutOff) return undefined;
    const record = store.nextOutbound(MQTT_LANE);
    if (record === undefined) return undefined;
    const mustGoAlone = this.#suspects.mustGoAlone(record.key);
    // On a link that has carried something: a broker that cuts each at once says nothing of the result.
    if (mustGoAlone && (this.#inFlight.size > 0 || !link.isProven)) return undefined;
    if (!link.tryTake()) return undefined;
    this.#isAlone = mustGoAlone;
    this.#inFlight.add(record.key);
    store.markSending(record.key);
    return record;
  }

  /** Hands `record` to the link, in the place taken for it; what comes of it is dealt with later. */
  async #send(record: OutboundRecord, link: Link): Promise<void> {
    let publication: Publication;
    try {
      publication = await this.#publication(record);
    } catch (error) {
      if (this.#link !== link) return;
      const text = `its content cannot be read: ${errorText(error)}`;
      if (isDamaged(error)) await this.#giveUp(record.key, link, { code: 'malformed', text });
      else this.#putOff(record.key, link, text);
      return;
    }
    if (this.#link !== link) return;
    FAULT: crashPoint('publish.before-write');
    this.#written.add(record.key);
    void link.publishHeld(publication).then((outcome) => this.#settle(record, link, outcome));
  }

  async #settle(record: OutboundRecord, link: Link, outcome: SendOutcome): Promise<void> {
    // A link that ended has put back all it had, and `cut` says no more than that it will end.
    if (this.#link !== link || outcome.kind === 'cut') return;
    this.#landed(record.key);
    FAULT: crashPoint('publish.acknowledged');
    if (outcome.kind === 'too-large') {
      await this.#end(record.key, {
        code: 'too-large',
        text: `it makes a packet of ${outcome.size} bytes, and the broker takes ${outcome.limit}`,
      });
    } else if (outcome.reasonCode === QUOTA_EXCEEDED) {
      await this.#waitForQuota(record);
    } else if (outcome.reasonCode >= 0x80) {
      const text = `the broker refused it with reason code 0x${outcome.reasonCode.toString(16)}`;
      await this.#end(record.key, { code: 'unroutable', text });
    } else {
      await this.#end(record.key);
    }
    this.nudge();
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
  async #giveUp(key: MessageKey, link: Link, failure: Failure): Promise<void> {
    this.#landed(key);
    link.release();
    await this.#end(key, failure);
  }

  #landed(key: MessageKey): void {
    this.#inFlight.delete(key);
    this.#written.delete(key);
    this.#isAlone = false;
  }

  async #end(key: MessageKey, failure?: Failure): Promise<void> {
    const { store, log } = this.#options;
    this.#suspects.forget(key);
    if (failure !== undefined) log.warn('result.dead', `a result is given up: ${failure.text}`, { key });
    try {
      await (failure === undefined ? store.endOutbound(key, 'sent') : store.endOutbound(key, 'dead', failure));
      FAULT: crashPoint('publish.recorded');
    } catch (error) {
      // The store records it when it can; a crash before that publishes it once more: at least once.
      log.error('result.not_recorded', `cannot record the end of a result: ${errorText(error)}`, { key });
    }
  }

  async #waitForQuota(record: OutboundRecord): Promise<void> {
    const { store, settings, clock, random, log } = this.#options;
    const wait = fullJitter(settings.quotaBackoff, record.attempts, random);
    log.warn('result.quota', 'the broker’s quota is exceeded; a result is tried again later', {
      key: record.key,
      wait,
    });
    try {
      await store.retryOutbound(record.key, clock.now() + wait);
    } catch (error) {
      log.error('result.not_recorded', `cannot put a result off: ${errorText(error)}`, { key: record.key });
    }
  }

  async #publication(record: OutboundRecord): Promise<Publication> {
    const { store, topics, clock } = this.#options;
    const bytes = await store.readContent(record.content);
    const { content, metadata } = jsonContent(bytes, record.metadata);
    const { messageId, responseTo, directive, destination } = record;
    const sent = new Date(clock.now()).toISOString();
    const payload = encodeData({ messageId, responseTo, sent, directive, metadata, content });
    return destination.kind === 'topic'
      ? { topic: destination.topic, payload, qos: 1, retain: false, correlationData: destination.correlationData }
      : { topic: topics.dataOut, payload, qos: 1, retain: false };
  }
}
