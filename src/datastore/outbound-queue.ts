/**
 * Results on their way out: accepted durably before the worker gets its receipt, then handed out lane by lane in the
 * order they came. A lane is one destination of one worker; all that goes over MQTT shares the lane `mqtt`.
 */
import {
  newMessageId,
  errorMetadata,
  spoolSize,
  traceContextOf,
  withTraceContext,
  type Content,
  type DeadRecord,
  type Failure,
  type InboundRecord,
  type MessageKey,
  type OutboundEnd,
  type OutboundRecord,
} from '../message/index.js';
import { Signal } from '../signal/index.js';
import { LONGEST_BACKOFF, type Millis } from '../time.js';
import type { DeadChange, DeadLetters } from './dead-letters.js';
import type { Change } from './journal.js';
import { recordKey, withoutSum } from './keys.js';
import { Lanes } from './lanes.js';
import type { Ledger } from './ledger.js';
import type { LiveMessages } from './live-messages.js';
import { OutboundArrivals } from './outbound-arrivals.js';
import {
  asOutbound,
  inState,
  laneOf,
  laneUnder,
  OUTBOUND_ROOT,
  prefixOf,
  prefixOfLane,
  put,
} from './outbound-record.js';
import { rejected } from './promises.js';
import type { RecentIds } from './recent-ids.js';
import { Outcome, Unrecorded } from './unrecorded.js';
import type { WindowLimits } from './window.js';

/** Results whose time was over while nobody could take them, ended in one turn. */
const MAX_ENDS_AT_ONCE = 256;
const NOTHING: readonly OutboundRecord[] = [];
const EMPTY: Content = { kind: 'inline', bytes: Buffer.alloc(0) };

/** The end of a result on its way to the journal. */
class Ended extends Outcome<true> {
  constructor(
    private readonly ledger: Ledger,
    private readonly record: OutboundRecord,
    private readonly changes: readonly Change[],
    private readonly kept: DeadChange | undefined,
  ) {
    super(record.key, 'end');
  }

  begin(): Promise<true> {
    return this.ledger.enlistSoon(this.changes, -spoolSize(this.record), this).isDurable;
  }

  override done(): void {
    if (this.kept === undefined) this.ledger.release(this.record.content);
    else this.kept.committed();
    super.done();
  }
}

export class OutboundQueue {
  readonly laneDue = new Signal<string>('lane-due');
  readonly arrivals: OutboundArrivals;
  readonly #lanes: Lanes<OutboundRecord>;
  readonly #unrecorded: Unrecorded;
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
    this.arrivals = new OutboundArrivals(ledger, live, ids, this.#lanes);
  }

  open(scope: AbortSignal): void {
    this.#scope = scope;
    this.#unrecorded.start(scope);
    this.ids.open();
    this.#lanes.open(OUTBOUND_ROOT, scope);
  }

  /** Every lane is looked at again. */
  nudge(): void {
    for (const lane of this.backlogLanes()) this.laneDue.emit(lane);
  }

  /** A dead result goes out anew, in one commit with `removal`; `announce` it then. */
  replay(dead: DeadRecord, removal: readonly Change[]): ReturnType<OutboundArrivals['replay']> {
    return this.arrivals.replay(dead, removal);
  }

  /** Tells of a result that came in otherwise than from a worker. */
  announce(key: MessageKey): void {
    const record = this.get(key);
    if (record !== undefined) this.#call(prefixOf(record));
  }

  /** The error answer to a message that is given up, as changes for the commit that ends it. */
  answerTo(
    request: Pick<InboundRecord, 'messageId' | 'directive' | 'replyTopic'> & Partial<Pick<InboundRecord, 'metadata'>>,
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
      metadata: withTraceContext(errorMetadata(failure), request.metadata && traceContextOf(request.metadata)),
      content: EMPTY,
      destination: request.replyTopic ?? { kind: 'data-out' },
      idKey: undefined,
      arrivedAt: this.ledger.clock.now(),
      attempts: 0,
      dueAt: 0,
      replayOf: undefined,
    };
    return { record, changes: [...changes, put(this.ledger.encoder, record)], growth: spoolSize(record) };
  }

  /** Adds the answer made by `answerTo`, with the commit that also holds the other changes of the end. */
  addAnswer(record: OutboundRecord, changes: readonly Change[], growth: number): Promise<void> {
    const prefix = prefixOf(record);
    const arrival = { prefix, record, keys: { recordKey: recordKey(prefix, record.key), idKey: undefined } };
    return this.#lanes.add(arrival, {
      prepare: () => ({ changes, growth }),
      done: () => {
        this.#lanes.committed(arrival);
        this.ledger.watch.witness?.outbound(record, 'queued');
        // Whoever gives a message up calls the router; nobody calls those who wait on this machine.
        if (record.destination.kind === 'local') this.#call(prefix);
      },
      failed: () => this.#lanes.failed([arrival]),
    });
  }

  /** The first records of a lane that are on stable storage, in order; a lane's window bounds how many. */
  waiting(lane: string): readonly OutboundRecord[] {
    const prefix = prefixOfLane(lane);
    const window = this.#lanes.window(prefix);
    // Looked at with every result, and almost always empty.
    if (window === undefined || window.keys.length === 0) return NOTHING;
    return window.keys
      .filter((key) => !window.isCommitting(key))
      .map((key) => this.get(key))
      .filter((record) => record !== undefined);
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
    const prefix = prefixOfLane(lane);
    let ends: Promise<boolean>[] | undefined;
    for (;;) {
      if (this.#unrecorded.isLate) return undefined;
      if (ends?.length === MAX_ENDS_AT_ONCE) {
        void Promise.allSettled(ends).then(() => this.#call(prefix));
        return undefined;
      }
      const window = this.#lanes.window(prefix);
      const key = window?.keys[0];
      if (window === undefined || key === undefined || window.isCommitting(key)) return undefined;
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
      (ends ??= []).push(ended);
    }
  }

  markSending(key: MessageKey): void {
    const record = this.get(key);
    if (record?.state !== 'queued') return;
    this.ledger.watch.witness?.outbound(record, 'sending');
    this.live.put(inState(record, 'sending'));
    this.#lanes.take(prefixOf(record), key);
  }

  unsend(key: MessageKey): void {
    const record = this.get(key);
    if (record?.state !== 'sending') return;
    if (this.#lanes.insert(prefixOf(record), record)) this.live.put({ ...record, state: 'queued' });
    else this.live.remove(key);
  }

  /** Counts an attempt and waits until `dueAt`; the record keeps its place, so its lane waits with it. */
  async retry(key: MessageKey, dueAt: number): Promise<void> {
    const record = this.get(key);
    if (record === undefined) return;
    this.ledger.watch.witness?.outbound(record, 'retry');
    const later: OutboundRecord = { ...record, state: 'queued', attempts: record.attempts + 1, dueAt };
    if (this.#lanes.insert(prefixOf(record), record)) this.live.put(later);
    else this.live.remove(key);
    this.#callWhenDue(later);
    await this.ledger.commit([put(this.ledger.encoder, later)]);
  }

  /** False when it had ended already. Rejects when it could not be recorded at once. */
  end(key: MessageKey, end: OutboundEnd, failure?: Failure): Promise<boolean> {
    try {
      return this.#end(key, end, failure);
    } catch (error) {
      return rejected(error);
    }
  }

  #end(key: MessageKey, end: OutboundEnd, failure?: Failure): Promise<boolean> {
    const record = this.get(key);
    if (record === undefined) return Promise.resolve(false);
    const prefix = prefixOf(record);
    this.ledger.watch.witness?.outbound(record, end, failure);
    const path = this.live.keysOf(key)?.recordKey ?? recordKey(prefix, key);
    const removal: Change = { table: 'records', key: path, value: undefined };
    const { idKey, content } = record;
    const changes = idKey === undefined ? [removal] : this.ids.ended(idKey, 'result', undefined, undefined, removal);
    // One that came to an older version is looked for by its worker and id first (OutboundArrivals).
    if (idKey !== undefined && content.kind === 'file' && this.ledger.files.sums.hasOlder)
      changes.push(...this.ids.ended(withoutSum(idKey), 'result', undefined));
    const kept =
      end === 'dead'
        ? this.dead.keepRecord(record, failure ?? { code: 'worker-failed', text: 'the result could not be delivered' })
        : undefined;
    if (kept !== undefined) changes.push(...kept.changes);
    this.live.remove(key);
    const recorded = this.#unrecorded.enlist(new Ended(this.ledger, record, changes, kept));
    // Behind the commit: whatever is read to fill its place must not be this record as it was.
    this.#lanes.take(prefix, key);
    return recorded;
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
}
