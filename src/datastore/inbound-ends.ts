/**
 * How an inbound message leaves: for good, with its error answer in the same commit, or for a while. It is out of
 * memory from the call on, so that the first end that is asked for wins; a commit that fails is tried again.
 */
import {
  metadataFrom,
  parseDirective,
  spoolSize,
  type Content,
  type Failure,
  type InboundEnd,
  type InboundRecord,
  type MessageKey,
} from '../message/index.js';
import { withItem } from '../signal/index.js';
import type { Alarms } from './alarms.js';
import type { DeadChange, DeadLetters } from './dead-letters.js';
import type { Refused } from './entries.js';
import type { InboundPrefixes } from './inbound-prefixes.js';
import { prefixOf, put } from './inbound-record.js';
import type { Change } from './journal.js';
import { inboundIdKey, recordKey } from './keys.js';
import type { Lanes } from './lanes.js';
import type { Ledger } from './ledger.js';
import type { ResultsPlan, Taker } from './outbound-arrivals.js';
import type { LiveMessages } from './live-messages.js';
import type { OutboundQueue } from './outbound-queue.js';
import type { RecentIds } from './recent-ids.js';
import { Outcome, Work, type Unrecorded } from './unrecorded.js';

export interface InboundEndsParts {
  readonly ledger: Ledger;
  readonly live: LiveMessages;
  readonly lanes: Lanes<InboundRecord>;
  readonly prefixes: InboundPrefixes;
  readonly ids: RecentIds;
  readonly dead: DeadLetters;
  readonly alarms: Alarms;
  readonly outbound: OutboundQueue;
  readonly unrecorded: Unrecorded;
}

/** The end of a message that its worker has taken over. */
class Delivered extends Outcome {
  constructor(
    private readonly ledger: Ledger,
    private readonly record: InboundRecord,
    private readonly changes: readonly Change[],
  ) {
    super(record.key, 'end');
  }

  begin(): Promise<void> {
    return this.ledger.enlistSoon(this.changes, -spoolSize(this.record), this).durable;
  }

  override done(): void {
    this.ledger.release(this.record.content);
    super.done();
  }
}

export type Results = Extract<ResultsPlan, { kind: 'planned' }>['results'];

/** The end of a message together with its results. */
class Completed extends Outcome implements Taker {
  /** Of the results that are new, once they are taken. */
  keys: readonly MessageKey[] | undefined;

  constructor(
    private readonly parts: Pick<InboundEndsParts, 'ledger' | 'outbound'>,
    private readonly record: InboundRecord,
    private readonly results: Results,
    private readonly changes: readonly Change[],
  ) {
    super(record.key, 'end');
  }

  begin(): Promise<void> {
    return this.parts.outbound.arrivals.arriveWith(this.results, this.changes, -spoolSize(this.record), this);
  }

  taken(keys: readonly MessageKey[]): void {
    this.keys = keys;
    this.parts.ledger.release(this.record.content);
    this.done();
  }
}

export class InboundEnds {
  constructor(private readonly parts: InboundEndsParts) {}

  delivered(record: InboundRecord): Promise<unknown> {
    const { ledger } = this.parts;
    const changes = this.#changes(record, 'delivered');
    ledger.watch.witness?.inbound(record, 'delivered');
    return this.#leave(record, new Delivered(ledger, record, changes));
  }

  /** As `delivered`, in one commit with the results of it. Gives the keys of those that are new. */
  completed(record: InboundRecord, results: Results): Promise<readonly MessageKey[]> {
    const { ledger } = this.parts;
    let own: string[] | undefined;
    for (const { idKey, isOfRequest } of results) if (isOfRequest && idKey !== undefined) own = withItem(own, idKey);
    const changes = this.#changes(record, 'delivered', own);
    ledger.watch.witness?.inbound(record, 'delivered');
    const completed = new Completed(this.parts, record, results, changes);
    return this.#leave(record, completed).then(() => completed.keys ?? []);
  }

  /** Gives the key of the error answer. */
  async givenUp(record: InboundRecord, end: Exclude<InboundEnd, 'delivered'>, failure: Failure): Promise<MessageKey> {
    const { ledger, outbound, dead } = this.parts;
    ledger.watch.witness?.inbound(record, end, failure);
    const kept = end === 'dead' ? dead.keepRecord(record, failure) : undefined;
    const changes = [...this.#changes(record, end), ...(kept?.changes ?? [])];
    // Each try makes an answer of its own: the key of the first is behind others by then.
    let answer = outbound.answerTo(record, failure);
    let isFirst = true;
    const commit = async (): Promise<void> => {
      if (!isFirst) answer = outbound.answerTo(record, failure);
      isFirst = false;
      await outbound.addAnswer(answer.record, [...changes, ...answer.changes], answer.growth - spoolSize(record));
      kept?.committed();
      if (kept === undefined) ledger.release(record.content);
    };
    await this.#leave(record, new Work(record.key, 'end', commit));
    return answer.record.key;
  }

  /** Records a message refused at the door as dead; the key of the error answer, where its ids could be read. */
  async refused({ messageId, failure, content, ...refused }: Refused): Promise<MessageKey | undefined> {
    const { ledger, dead } = this.parts;
    const directive = refused.directive === undefined ? undefined : parseDirective(refused.directive);
    const { key, changes } = ledger.nextKey();
    const isAnswered = messageId !== undefined && directive !== undefined;
    const request = isAnswered ? { messageId, directive, replyTopic: undefined } : undefined;
    return this.#bury(content, failure, request, (stored) => {
      const kept = dead.keep({
        kind: 'dead',
        key,
        direction: 'inbound',
        endedAt: ledger.clock.now(),
        failure,
        messageId: messageId ?? '',
        directive: refused.directive ?? '',
        metadata: metadataFrom([]),
        content: stored,
        origin: { kind: 'refused' },
      });
      return { ...kept, changes: [...changes, ...kept.changes] };
    });
  }

  /** Records a message as dead that has just come and may not wait; `changes` go along. */
  turnedAway(record: InboundRecord, failure: Failure, changes: readonly Change[]): Promise<MessageKey | undefined> {
    const { directiveKey, messageId, replyTopic, content } = record;
    this.parts.ledger.watch.witness?.inbound(record, 'dead', failure);
    const bytes = content.kind === 'inline' ? content.bytes : Buffer.alloc(0);
    return this.#bury(bytes, failure, record, (stored) => {
      const kept = this.parts.dead.keepRecord({ ...record, content: stored }, failure);
      const ended = this.parts.ids.ended(inboundIdKey(directiveKey, messageId), 'dead', replyTopic);
      return { ...kept, changes: [...changes, ...ended, ...kept.changes] };
    });
  }

  /** One commit: what is kept as dead of a message, and the answer to it. Many bytes go to a file first. */
  async #bury(
    bytes: Buffer,
    failure: Failure,
    request: Parameters<OutboundQueue['answerTo']>[0] | undefined,
    keep: (stored: Content) => DeadChange,
  ): Promise<MessageKey | undefined> {
    const { ledger, outbound } = this.parts;
    const small: Content = { kind: 'inline', bytes };
    // In the caller's turn where that is possible: its commit shares a transaction with others.
    const stored = ledger.files.isLarge(bytes) ? await ledger.store(bytes) : small;
    const { changes, committed } = keep(stored);
    const answer = request && outbound.answerTo(request, failure);
    try {
      if (answer === undefined) await ledger.commit(changes);
      else await outbound.addAnswer(answer.record, [...changes, ...answer.changes], answer.growth);
    } catch (error) {
      ledger.release(stored);
      throw error;
    }
    committed();
    return answer?.record.key;
  }

  /** Takes a record out of its place until `later.dueAt`. */
  async setAside(later: InboundRecord): Promise<void> {
    const { ledger, alarms } = this.parts;
    const { key, dueAt } = later;
    const commit = async (): Promise<void> => {
      await ledger.commit([put(ledger.encoder, later), alarms.set(dueAt, key, recordKey(prefixOf(later), key))]);
      alarms.arm(dueAt);
    };
    await this.#leave(later, new Work(key, 'wait', commit));
  }

  #leave(record: InboundRecord, outcome: Outcome): Promise<unknown> {
    const { live, lanes, prefixes, unrecorded } = this.parts;
    live.remove(record.key);
    const recorded = unrecorded.enlist(outcome);
    // Behind the commit: whatever is read to fill its place must not be this record as it was.
    lanes.take(prefixes.of(record), record.key);
    return recorded;
  }

  #changes(record: InboundRecord, end: InboundEnd, results?: readonly string[]): readonly Change[] {
    const { ids, alarms, live, prefixes } = this.parts;
    const { key, expiresAt, replyTopic } = record;
    const keys = live.keysOf(key);
    const path = keys?.recordKey ?? recordKey(prefixes.of(record), key);
    const idKey = keys?.idKey ?? inboundIdKey(record.directiveKey, record.messageId);
    const removal: Change = { table: 'records', key: path, value: undefined };
    const changes = ids.ended(idKey, end, replyTopic, results, removal);
    if (expiresAt !== undefined) changes.push(alarms.clear(expiresAt, key));
    return changes;
  }
}
