/**
 * Messages on their way to a worker: accepted durably before the broker gets its acknowledgement, handed out by
 * directive and priority in the order they came, and brought to exactly one recorded end. Which changes of state are
 * allowed is decided here and nowhere else; the first end that is asked for wins.
 */
import {
  spoolSize,
  type Content,
  type DeadRecord,
  type DirectiveKey,
  type Failure,
  type InboundEnd,
  type InboundRecord,
  type MessageKey,
  type ReplyTopic,
} from '../message/index.js';
import { Signal } from '../signal/index.js';
import { LONGEST_BACKOFF } from '../time.js';
import type { Change } from './journal.js';
import type { Refused } from './entries.js';
import { InboundEnds, type Results } from './inbound-ends.js';
import { inboundIdKey, recordKey, recordNumber } from './keys.js';
import { InboundArrivals } from './inbound-arrivals.js';
import { InboundPrefixes } from './inbound-prefixes.js';
import { asInbound, inState, put } from './inbound-record.js';
import type {
  AcceptOptions,
  Acceptance,
  Cancellation,
  Completion,
  Ending,
  InboundParts,
  NewInbound,
  NextOptions,
} from './inbound-types.js';
import { Lanes } from './lanes.js';
import { LifetimeSweep } from './lifetime-sweep.js';
import type { NewOutbound, ReplyTopicOf } from './outbound-record.js';
import { Unrecorded } from './unrecorded.js';

const ROOT = 'i/';

export class InboundQueue {
  readonly fed = new Signal<MessageKey>('fed');
  readonly lapsed = new Signal<MessageKey>('lapsed');
  readonly #lanes: Lanes<InboundRecord>;
  readonly #prefixes = new InboundPrefixes();
  #scope: AbortSignal = AbortSignal.abort();
  #isResumed = false;
  readonly #lifetimes: LifetimeSweep;
  readonly #unrecorded: Unrecorded;
  readonly #ends: InboundEnds;
  readonly #arrivals: InboundArrivals;
  readonly #topicOf: ReplyTopicOf = (directive, messageId) => this.replyTopicOf(directive, messageId);

  constructor(private readonly parts: InboundParts) {
    const { ledger, live } = parts;
    this.#lanes = new Lanes<InboundRecord>({
      ledger,
      live,
      accepts: asInbound,
      mayEnter: (record) => this.#mayEnter(record),
      unblocked: (prefix) => this.#nudge(prefix),
      isStrict: true,
      ...(parts.limits && { limits: parts.limits }),
      entered: (record) => {
        this.#lifetimes.expect(record);
        this.#feed(record.key);
      },
    });
    this.#lifetimes = new LifetimeSweep(ledger.clock, parts.lifetimes, {
      isKnown: (directive) => parts.facts.isKnown(directive),
      lanes: () => this.#lanes.prefixes.map((prefix) => this.#liveOf(prefix)),
      lapsed: (key) => this.lapsed.emit(key),
    });
    this.#unrecorded = new Unrecorded(ledger.clock, () => {
      for (const prefix of this.#lanes.prefixes) this.#nudge(prefix);
      parts.outbound.nudge();
    });
    this.#ends = new InboundEnds({
      ...parts,
      lanes: this.#lanes,
      prefixes: this.#prefixes,
      unrecorded: this.#unrecorded,
    });
    this.#arrivals = new InboundArrivals({
      ...parts,
      lanes: this.#lanes,
      prefixes: this.#prefixes,
      expect: (record) => this.#lifetimes.expect(record),
      comesBack: (record) => this.#enter(record),
      isEnding: (key) => this.#unrecorded.isEnding(key),
      turnedAway: (record, failure, changes) => this.#ends.turnedAway(record, failure, changes),
    });
  }

  open(scope: AbortSignal): void {
    this.#scope = scope;
    this.#lifetimes.start(scope);
    this.#isResumed = false;
    this.#unrecorded.start(scope);
    this.#lanes.open(ROOT, scope);
  }

  /** Announces what the journal held, now that somebody listens. */
  resume(): void {
    this.#isResumed = true;
    for (const prefix of this.#lanes.prefixes) {
      for (const record of this.#liveOf(prefix)) if (record.state === 'accepted') this.fed.emit(record.key);
    }
  }

  accept(message: NewInbound, options?: AcceptOptions): Acceptance {
    return this.#arrivals.accept(message, options);
  }

  /** A dead message comes in anew, in one commit with `removal`; `announce` it then. */
  replay(dead: DeadRecord, removal: readonly Change[]): ReturnType<InboundArrivals['replay']> {
    return this.#arrivals.replay(dead, removal);
  }

  /** Tells of a message that came in otherwise than from the broker. */
  announce(key: MessageKey): void {
    if (this.get(key) !== undefined) this.#feed(key);
  }

  /** A live record that is on stable storage and has not ended. */
  get(key: MessageKey): InboundRecord | undefined {
    return this.#arrivals.committing(key) !== undefined ? undefined : asInbound(this.parts.live.get(key));
  }

  /** Live records of a directive that nobody has made ready yet. */
  waiting(directive: DirectiveKey): readonly MessageKey[] {
    return this.#prefixes
      .all(directive)
      .flatMap((prefix) => this.#lanes.keys(prefix))
      .filter((key) => this.get(key)?.state === 'accepted');
  }

  markReady(key: MessageKey): boolean {
    return this.#move(key, 'accepted', 'ready');
  }

  /** Also a ready one goes back to it, when its worker turns out to want the body instead of the URL. */
  markFetching(key: MessageKey): boolean {
    return this.#move(key, 'accepted', 'fetching') || this.#move(key, 'ready', 'fetching');
  }

  /** A fetch was given up before it came to an end: nothing is counted. */
  unfetch(key: MessageKey): boolean {
    return this.#move(key, 'fetching', 'accepted');
  }

  /** The detached content is complete and on stable storage: from now on it is the message's content. */
  async fetched(key: MessageKey, content: Content): Promise<void> {
    const { ledger, live } = this.parts;
    const record = this.get(key);
    if (record === undefined) {
      ledger.release(content);
      return;
    }
    const fetched: InboundRecord = { ...record, content, isFetched: true };
    const growth = spoolSize(fetched) - spoolSize(record);
    await ledger.commit([put(ledger.encoder, fetched)], growth);
    if (this.get(key) === undefined) {
      // It left memory to make room, and is read again with this content. Or it ended during the commit: the end removes
      // the record behind it, and knew nothing of this content.
      const isThere = asInbound(ledger.read(recordKey(this.#prefixes.of(record), key)))?.isFetched === true;
      if (!isThere) ledger.shrink(growth);
      ledger.release(isThere ? record.content : content);
      return;
    }
    ledger.release(record.content);
    live.put({ ...fetched, state: 'ready' });
    this.#lanes.changed(this.#prefixes.of(record), fetched);
  }

  async fetchFailed(key: MessageKey, dueAt: number): Promise<void> {
    const record = this.get(key);
    if (record === undefined) return;
    this.parts.ledger.watch.witness?.inbound(record, 'retry');
    await this.#ends.setAside({ ...record, state: 'accepted', fetches: record.fetches + 1, dueAt });
  }

  async failedAttempt(key: MessageKey, dueAt: number): Promise<void> {
    const record = this.get(key);
    if (record === undefined) return;
    this.parts.ledger.watch.witness?.inbound(record, 'retry');
    await this.#ends.setAside({ ...record, state: 'accepted', attempts: record.attempts + 1, dueAt });
  }

  /**
   * What to give to the worker of `directive` next. Nothing overtakes a message of its own lane whose commit is under
   * way; one that is being fetched, or waits for its worker, is passed by. Nothing at all while the journal still owes
   * what became of another.
   */
  next(directive: DirectiveKey, options: NextOptions = {}): InboundRecord | undefined {
    if (this.#unrecorded.isLate) return undefined;
    let oldest: InboundRecord | undefined;
    for (const prefix of this.#prefixes.all(directive)) {
      const head = this.#head(prefix, options.only);
      if (head === undefined) continue;
      if (options.oldest !== true) return head;
      if (oldest === undefined || head.key < oldest.key) oldest = head;
    }
    return oldest;
  }

  markDispatching(key: MessageKey): void {
    const record = this.get(key);
    if (record?.state !== 'ready') return;
    this.parts.ledger.watch.witness?.inbound(record, 'dispatching');
    this.parts.live.put(inState(record, 'dispatching'));
    this.#lanes.take(this.#prefixes.of(record), key);
  }

  /** The call came to nothing: back to its old place. */
  requeue(key: MessageKey): void {
    const record = this.get(key);
    if (record?.state !== 'dispatching') return;
    this.#comeBack({ ...record, state: 'ready' });
  }

  /** The worker has taken it over. False when it had ended already. */
  async delivered(key: MessageKey): Promise<boolean> {
    const record = this.get(key);
    if (record === undefined) return false;
    await this.#ends.delivered(record);
    return true;
  }

  /** The worker is done with it, and these are its results. Of one that has ended already the results are still taken. */
  complete(key: MessageKey, results: readonly NewOutbound[]): Completion {
    const { outbound } = this.parts;
    const record = this.get(key);
    const plan = outbound.arrivals.plan(results, this.#topicOf, record);
    if (plan.kind === 'full') return plan;
    if (record !== undefined) return { kind: 'taken', durable: this.#ends.completed(record, plan.results) };
    return { kind: 'taken', durable: this.#takeLate(plan.results) };
  }

  async #takeLate(results: Results): Promise<readonly MessageKey[]> {
    let keys: readonly MessageKey[] = [];
    const taken = (those: typeof keys): void => void (keys = those);
    await this.parts.outbound.arrivals.arriveWith(results, [], 0, { taken, failed: () => undefined });
    return keys;
  }

  /** Resolves when the journal knows how a message has ended. */
  recorded(key: MessageKey): Promise<void> {
    return this.#unrecorded.recorded(key);
  }

  async end(key: MessageKey, end: Exclude<InboundEnd, 'delivered'>, failure: Failure): Promise<Ending> {
    const record = this.get(key);
    if (record === undefined) return { kind: 'already-ended' };
    // A call under way is not broken off (CONTRACT 1.8); when it comes back the time is looked at again.
    if (end === 'expired' && record.state === 'dispatching') return { kind: 'already-ended' };
    return { kind: 'ended', answer: await this.#ends.givenUp(record, end, failure) };
  }

  bury(refused: Refused): Promise<MessageKey | undefined> {
    return this.#ends.refused(refused);
  }

  async cancel(directive: DirectiveKey, messageId: string): Promise<Cancellation> {
    const { facts, ledger, live } = this.parts;
    const known = this.#arrivals.stateOf(inboundIdKey(directive, messageId));
    if (known === undefined) {
      await facts.keepCancel(directive, messageId);
      return { kind: 'kept' };
    }
    if (known.kind === 'ended') return { kind: 'already-ended' };
    const { key } = known;
    try {
      await this.#arrivals.committing(key);
    } catch {
      // It never was: the broker sends it again, and then the cancel is there.
      await facts.keepCancel(directive, messageId);
      return { kind: 'kept' };
    }
    if (this.#unrecorded.isEnding(key)) {
      // Its end, perhaps by this very cancel, must not be forgotten again once the cancel is acknowledged.
      await this.#unrecorded.recorded(key);
      return { kind: 'already-ended' };
    }
    const record = this.get(key) ?? asInbound(ledger.read(known.recordKey));
    if (record === undefined) return { kind: 'already-ended' };
    if (record.state === 'dispatching') return { kind: 'in-flight', key };
    if (live.get(key) === undefined) live.put(record);
    const text = 'the message was cancelled before it was delivered';
    const ending = await this.end(key, 'cancelled', { code: 'cancelled', text });
    return ending.kind === 'ended' ? { kind: 'cancelled', key, answer: ending.answer } : ending;
  }

  /** Where the requester of a pending or ended message wants its replies. */
  replyTopicOf(directive: DirectiveKey, messageId: string): ReplyTopic | undefined {
    const known = this.parts.ids.get(inboundIdKey(directive, messageId));
    if (known === undefined) return undefined;
    if (known.kind === 'ended') return known.replyTopic;
    const record = this.parts.live.get(known.key) ?? this.parts.ledger.read(known.recordKey);
    return asInbound(record)?.replyTopic;
  }

  /** An alarm of the journal: the record behind it is due, or its time is over. False when it has to ring again. */
  rang(key: string): boolean {
    const { ledger, live } = this.parts;
    const number = recordNumber(key);
    if (number === undefined) return true;
    const present = asInbound(live.get(number));
    if (this.#arrivals.committing(number) !== undefined || this.#unrecorded.has(number)) return false;
    const record = present ?? asInbound(ledger.read(key));
    if (record === undefined) return true;
    if (record.expiresAt !== undefined && record.expiresAt <= ledger.clock.now()) {
      if (present === undefined) live.put(record);
      this.lapsed.emit(number);
    } else if (present === undefined) this.#enter(record);
    return true;
  }

  /** Ends the back-off of a record, if it is in one. */
  wake(key: string): void {
    const number = recordNumber(key);
    if (number !== undefined) this.#arrivals.wake({ key: number, recordKey: key });
  }

  /** A record that was set aside is there again: now, or when its lane has room for it. */
  #enter(record: InboundRecord): void {
    if (!this.#lanes.insert(this.#prefixes.of(record), record)) return;
    this.parts.live.put(record);
    this.#lifetimes.expect(record);
    this.#feed(record.key);
  }

  #liveOf(prefix: string): readonly InboundRecord[] {
    return this.#lanes
      .keys(prefix)
      .map((key) => this.get(key))
      .filter((record) => record !== undefined);
  }

  #head(prefix: string, only: NextOptions['only']): InboundRecord | undefined {
    const window = this.#lanes.window(prefix);
    if (window === undefined) return undefined;
    for (const key of window.keys) {
      if (window.isCommitting(key)) return undefined;
      const record = this.get(key);
      if (record?.state === 'ready' && (only === undefined || only(record))) return record;
    }
    return undefined;
  }

  /**
   * One that is set aside comes by its alarm; one whose alarm has rung already, before the wall clock went back, is due.
   * So is one whose time is further away than any back-off: the clock went back while the agent was away.
   */
  #mayEnter(record: InboundRecord): boolean {
    const { ledger, alarms } = this.parts;
    const { key, dueAt } = record;
    if (this.#unrecorded.has(key)) return false;
    const left = dueAt - ledger.clock.now();
    return left <= 0 || left > LONGEST_BACKOFF || !alarms.isSet(dueAt, key);
  }

  #move(key: MessageKey, from: InboundRecord['state'], to: InboundRecord['state']): boolean {
    const record = this.get(key);
    if (record?.state !== from) return false;
    this.parts.live.put(inState(record, to));
    return true;
  }

  #comeBack(record: InboundRecord): void {
    const { key, expiresAt } = record;
    if (expiresAt !== undefined && expiresAt <= this.parts.ledger.clock.now()) {
      queueMicrotask(() => this.lapsed.emit(key));
    }
    if (this.#lanes.insert(this.#prefixes.of(record), record)) {
      this.parts.live.put(record);
      this.#lifetimes.expect(record);
    } else this.parts.live.remove(key);
  }

  /** The first of a lane is looked at again: whoever waits for it may have asked too early. */
  #nudge(prefix: string): void {
    const [first] = this.#lanes.keys(prefix);
    if (first !== undefined) this.#feed(first);
  }

  /** Announces in a later turn: whoever reads the lane must not be called back in the middle of it. */
  #feed(key: MessageKey): void {
    if (!this.#isResumed) return;
    queueMicrotask(() => {
      if (!this.#scope.aborted) this.fed.emit(key);
    });
  }
}
