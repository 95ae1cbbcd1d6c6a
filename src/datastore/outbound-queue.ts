/**
 * Results on their way out: accepted durably before the worker gets its receipt, then handed out lane by lane in the
 * order they came. A lane is one destination of one worker; all that goes over MQTT shares the lane `mqtt`.
 */
import {
  newMessageId,
  errorMetadata,
  spoolSize,
  type Content,
  type DeadRecord,
  type Destination,
  type DirectiveKey,
  type Failure,
  type InboundRecord,
  type MessageKey,
  type Metadata,
  type OutboundEnd,
  type OutboundRecord,
  type ReplyTopic,
  type WorkerName,
} from '../message/index.js';
import { Signal } from '../signal/index.js';
import { LONGEST_BACKOFF, type Millis } from '../time.js';
import type { DeadLetters } from './dead-letters.js';
import type { Change } from './journal.js';
import { inboundIdKey, outboundPrefix, recordKey, resultIdKey, urlLane } from './keys.js';
import { Lanes, type LiveMessages, type Prepared } from './lanes.js';
import type { Ledger } from './ledger.js';
import type { IdState, RecentIds } from './recent-ids.js';
import { encodeRecord } from './record-codec.js';
import type { Replay } from './replay-outcome.js';
import { Unrecorded } from './unrecorded.js';
import type { WindowLimits } from './window.js';

/** A result as a worker hands it in. */
export interface NewOutbound {
  readonly worker: WorkerName | undefined;
  /** The directives of that worker: to find the request it answers, and so where its requester wants the reply. */
  readonly handlers: readonly DirectiveKey[];
  readonly messageId: string;
  readonly responseTo: string;
  readonly directive: string;
  readonly metadata: Metadata;
  readonly content: Buffer;
  readonly arrivedAt: number;
}

export type ResultAcceptance =
  | { readonly kind: 'accepted'; readonly key: MessageKey; readonly durable: Promise<void> }
  | { readonly kind: 'duplicate'; readonly durable: Promise<void> }
  /** No room in the spool, or no place for one URL more. */
  | { readonly kind: 'full'; readonly lacks: 'spool' | 'destinations' };

/** The lane of everything that is published. */
export const MQTT_LANE = 'mqtt';

const ROOT = 'o/';
/**
 * URLs with results that wait, at once. Each costs memory, and they are the worker's choice; with this many blocked at
 * the same time there is something wrong, and the worker is told so.
 */
const MAX_URL_LANES = 4096;
/** Results whose time was over while nobody could take them, ended in one turn. */
const MAX_ENDS_AT_ONCE = 256;
const HAS_SCHEME = /^[A-Za-z][A-Za-z0-9+.-]*:\/\//;
const EMPTY: Content = { kind: 'inline', bytes: Buffer.alloc(0) };

export class OutboundQueue {
  readonly laneDue = new Signal<string>('lane-due');
  readonly #lanes: Lanes<OutboundRecord>;
  readonly #unrecorded: Unrecorded;
  /** Commits under way by dedupe key, so that a second copy waits for the first. */
  readonly #pending = new Map<string, Promise<void>>();
  #scope: AbortSignal = AbortSignal.abort();

  constructor(
    private readonly ledger: Ledger,
    private readonly live: LiveMessages,
    private readonly ids: RecentIds,
    private readonly dead: DeadLetters,
    private readonly lifetime: Millis,
    limits?: WindowLimits,
  ) {
    this.#lanes = new Lanes<OutboundRecord>({
      ledger,
      live,
      accepts: asOutbound,
      mayEnter: ({ key }) => !this.#unrecorded.has(key),
      // Nobody may be looking: whoever added to the lane was told that it failed.
      ...(limits && { limits }),
      unblocked: (prefix) => queueMicrotask(() => this.#call(prefix)),
      // Whoever drains a lane asks for its next; only one that waits has to call.
      entered: (record) => this.#callWhenDue(record),
    });
    this.#unrecorded = new Unrecorded(ledger.clock, () => this.nudge());
  }

  open(scope: AbortSignal): void {
    this.#scope = scope;
    this.#unrecorded.start(scope);
    this.#lanes.open(ROOT, scope);
  }

  /** Every lane is looked at again. */
  nudge(): void {
    for (const lane of this.backlogLanes()) this.laneDue.emit(lane);
  }

  accept(result: NewOutbound, replyTopicOf: (idKey: string) => ReplyTopic | undefined): ResultAcceptance {
    const idKey = result.worker && resultIdKey(result.worker, result.messageId, result.content);
    if (idKey !== undefined) {
      const underWay = this.#pending.get(idKey);
      if (underWay !== undefined) return { kind: 'duplicate', durable: underWay };
      if (this.#isKnown(idKey)) return { kind: 'duplicate', durable: Promise.resolve() };
    }
    if (this.ledger.isFull) return { kind: 'full', lacks: 'spool' };
    const destination = destinationOf(result, replyTopicOf);
    if (!this.#mayWait({ destination, worker: result.worker })) return { kind: 'full', lacks: 'destinations' };
    const { key, changes: keyChanges } = this.ledger.nextKey();
    const record: OutboundRecord = {
      kind: 'outbound',
      key,
      state: 'queued',
      worker: result.worker,
      messageId: result.messageId,
      responseTo: result.responseTo,
      directive: result.directive,
      metadata: result.metadata,
      content: { kind: 'inline', bytes: result.content },
      destination,
      idKey,
      arrivedAt: result.arrivedAt,
      attempts: 0,
      dueAt: 0,
      replayOf: undefined,
    };
    return { kind: 'accepted', key, durable: this.#arrives(record, keyChanges) };
  }

  /** A dead result goes out anew; `removal` takes it out of the dead, in the same commit. `announce` it then. */
  replay(
    dead: DeadRecord,
    removal: readonly Change[],
  ): Replay | { readonly key: MessageKey; readonly durable: Promise<void> } {
    const { origin, messageId, directive, metadata, content } = dead;
    if (origin.kind !== 'outbound') return { kind: 'not-replayable', reason: 'it is no result' };
    if (origin.idKey !== undefined && this.#isPending(this.ids.get(origin.idKey))) return { kind: 'pending' };
    if (this.ledger.isFull || !this.#mayWait(origin)) return { kind: 'full' };
    const { key, changes } = this.ledger.nextKey();
    const record: OutboundRecord = {
      ...origin,
      key,
      state: 'queued',
      messageId,
      directive,
      metadata,
      content,
      arrivedAt: this.ledger.clock.now(),
      attempts: 0,
      dueAt: 0,
      replayOf: dead.key,
    };
    return { key, durable: this.#arrives(record, [...removal, ...changes]) };
  }

  /** Tells of a result that came in otherwise than from a worker. */
  announce(key: MessageKey): void {
    const record = this.get(key);
    if (record !== undefined) this.#call(prefixOf(record));
  }

  /** The error answer to a message that is given up, as changes for the commit that ends it. */
  answerTo(
    request: Pick<InboundRecord, 'messageId' | 'directive' | 'replyTopic'>,
    failure: Failure,
  ): { readonly record: OutboundRecord; readonly changes: readonly Change[]; readonly growth: number } {
    const { key, changes } = this.ledger.nextKey();
    const record: OutboundRecord = {
      kind: 'outbound',
      key,
      state: 'queued',
      worker: undefined,
      messageId: newMessageId(),
      responseTo: request.messageId,
      directive: request.directive,
      metadata: errorMetadata(failure),
      content: EMPTY,
      destination: request.replyTopic ? { kind: 'topic', ...request.replyTopic } : { kind: 'data-out' },
      idKey: undefined,
      arrivedAt: this.ledger.clock.now(),
      attempts: 0,
      dueAt: 0,
      replayOf: undefined,
    };
    return { record, changes: [...changes, put(record)], growth: spoolSize(record) };
  }

  /** Adds the answer made by `answerTo`, with the commit that also holds the other changes of the end. */
  addAnswer(record: OutboundRecord, changes: readonly Change[], growth: number): Promise<void> {
    return this.#lanes.add(prefixOf(record), record, () => ({ changes, growth }));
  }

  get(key: MessageKey): OutboundRecord | undefined {
    return asOutbound(this.live.get(key));
  }

  laneOf(record: OutboundRecord): string {
    return laneOf(record);
  }

  backlogLanes(): readonly string[] {
    return this.#lanes.prefixes.map(laneUnder);
  }

  /**
   * The head of a lane, or undefined when it is empty, not yet durable, or not yet due; and while the journal still owes
   * what became of another.
   */
  next(lane: string): OutboundRecord | undefined {
    const prefix = outboundPrefix(lane);
    const ends: Promise<boolean>[] = [];
    for (;;) {
      if (this.#unrecorded.isLate) return undefined;
      if (ends.length === MAX_ENDS_AT_ONCE) {
        void Promise.allSettled(ends).then(() => this.#call(prefix));
        return undefined;
      }
      const key = this.#lanes.keys(prefix)[0];
      if (key === undefined || this.#lanes.isCommitting(prefix, key)) return undefined;
      const record = this.get(key);
      const now = this.ledger.clock.now();
      if (record === undefined || record.arrivedAt + this.lifetime > now) {
        return record !== undefined && record.dueAt <= now ? record : undefined;
      }
      const failure: Failure = { code: 'expired', text: 'the result could not be delivered within result-lifetime' };
      this.ledger.log.warn('result.dead', `a result is given up: ${failure.text}`, { key, lane });
      const ended = this.end(key, 'dead', failure);
      ended.catch((error: unknown) => {
        this.ledger.log.error('journal.write_failed', 'the end of a result could not be recorded yet', { error });
      });
      ends.push(ended);
    }
  }

  markSending(key: MessageKey): void {
    const record = this.get(key);
    if (record?.state !== 'queued') return;
    this.live.put({ ...record, state: 'sending' });
    this.#lanes.take(prefixOf(record), key);
  }

  unsend(key: MessageKey): void {
    const record = this.get(key);
    if (record?.state !== 'sending') return;
    if (this.#lanes.insert(prefixOf(record), key)) this.live.put({ ...record, state: 'queued' });
    else this.live.remove(key);
  }

  /** Counts an attempt and waits until `dueAt`; the record keeps its place, so its lane waits with it. */
  async retry(key: MessageKey, dueAt: number): Promise<void> {
    const record = this.get(key);
    if (record === undefined) return;
    const later: OutboundRecord = { ...record, state: 'queued', attempts: record.attempts + 1, dueAt };
    if (this.#lanes.insert(prefixOf(record), key)) this.live.put(later);
    else this.live.remove(key);
    this.#callWhenDue(later);
    await this.ledger.commit([put(later)]);
  }

  async end(key: MessageKey, end: OutboundEnd, failure?: Failure): Promise<boolean> {
    const record = this.get(key);
    if (record === undefined) return false;
    const prefix = prefixOf(record);
    const changes: Change[] = [{ table: 'records', key: recordKey(prefix, key), value: undefined }];
    if (record.idKey !== undefined) changes.push(...this.ids.ended(record.idKey, 'result', key, undefined));
    const kept =
      end === 'dead'
        ? this.dead.keepRecord(record, failure ?? { code: 'worker-failed', text: 'the result could not be delivered' })
        : undefined;
    if (kept !== undefined) changes.push(...kept.changes);
    this.live.remove(key);
    const recorded = this.#unrecorded.record(key, 'end', async () => {
      await this.ledger.commitSoon(changes, -spoolSize(record));
      kept?.committed();
      if (kept === undefined) this.ledger.release(record.content);
    });
    // Behind the commit: whatever is read to fill its place must not be this record as it was.
    this.#lanes.take(prefix, key);
    await recorded;
    return true;
  }

  /** Whether there is room in memory for the lane. */
  #mayWait(result: Pick<OutboundRecord, 'destination' | 'worker'>): boolean {
    const prefix = outboundPrefix(laneOf(result));
    if (result.destination.kind !== 'url' || this.#lanes.has(prefix)) return true;
    const others = this.#lanes.has(outboundPrefix(MQTT_LANE)) ? 1 : 0;
    return this.#lanes.size - others < MAX_URL_LANES;
  }

  #call(prefix: string): void {
    if (!this.#scope.aborted) this.laneDue.emit(laneUnder(prefix));
  }

  /** Once its timer has fired a record is due, whatever the wall clock says: it may have gone back meanwhile. */
  #callWhenDue({ key, dueAt }: OutboundRecord): void {
    const delay = dueAt - this.ledger.clock.now();
    if (delay <= 0) return;
    const call = (): void => {
      const record = this.get(key);
      if (record?.dueAt !== dueAt) return;
      this.live.put({ ...record, dueAt: 0 });
      this.laneDue.emit(laneOf(record));
    };
    this.ledger.clock.after(Math.min(delay, LONGEST_BACKOFF), call, this.#scope);
  }

  /** Whether a result under this id was accepted before. */
  #isKnown(idKey: string): boolean {
    const known = this.ids.get(idKey);
    return known?.kind === 'ended' || this.#isPending(known);
  }

  /** Whether a record is there: one that is gone or torn is no reason to drop what comes again. */
  #isPending(known: IdState | undefined): boolean {
    if (known?.kind !== 'pending') return false;
    return this.live.get(known.key) !== undefined || asOutbound(this.ledger.read(known.recordKey)) !== undefined;
  }

  #arrives(record: OutboundRecord, changes: readonly Change[]): Promise<void> {
    const durable = this.#add(record, changes);
    const { idKey } = record;
    if (idKey !== undefined) {
      const settled = (): boolean => this.#pending.delete(idKey);
      this.#pending.set(idKey, durable);
      durable.then(settled, settled);
    }
    return durable;
  }

  #add(record: OutboundRecord, keyChanges: readonly Change[]): Promise<void> {
    const prefix = prefixOf(record);
    const { idKey } = record;
    const prepared = (stored: OutboundRecord): Prepared => {
      const id = idKey === undefined ? [] : [this.ids.pending(idKey, recordKey(prefix, record.key), record.key)];
      return { changes: [...keyChanges, put(stored), ...id], growth: spoolSize(stored) };
    };
    return this.#lanes.add(prefix, record, prepared);
  }
}

function laneUnder(prefix: string): string {
  return prefix.slice(ROOT.length, -1);
}

function asOutbound(record: unknown): OutboundRecord | undefined {
  return typeof record === 'object' && record !== null && 'kind' in record && record.kind === 'outbound'
    ? (record as OutboundRecord)
    : undefined;
}

function put(record: OutboundRecord): Change {
  return { table: 'records', key: recordKey(prefixOf(record), record.key), value: encodeRecord(record) };
}

function prefixOf(record: OutboundRecord): string {
  return outboundPrefix(laneOf(record));
}

function laneOf({ destination, worker }: Pick<OutboundRecord, 'destination' | 'worker'>): string {
  return destination.kind === 'url' ? urlLane(worker, destination.url) : MQTT_LANE;
}

/** A URL in the directive is where it goes; else the topic that the requester named; else data/out. */
function destinationOf(result: NewOutbound, replyTopicOf: (idKey: string) => ReplyTopic | undefined): Destination {
  if (HAS_SCHEME.test(result.directive)) return { kind: 'url', url: result.directive };
  if (result.responseTo !== '') {
    for (const handler of result.handlers) {
      const replyTopic = replyTopicOf(inboundIdKey(handler, result.responseTo));
      if (replyTopic !== undefined) return { kind: 'topic', ...replyTopic };
    }
  }
  return { kind: 'data-out' };
}
