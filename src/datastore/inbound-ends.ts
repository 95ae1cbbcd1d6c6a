/**
 * How an inbound message leaves: for good, with its error answer in the same commit, or for a while. It is out of
 * memory from the call on, so that the first end that is asked for wins; a commit that fails is tried again.
 */
import { spoolSize, type Failure, type InboundEnd, type InboundRecord, type MessageKey } from '../message/index.js';
import type { Alarms } from './alarms.js';
import type { DeadLetters } from './dead-letters.js';
import { prefixOf, put } from './inbound-record.js';
import type { Change } from './journal.js';
import { inboundIdKey, recordKey } from './keys.js';
import type { Lanes, LiveMessages } from './lanes.js';
import type { Ledger } from './ledger.js';
import type { OutboundQueue } from './outbound-queue.js';
import type { RecentIds } from './recent-ids.js';
import type { Unrecorded } from './unrecorded.js';

export interface InboundEndsParts {
  readonly ledger: Ledger;
  readonly live: LiveMessages;
  readonly lanes: Lanes<InboundRecord>;
  readonly ids: RecentIds;
  readonly dead: DeadLetters;
  readonly alarms: Alarms;
  readonly outbound: OutboundQueue;
  readonly unrecorded: Unrecorded;
}

export class InboundEnds {
  constructor(private readonly parts: InboundEndsParts) {}

  delivered(record: InboundRecord): Promise<void> {
    const { ledger } = this.parts;
    const changes = this.#changes(record, 'delivered');
    return this.#leave(record, 'end', async () => {
      await ledger.commitSoon(changes, -spoolSize(record));
      ledger.release(record.content);
    });
  }

  /** Gives the key of the error answer. */
  async givenUp(record: InboundRecord, end: Exclude<InboundEnd, 'delivered'>, failure: Failure): Promise<MessageKey> {
    const { ledger, outbound, dead } = this.parts;
    const changes = [...this.#changes(record, end), ...(end === 'dead' ? dead.keepRecord(record, failure) : [])];
    // Each try makes an answer of its own: the key of the first is behind others by then.
    let answer = outbound.answerTo(record, failure);
    let isFirst = true;
    await this.#leave(record, 'end', async () => {
      if (!isFirst) answer = outbound.answerTo(record, failure);
      isFirst = false;
      await outbound.addAnswer(answer.record, [...changes, ...answer.changes], answer.growth - spoolSize(record));
      if (end !== 'dead') ledger.release(record.content);
    });
    return answer.record.key;
  }

  /** Takes a record out of its place until `later.dueAt`. */
  async setAside(later: InboundRecord): Promise<void> {
    const { ledger, alarms } = this.parts;
    const { key, dueAt } = later;
    await this.#leave(later, 'wait', async () => {
      await ledger.commit([put(later), alarms.set(dueAt, key, recordKey(prefixOf(later), key))]);
      alarms.arm(dueAt);
    });
  }

  #leave(record: InboundRecord, kind: 'end' | 'wait', commit: () => Promise<void>): Promise<void> {
    const { live, lanes, unrecorded } = this.parts;
    live.remove(record.key);
    const recorded = unrecorded.record(record.key, kind, commit);
    // Behind the commit: whatever is read to fill its place must not be this record as it was.
    lanes.take(prefixOf(record), record.key);
    return recorded;
  }

  #changes(record: InboundRecord, end: InboundEnd): readonly Change[] {
    const { ids, alarms } = this.parts;
    const { key, expiresAt, replyTopic } = record;
    return [
      { table: 'records', key: recordKey(prefixOf(record), key), value: undefined },
      ...ids.ended(inboundIdKey(record.directiveKey, record.messageId), end, key, replyTopic),
      ...(expiresAt === undefined ? [] : [alarms.clear(expiresAt, key)]),
    ];
  }
}
