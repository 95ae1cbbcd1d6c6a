/**
 * Messages on their way to a worker: accepted durably before the broker gets its acknowledgement, handed out by
 * directive and priority in the order they came, and brought to exactly one recorded end. Which changes of state are
 * allowed is decided here and nowhere else; the first end that is asked for wins.
 */
import {
  directiveKey,
  spoolSize,
  type Content,
  type DirectiveKey,
  type Failure,
  type InboundEnd,
  type InboundRecord,
  type MessageKey,
  type OutboundRecord,
  type ReplyTopic,
} from '../message/index.js';
import { Signal } from '../signal/index.js';
import type { Change } from './journal.js';
import { inboundIdKey, inboundPrefix, recordKey, splitRecordKey } from './keys.js';
import { asInbound, newRecord, prefixOf, put } from './inbound-record.js';
import type {
  AcceptOptions,
  Acceptance,
  Cancellation,
  Ending,
  InboundParts,
  NewInbound,
  NextOptions,
} from './inbound-types.js';
import { Lanes, type Prepared } from './lanes.js';
import { LifetimeSweep } from './lifetime-sweep.js';
import type { IdState } from './recent-ids.js';

const ROOT = 'i/';
const PRIORITIES = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0] as const;

export class InboundQueue {
  readonly fed = new Signal<MessageKey>('fed');
  readonly lapsed = new Signal<MessageKey>('lapsed');
  readonly #lanes: Lanes<InboundRecord>;
  readonly #committing = new Map<MessageKey, Promise<void>>();
  #scope: AbortSignal = AbortSignal.abort();
  #isResumed = false;
  readonly #lifetimes: LifetimeSweep;
  /** Messages whose commit is under way, by id: a second copy waits for the first. */
  readonly #arriving = new Map<string, IdState>();

  constructor(private readonly parts: InboundParts) {
    const { ledger, live } = parts;
    this.#lanes = new Lanes<InboundRecord>({
      ledger,
      live,
      accepts: asInbound,
      mayEnter: (record) => record.dueAt <= ledger.clock.now(),
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
  }

  open(scope: AbortSignal): void {
    this.#scope = scope;
    this.#lifetimes.start(scope);
    this.#isResumed = false;
    this.#lanes.open(ROOT);
  }

  /** Announces what the journal held, now that somebody listens. */
  resume(): void {
    this.#isResumed = true;
    for (const prefix of this.#lanes.prefixes) {
      for (const record of this.#liveOf(prefix)) if (record.state === 'accepted') this.fed.emit(record.key);
    }
  }

  accept(message: NewInbound, { isRetained = false }: AcceptOptions = {}): Acceptance {
    const { ledger, ids } = this.parts;
    const directive = directiveKey(message.directive);
    const idKey = inboundIdKey(directive, message.messageId);
    const known = this.#arriving.get(idKey) ?? ids.get(idKey);
    // A dead one is accepted anew when it is sent again (CONTRACT 1.3), but not when it merely lies there (1.9).
    const isAnew = known?.kind === 'ended' && known.end === 'dead' && !isRetained;
    if (known !== undefined && !isAnew) return this.#duplicate(known);
    const cancel = this.parts.facts.takeCancel(directive, message.messageId);
    if (cancel !== undefined) return this.#acceptCancelled(message, idKey, cancel);
    if (ledger.isIntakeFull) return { kind: 'full' };
    const { key, changes } = ledger.nextKey();
    const record = newRecord(message, directive, key);
    const path = recordKey(prefixOf(record), key);
    this.#arriving.set(idKey, { kind: 'pending', recordKey: path, key });
    const durable = this.#add(record, [...changes, ids.pending(idKey, path, key)]).finally(() => {
      this.#arriving.delete(idKey);
      this.#committing.delete(key);
    });
    this.#committing.set(key, durable);
    return { kind: 'accepted', key, durable };
  }

  /** A live record that is on stable storage and has not ended. */
  get(key: MessageKey): InboundRecord | undefined {
    return this.#committing.has(key) ? undefined : asInbound(this.parts.live.get(key));
  }

  /** Live records of a directive that nobody has made ready yet. */
  waiting(directive: DirectiveKey): readonly MessageKey[] {
    return PRIORITIES.flatMap((priority) => this.#lanes.keys(inboundPrefix(directive, priority))).filter(
      (key) => this.get(key)?.state === 'accepted',
    );
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

  /** The detached content is complete and on disk: from now on it is the message's content. */
  async fetched(key: MessageKey, content: Content): Promise<void> {
    const record = this.get(key);
    if (record === undefined) return;
    const { ledger, live } = this.parts;
    if (content.kind === 'file') await ledger.files.syncDirectory();
    const fetched: InboundRecord = { ...record, content, isFetched: true };
    await ledger.commit([put(fetched)], spoolSize(fetched) - spoolSize(record));
    if (this.get(key) === undefined) {
      // Ended while the body was being written: the end has removed the record, or does so behind this commit.
      ledger.release(content);
      return;
    }
    ledger.release(record.content);
    live.put({ ...fetched, state: 'ready' });
  }

  fetchFailed(key: MessageKey, dueAt: number): Promise<void> {
    return this.#setAside(key, (record) => ({ ...record, state: 'accepted', fetches: record.fetches + 1, dueAt }));
  }

  failedAttempt(key: MessageKey, dueAt: number): Promise<void> {
    return this.#setAside(key, (record) => ({ ...record, state: 'accepted', attempts: record.attempts + 1, dueAt }));
  }

  /**
   * What to give to the worker of `directive` next. Nothing overtakes a message of its own lane whose commit is under
   * way; one that is being fetched, or waits for its worker, is passed by.
   */
  next(directive: DirectiveKey, options: NextOptions = {}): InboundRecord | undefined {
    let oldest: InboundRecord | undefined;
    for (const priority of PRIORITIES) {
      const head = this.#head(inboundPrefix(directive, priority), options.only);
      if (head === undefined) continue;
      if (options.oldest !== true) return head;
      if (oldest === undefined || head.key < oldest.key) oldest = head;
    }
    return oldest;
  }

  markDispatching(key: MessageKey): void {
    const record = this.get(key);
    if (record?.state !== 'ready') return;
    this.parts.live.put({ ...record, state: 'dispatching' });
    this.#lanes.take(prefixOf(record), key);
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
    await this.#finish(record, 'delivered', []);
    return true;
  }

  async end(key: MessageKey, end: Exclude<InboundEnd, 'delivered'>, failure: Failure): Promise<Ending> {
    const record = this.get(key);
    if (record === undefined) return { kind: 'already-ended' };
    // A call under way is not broken off (CONTRACT 1.8); when it comes back the time is looked at again.
    if (end === 'expired' && record.state === 'dispatching') return { kind: 'already-ended' };
    const { outbound, dead } = this.parts;
    const answer = outbound.answerTo(record, failure);
    const kept = end === 'dead' ? dead.keepRecord(record, failure) : [];
    await this.#finish(record, end, kept, answer);
    return { kind: 'ended', answer: answer.record.key };
  }

  async cancel(directive: DirectiveKey, messageId: string): Promise<Cancellation> {
    const { ids, facts, ledger, live } = this.parts;
    const idKey = inboundIdKey(directive, messageId);
    const known = this.#arriving.get(idKey) ?? ids.get(idKey);
    if (known === undefined) {
      await facts.keepCancel(directive, messageId);
      return { kind: 'kept' };
    }
    if (known.kind === 'ended') return { kind: 'already-ended' };
    const { key } = known;
    await this.#committing.get(key);
    const record = this.get(key) ?? asInbound(ledger.read(known.recordKey));
    if (record === undefined) return { kind: 'already-ended' };
    if (record.state === 'dispatching') return { kind: 'in-flight', key };
    if (live.get(key) === undefined) live.put(record);
    const ending = await this.end(key, 'cancelled', {
      code: 'cancelled',
      text: 'the message was cancelled before it was delivered',
    });
    return ending.kind === 'ended' ? { kind: 'cancelled', key, answer: ending.answer } : ending;
  }

  /** Where the requester of a pending or ended message wants its replies. */
  replyTopicOf(idKey: string): ReplyTopic | undefined {
    const known = this.parts.ids.get(idKey);
    if (known === undefined) return undefined;
    if (known.kind === 'ended') return known.replyTopic;
    const record = this.parts.live.get(known.key) ?? this.parts.ledger.read(known.recordKey);
    return asInbound(record)?.replyTopic;
  }

  /** An alarm of the journal: the record behind it is due, or its time is over. */
  rang(key: string): void {
    const { ledger, live } = this.parts;
    const { key: number, prefix } = splitRecordKey(key);
    const present = asInbound(live.get(number));
    const record = this.#committing.has(number) ? undefined : (present ?? asInbound(ledger.read(key)));
    if (record === undefined) return;
    if (record.expiresAt !== undefined && record.expiresAt <= ledger.clock.now()) {
      if (present === undefined) live.put(record);
      this.lapsed.emit(number);
    } else if (present === undefined && this.#lanes.insert(prefix, number)) {
      live.put(record);
      this.#lifetimes.expect(record);
      this.#feed(number);
    }
  }

  #liveOf(prefix: string): readonly InboundRecord[] {
    return this.#lanes
      .keys(prefix)
      .map((key) => this.get(key))
      .filter((record) => record !== undefined);
  }

  #head(prefix: string, only: NextOptions['only']): InboundRecord | undefined {
    for (const key of this.#lanes.keys(prefix)) {
      if (this.#lanes.isCommitting(prefix, key)) return undefined;
      const record = this.get(key);
      if (record?.state === 'ready' && (only === undefined || only(record))) return record;
    }
    return undefined;
  }

  #duplicate(known: IdState): Acceptance {
    if (known.kind === 'ended') return { kind: 'duplicate', durable: Promise.resolve() };
    const underWay = this.#committing.get(known.key);
    if (underWay === undefined) this.#wake(known.recordKey);
    return { kind: 'duplicate', durable: underWay ?? Promise.resolve() };
  }

  /** The broker sent it again: a back-off it waits in ends now (CONTRACT 1.3). */
  #wake(key: string): void {
    const { ledger, live, alarms } = this.parts;
    const { key: number, prefix } = splitRecordKey(key);
    const record = live.get(number) === undefined ? asInbound(ledger.read(key)) : undefined;
    if (record === undefined || record.dueAt <= ledger.clock.now()) return;
    const due: InboundRecord = { ...record, dueAt: 0 };
    if (!this.#lanes.insert(prefix, number)) return;
    live.put(due);
    this.#feed(number);
    ledger.commit([put(due), alarms.clear(record.dueAt, number)]).catch((error: unknown) => {
      ledger.log.warn('journal.write_failed', 'a message was woken, but the journal does not know it', { error });
    });
  }

  #acceptCancelled(message: NewInbound, idKey: string, cancel: Change): Acceptance {
    const { ledger, ids, outbound } = this.parts;
    const { key, changes } = ledger.nextKey();
    const failure: Failure = { code: 'cancelled', text: 'the message was cancelled before it arrived' };
    const answer = outbound.answerTo(message, failure);
    const all = [...changes, cancel, ...ids.ended(idKey, 'cancelled', key, message.replyTopic), ...answer.changes];
    return {
      kind: 'cancelled',
      answer: answer.record.key,
      durable: outbound.addAnswer(answer.record, all, answer.growth),
    };
  }

  async #add(record: InboundRecord, changes: readonly Change[]): Promise<void> {
    const { ledger, alarms, live } = this.parts;
    const prefix = prefixOf(record);
    const { key, expiresAt } = record;
    const prepared = (stored: InboundRecord): Prepared => {
      const alarm = expiresAt === undefined ? [] : [alarms.set(expiresAt, key, recordKey(prefix, key))];
      return { changes: [...changes, put(stored), ...alarm], growth: spoolSize(stored) };
    };
    await this.#lanes.add(prefix, record, () => {
      if (record.content.kind === 'file' || !ledger.files.isLarge(record.content.bytes)) return prepared(record);
      return ledger.files.store(record.content.bytes).then((content) => {
        const stored = { ...record, content };
        if (live.get(key) !== undefined) live.put(stored);
        return prepared(stored);
      });
    });
    if (expiresAt !== undefined) alarms.arm(expiresAt);
    this.#lifetimes.expect(record);
  }

  #move(key: MessageKey, from: InboundRecord['state'], to: InboundRecord['state']): boolean {
    const record = this.get(key);
    if (record?.state !== from) return false;
    this.parts.live.put({ ...record, state: to });
    return true;
  }

  /** Takes a record out of its place until it is due. */
  async #setAside(key: MessageKey, change: (record: InboundRecord) => InboundRecord): Promise<void> {
    const record = this.get(key);
    if (record === undefined) return;
    const { ledger, live, alarms } = this.parts;
    const later = change(record);
    const prefix = prefixOf(record);
    live.remove(key);
    this.#lanes.take(prefix, key);
    await ledger.commit([put(later), alarms.set(later.dueAt, key, recordKey(prefix, key))]);
    alarms.arm(later.dueAt);
  }

  #comeBack(record: InboundRecord): void {
    const { key, expiresAt } = record;
    if (expiresAt !== undefined && expiresAt <= this.parts.ledger.clock.now()) {
      queueMicrotask(() => this.lapsed.emit(key));
    }
    if (this.#lanes.insert(prefixOf(record), record.key)) this.parts.live.put(record);
    else this.parts.live.remove(record.key);
  }

  async #finish(
    record: InboundRecord,
    end: InboundEnd,
    kept: readonly Change[],
    answer?: { readonly record: OutboundRecord; readonly changes: readonly Change[]; readonly growth: number },
  ): Promise<void> {
    const { ledger, live, ids, alarms, outbound } = this.parts;
    const { key } = record;
    const prefix = prefixOf(record);
    const idKey = inboundIdKey(record.directiveKey, record.messageId);
    live.remove(key);
    this.#lanes.take(prefix, key);
    const changes: Change[] = [
      { table: 'records', key: recordKey(prefix, key), value: undefined },
      ...ids.ended(idKey, end, key, record.replyTopic),
      ...(record.expiresAt === undefined ? [] : [alarms.clear(record.expiresAt, key)]),
      ...kept,
    ];
    const size = -spoolSize(record);
    if (answer === undefined) await ledger.commitSoon(changes, size);
    else await outbound.addAnswer(answer.record, [...changes, ...answer.changes], size + answer.growth);
    if (end !== 'dead') ledger.release(record.content);
  }

  /** Announces in a later turn: whoever reads the lane must not be called back in the middle of it. */
  #feed(key: MessageKey): void {
    if (!this.#isResumed) return;
    queueMicrotask(() => {
      if (!this.#scope.aborted) this.fed.emit(key);
    });
  }
}
