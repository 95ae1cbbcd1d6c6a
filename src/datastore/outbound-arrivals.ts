/**
 * How a result comes in: once, by itself or together with the end of the message it belongs to. A second copy is
 * known by worker, id and bytes; it waits for the first and makes no record.
 */
import { hash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import {
  spoolSize,
  type DeadRecord,
  type Destination,
  type InboundRecord,
  type MessageKey,
  type OutboundRecord,
  type WorkerName,
} from '../message/index.js';
import { withItem } from '../signal/index.js';
import type { Change } from './journal.js';
import { inboundIdKey, recordKey, resultIdKey, under } from './keys.js';
import type { Arrival, Lanes } from './lanes.js';
import type { Ledger } from './ledger.js';
import type { LiveMessages } from './live-messages.js';
import {
  asOutbound,
  destinationOf,
  laneOf,
  LOCAL_LANE,
  MQTT_LANE,
  newRecord,
  prefixOf,
  prefixOfLane,
  putNew,
  type NewOutbound,
  type ReplyTopicOf,
  type ResultAcceptance,
} from './outbound-record.js';
import { deferred, type Deferred } from './promises.js';
import type { IdState, RecentIds } from './recent-ids.js';
import type { Replay } from './replay-outcome.js';
import type { Settler } from './transactions.js';
import { UnderWay } from './under-way.js';

/**
 * URLs with results that wait, at once. Each costs memory, and they are the worker's choice; with this many blocked at
 * the same time there is something wrong, and the worker is told so.
 */
const MAX_URL_LANES = 4096;

/** Of more results of one completion, the keys are looked up. */
const FEW = 16;

/** More results of one completion have entries of their own: what is known of an id is read often. */
const MOST_OF_REQUEST = 4;

/** A result that there is room for, and where it goes. */
export type Planned = Pick<OutboundRecord, 'destination' | 'idKey'> & {
  readonly result: NewOutbound;
  /** Its dedupe key stands with the end of its request, not by itself. */
  readonly isOfRequest: boolean;
};

/** What the results of one completion are, or which of them there is no room for. */
export type ResultsPlan =
  | { readonly kind: 'planned'; readonly results: readonly Planned[] }
  | { readonly kind: 'full'; readonly index: number; readonly lacks: 'spool' | 'destinations' };

/** Is told how the results of a completion came in, with the keys of those that are new. */
export interface Taker {
  taken(keys: readonly MessageKey[]): void;
  failed(error: unknown): void;
}

/** A new result on its way to its lane; by the id key a copy of it is known. */
type NewArrival = Arrival<OutboundRecord>;

/** None, for nearly every completion. */
const NO_COPIES: readonly NewOutbound[] = [];
const NO_ARRIVALS: readonly NewArrival[] = [];
const NO_CHANGES: readonly Change[] = [];

/** The results of one commit under way; a promise is made of it when somebody waits for a copy, which is seldom. */
class Together implements Settler {
  #waiting: Deferred | undefined;

  constructor(
    private readonly commits: Commits,
    readonly arrivals: readonly NewArrival[],
    readonly copies: readonly NewOutbound[],
    private readonly taker: Taker | undefined,
  ) {}

  wait(): Promise<void> {
    return (this.#waiting ??= deferred()).done;
  }

  done(): void {
    this.commits.committed(this);
    this.#waiting?.resolve();
    this.commits.taken(this);
    this.taker?.taken(this.arrivals.map(keyOf));
  }

  failed(error: unknown): void {
    this.commits.failed(this);
    this.#waiting?.reject(error);
    this.taker?.failed(error);
  }
}

/** Is told how a commit went, before whoever asked for it. */
interface Commits {
  committed(commit: Together): void;
  /** Behind those who waited for a copy. */
  taken(commit: Together): void;
  failed(commit: Together): void;
}

export class OutboundArrivals {
  /** Commits under way by dedupe key, so that a second copy waits for the first. */
  readonly #pending = new UnderWay<Together>();
  readonly #commits: Commits = {
    committed: ({ arrivals }) => {
      for (const arrival of arrivals) this.lanes.committed(arrival);
      this.#settled(arrivals);
    },
    failed: ({ arrivals }) => {
      this.lanes.failed(arrivals);
      this.#settled(arrivals);
    },
    taken: ({ arrivals, copies }) => {
      const { witness } = this.ledger.watch;
      if (witness !== undefined) for (const { record } of arrivals) witness.outbound(record, 'queued');
      for (const copy of copies) this.#drop(copy);
    },
  };

  constructor(
    private readonly ledger: Ledger,
    private readonly live: LiveMessages,
    private readonly ids: RecentIds,
    private readonly lanes: Lanes<OutboundRecord>,
  ) {}

  accept(result: NewOutbound, replyTopicOf: ReplyTopicOf): ResultAcceptance {
    const idKey = this.#idKeyOf(result);
    if (idKey !== undefined) {
      const underWay = this.#pending.get(idKey);
      const isKnown = underWay !== undefined || this.#isKnown(idKey, result);
      if (isKnown) {
        this.#drop(result);
        return { kind: 'duplicate', durable: underWay?.wait() ?? Promise.resolve() };
      }
    }
    const destination = destinationOf(result, replyTopicOf);
    const lacks = this.#lacks(destination, result.worker);
    if (lacks !== undefined) return { kind: 'full', lacks };
    const { key, changes } = this.ledger.nextKey();
    return { kind: 'accepted', key, durable: this.#arrives(newRecord(result, key, destination, idKey), changes) };
  }

  /**
   * Looks whether there is room for all results of a completion. Those that are known need none. `request`: the message
   * that is completed, while it has not ended.
   */
  plan(results: readonly NewOutbound[], replyTopicOf: ReplyTopicOf, request?: InboundRecord): ResultsPlan {
    let planned: Planned[] | undefined;
    let index = 0;
    for (const result of results) {
      const idKey = this.#idKeyOf(result);
      const destination = destinationOf(result, replyTopicOf, request);
      const lacks = this.#lacks(destination, result.worker);
      if (lacks !== undefined && !(idKey !== undefined && (this.#pending.has(idKey) || this.#isKnown(idKey, result)))) {
        return { kind: 'full', index, lacks };
      }
      const isOfRequest = results.length <= MOST_OF_REQUEST && request !== undefined && isResultOf(result, request);
      planned = withItem(planned, { result, destination, idKey, isOfRequest });
      index += 1;
    }
    return { kind: 'planned', results: planned ?? [] };
  }

  /**
   * Takes the results of a completion in one commit with `changes`. In this turn, unless one of them is a copy of what is
   * being committed: should that fail, the copy must take its place. Throws what keeps it from being asked for. Settles
   * when `taker` has been told.
   */
  arriveWith(results: readonly Planned[], changes: readonly Change[], growth: number, taker: Taker): Promise<void> {
    const copied = this.#underWay(results);
    if (copied !== undefined) {
      // One that fails is no copy any more: it is looked at again.
      const again = (): Promise<void> => {
        try {
          return this.arriveWith(results, changes, growth, taker);
        } catch (error) {
          taker.failed(error);
          throw error;
        }
      };
      return copied.wait().then(again, again);
    }
    let own: Change[] | undefined;
    let arrivals: NewArrival[] | undefined;
    let copies: NewOutbound[] | undefined;
    let grown = growth;
    const known = results.length > FEW ? new Set<string>() : undefined;
    for (const { result, destination, idKey, isOfRequest } of results) {
      const isTwice = idKey !== undefined && (known?.has(idKey) ?? isAmong(arrivals, idKey));
      if (idKey !== undefined && (isTwice || this.#isKnown(idKey, result, isOfRequest))) {
        copies = withItem(copies, result);
        continue;
      }
      const { key, changes: keyChanges } = this.ledger.nextKey();
      const record = newRecord(result, key, destination, isOfRequest ? undefined : idKey);
      const prefix = prefixOf(record);
      const path = recordKey(prefix, key);
      const stored = putNew(this.ledger.encoder, record, path);
      own = withItem(own, stored);
      if (record.idKey !== undefined) own.push(this.ids.pending(record.idKey, path, key));
      for (const change of keyChanges) own.push(change);
      grown += spoolSize(record);
      arrivals = withItem(arrivals, { prefix, record, keys: { recordKey: path, idKey } });
      if (idKey !== undefined) known?.add(idKey);
    }
    const underWay = new Together(this.#commits, arrivals ?? NO_ARRIVALS, copies ?? NO_COPIES, taker);
    for (const { keys } of underWay.arrivals) if (keys.idKey !== undefined) this.#pending.set(keys.idKey, underWay);
    return this.lanes.addAll(underWay.arrivals, changes, grown, underWay, own ?? NO_CHANGES);
  }

  /** A dead result goes out anew; `removal` takes it out of the dead, in the same commit. `announce` it then. */
  replay(
    dead: DeadRecord,
    removal: readonly Change[],
  ): Replay | { readonly key: MessageKey; readonly durable: Promise<void> } {
    const { origin, messageId, directive, metadata, content } = dead;
    if (origin.kind !== 'outbound') return { kind: 'not-replayable', reason: 'it is no result' };
    if (origin.idKey !== undefined && this.#isPending(this.ids.get(origin.idKey))) return { kind: 'pending' };
    if (this.#lacks(origin.destination, origin.worker) !== undefined) return { kind: 'full' };
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

  /** Whether there is room: in the spool, and in memory for the lane. */
  #lacks(destination: Destination, worker: WorkerName | undefined): 'spool' | 'destinations' | undefined {
    if (this.ledger.isFull) return 'spool';
    if (destination.kind !== 'url' || this.lanes.has(prefixOfLane(laneOf({ destination, worker })))) return undefined;
    const others = [MQTT_LANE, LOCAL_LANE].filter((lane) => this.lanes.has(prefixOfLane(lane)));
    return this.lanes.size - others.length < MAX_URL_LANES ? undefined : 'destinations';
  }

  #underWay(results: readonly Planned[]): Together | undefined {
    for (const { idKey } of results) {
      const underWay = idKey === undefined ? undefined : this.#pending.get(idKey);
      if (underWay !== undefined) return underWay;
    }
    return undefined;
  }

  /** The same worker, id and bytes are one result (CONTRACT 1.10). */
  #idKeyOf({ worker, messageId, content }: NewOutbound): string | undefined {
    if (worker === undefined) return undefined;
    const sum = Buffer.isBuffer(content) ? this.ledger.files.sums.of(content) : content.sum;
    return resultIdKey(worker, messageId, sum);
  }

  /** `isOfRequest`: the request it names had not ended when this was planned, and ends with it. */
  #isKnown(idKey: string, result: NewOutbound, isOfRequest = false): boolean {
    // A request that is pending has no results that came with its end. Almost every worker has one handler only.
    const mayHaveComeWith = !(isOfRequest && result.handlers.length === 1);
    return (
      this.#hasCome(idKey, result, mayHaveComeWith) ||
      (this.ledger.files.sums.hasOlder && this.#hasComeToOlder(result, mayHaveComeWith))
    );
  }

  #hasCome(idKey: string, result: NewOutbound, mayHaveComeWith: boolean): boolean {
    const known = this.ids.ofResult(idKey);
    if (known?.kind === 'ended' || this.#isPending(known)) return true;
    return mayHaveComeWith && this.#cameWithRequest(idKey, result);
  }

  /** Whether one of its request has this key, or one that begins so. */
  #cameWithRequest(idKey: string, { responseTo, handlers }: NewOutbound): boolean {
    if (responseTo === '') return false;
    return handlers.some((handler) => {
      const request = this.ids.get(inboundIdKey(handler, responseTo));
      return request?.kind === 'ended' && request.results.some((each) => each.startsWith(idKey));
    });
  }

  /** Whether a large one came to a version that knew it by its SHA-256: made only of one whose worker and id are known. */
  #hasComeToOlder(result: NewOutbound, mayHaveComeWith: boolean): boolean {
    const { worker, messageId, content } = result;
    if (worker === undefined || (Buffer.isBuffer(content) && !this.ledger.files.isLarge(content))) return false;
    const like = resultIdKey(worker, messageId, '');
    const [pending] = this.ledger.journal.range('ids', { ...under(like), limit: 1 });
    const isAlike = pending !== undefined || this.ids.ofResult(like) !== undefined;
    if (!isAlike && !(mayHaveComeWith && this.#cameWithRequest(like, result))) return false;
    const bytes = Buffer.isBuffer(content) ? content : bytesIn(content.path);
    return bytes !== undefined && this.#hasCome(like + hash('sha256', bytes, 'base64url'), result, mayHaveComeWith);
  }

  /** Whether a record is there: one that is gone or torn is no reason to drop what comes again. */
  #isPending(known: IdState | undefined): boolean {
    if (known?.kind !== 'pending') return false;
    return this.live.get(known.key) !== undefined || asOutbound(this.ledger.read(known.recordKey)) !== undefined;
  }

  /** The file of a copy is of no use. */
  #drop({ content }: NewOutbound): void {
    if (!Buffer.isBuffer(content)) this.ledger.release(content);
  }

  /** No copy has to wait for them any more. */
  #settled(arrivals: readonly NewArrival[]): void {
    for (const { keys } of arrivals) if (keys.idKey !== undefined) this.#pending.delete(keys.idKey);
  }

  #arrives(record: OutboundRecord, changes: readonly Change[]): Promise<void> {
    const { idKey } = record;
    const prefix = prefixOf(record);
    const arrival = { prefix, record, keys: { recordKey: recordKey(prefix, record.key), idKey } };
    const underWay = new Together(this.#commits, [arrival], NO_COPIES, undefined);
    if (idKey !== undefined) this.#pending.set(idKey, underWay);
    return this.lanes.add(arrival, {
      prepare: (stored) => ({
        changes: this.#stored(arrival.keys.recordKey, stored, changes),
        growth: spoolSize(stored),
      }),
      done: () => underWay.done(),
      failed: (error) => underWay.failed(error),
    });
  }

  /** What stores a record, with what its key brought along. */
  #stored(path: string, record: OutboundRecord, keyChanges: readonly Change[]): Change[] {
    const { idKey, key } = record;
    const changes = [putNew(this.ledger.encoder, record, path)];
    if (idKey !== undefined) changes.push(this.ids.pending(idKey, path, key));
    for (const change of keyChanges) changes.push(change);
    return changes;
  }
}

/** Undefined when it cannot be read now: what may have come before is taken as new then. */
function bytesIn(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

function isAmong(arrivals: readonly NewArrival[] | undefined, idKey: string): boolean {
  return arrivals?.some(({ keys }) => keys.idKey === idKey) === true;
}

function keyOf({ record }: NewArrival): MessageKey {
  return record.key;
}

/** Whether it is the request that this result names: what is kept with the one is found by the other. */
function isResultOf({ responseTo, handlers }: NewOutbound, { messageId, directiveKey }: InboundRecord): boolean {
  return responseTo === messageId && handlers.includes(directiveKey);
}
