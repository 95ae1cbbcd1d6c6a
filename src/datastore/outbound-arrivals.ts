/**
 * How a result comes in: once, by itself or together with the end of the message it belongs to. A second copy is
 * known by worker, id and bytes; it waits for the first and makes no record.
 */
import {
  spoolSize,
  type DeadRecord,
  type InboundRecord,
  type MessageKey,
  type OutboundRecord,
} from '../message/index.js';
import type { Change } from './journal.js';
import { inboundIdKey, outboundPrefix, recordKey, resultIdKey } from './keys.js';
import type { Lanes, LiveMessages } from './lanes.js';
import type { Ledger } from './ledger.js';
import {
  asOutbound,
  destinationOf,
  laneOf,
  LOCAL_LANE,
  MQTT_LANE,
  newRecord,
  prefixOf,
  put,
  sha256Of,
  type NewOutbound,
  type ReplyTopicOf,
  type ResultAcceptance,
} from './outbound-record.js';
import { deferred, type Deferred } from './promises.js';
import type { IdState, RecentIds } from './recent-ids.js';
import type { Replay } from './replay-outcome.js';
import { UnderWay } from './under-way.js';

/**
 * URLs with results that wait, at once. Each costs memory, and they are the worker's choice; with this many blocked at
 * the same time there is something wrong, and the worker is told so.
 */
const MAX_URL_LANES = 4096;

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
  done(keys: readonly MessageKey[]): void;
  failed(error: unknown): void;
}

/** A commit under way; a promise is made of it when somebody waits, which is seldom. */
class Commit {
  #waiting: Deferred | undefined;

  wait(): Promise<void> {
    return (this.#waiting ??= deferred()).done;
  }

  settle(error?: unknown): void {
    if (error === undefined) this.#waiting?.resolve();
    else this.#waiting?.reject(error);
  }
}

export class OutboundArrivals {
  /** Commits under way by dedupe key, so that a second copy waits for the first. */
  readonly #pending = new UnderWay<Commit>();

  constructor(
    private readonly ledger: Ledger,
    private readonly live: LiveMessages,
    private readonly ids: RecentIds,
    private readonly lanes: Lanes<OutboundRecord>,
  ) {}

  accept(result: NewOutbound, replyTopicOf: ReplyTopicOf): ResultAcceptance {
    const idKey = idKeyOf(result);
    if (idKey !== undefined) {
      const underWay = this.#pending.get(idKey);
      const isKnown = underWay !== undefined || this.#isKnown(idKey, result);
      if (isKnown) {
        this.#drop(result);
        return { kind: 'duplicate', durable: underWay?.wait() ?? Promise.resolve() };
      }
    }
    const destination = destinationOf(result, replyTopicOf);
    const lacks = this.#lacks({ destination, worker: result.worker });
    if (lacks !== undefined) return { kind: 'full', lacks };
    const { key, changes } = this.ledger.nextKey();
    return { kind: 'accepted', key, durable: this.#arrives(newRecord(result, { key, destination, idKey }), changes) };
  }

  /**
   * Looks whether there is room for all results of a completion. Those that are known need none. `request`: the message
   * that is completed, while it has not ended.
   */
  plan(results: readonly NewOutbound[], replyTopicOf: ReplyTopicOf, request?: InboundRecord): ResultsPlan {
    const planned: Planned[] = [];
    let index = 0;
    for (const result of results) {
      const idKey = idKeyOf(result);
      const destination = destinationOf(result, replyTopicOf);
      const lacks = this.#lacks({ destination, worker: result.worker });
      if (lacks !== undefined && !(idKey !== undefined && (this.#pending.has(idKey) || this.#isKnown(idKey, result)))) {
        return { kind: 'full', index, lacks };
      }
      const isOfRequest = results.length <= MOST_OF_REQUEST && request !== undefined && isResultOf(result, request);
      planned.push({ result, destination, idKey, isOfRequest });
      index += 1;
    }
    return { kind: 'planned', results: planned };
  }

  /**
   * Takes the results of a completion in one commit with `changes`. In this turn, unless one of them is a copy of what is
   * being committed: should that fail, the copy must take its place. Throws what keeps it from being asked for.
   */
  arriveWith(results: readonly Planned[], changes: readonly Change[], growth: number, taker: Taker): void {
    const copied = this.#underWay(results);
    if (copied !== undefined) {
      // One that fails is no copy any more: it is looked at again.
      const again = (): void => {
        try {
          this.arriveWith(results, changes, growth, taker);
        } catch (error) {
          taker.failed(error);
        }
      };
      copied.wait().then(again, again);
      return;
    }
    const all: Change[] = [...changes];
    const arrivals: { readonly prefix: string; readonly record: OutboundRecord }[] = [];
    const newIds: string[] = [];
    const copies: NewOutbound[] = [];
    let grown = growth;
    for (const { result, destination, idKey, isOfRequest } of results) {
      if (idKey !== undefined && (newIds.includes(idKey) || this.#isKnown(idKey, result, isOfRequest))) {
        copies.push(result);
        continue;
      }
      const { key, changes: keyChanges } = this.ledger.nextKey();
      const record = newRecord(result, { key, destination, idKey: isOfRequest ? undefined : idKey });
      const prefix = prefixOf(record);
      grown += this.#prepare(all, prefix, record, keyChanges);
      arrivals.push({ prefix, record });
      if (idKey !== undefined) newIds.push(idKey);
    }
    const underWay = new Commit();
    for (const idKey of newIds) this.#pending.set(idKey, underWay);
    this.lanes.addAll(
      arrivals,
      { changes: all, growth: grown },
      {
        done: () => {
          this.#settled(newIds, underWay);
          const { witness } = this.ledger.watch;
          if (witness !== undefined) for (const { record } of arrivals) witness.outbound(record, 'queued');
          for (const copy of copies) this.#drop(copy);
          taker.done(arrivals.map(({ record }) => record.key));
        },
        failed: (error) => {
          this.#settled(newIds, underWay, error);
          taker.failed(error);
        },
      },
    );
  }

  #settled(idKeys: readonly string[], underWay: Commit, error?: unknown): void {
    for (const idKey of idKeys) this.#pending.delete(idKey);
    underWay.settle(error);
  }

  /** A dead result goes out anew; `removal` takes it out of the dead, in the same commit. `announce` it then. */
  replay(
    dead: DeadRecord,
    removal: readonly Change[],
  ): Replay | { readonly key: MessageKey; readonly durable: Promise<void> } {
    const { origin, messageId, directive, metadata, content } = dead;
    if (origin.kind !== 'outbound') return { kind: 'not-replayable', reason: 'it is no result' };
    if (origin.idKey !== undefined && this.#isPending(this.ids.get(origin.idKey))) return { kind: 'pending' };
    if (this.#lacks(origin) !== undefined) return { kind: 'full' };
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
  #lacks(result: Pick<OutboundRecord, 'destination' | 'worker'>): 'spool' | 'destinations' | undefined {
    if (this.ledger.isFull) return 'spool';
    const prefix = outboundPrefix(laneOf(result));
    if (result.destination.kind !== 'url' || this.lanes.has(prefix)) return undefined;
    const others = [MQTT_LANE, LOCAL_LANE].filter((lane) => this.lanes.has(outboundPrefix(lane)));
    return this.lanes.size - others.length < MAX_URL_LANES ? undefined : 'destinations';
  }

  #underWay(results: readonly Planned[]): Commit | undefined {
    for (const { idKey } of results) {
      const underWay = idKey === undefined ? undefined : this.#pending.get(idKey);
      if (underWay !== undefined) return underWay;
    }
    return undefined;
  }

  /** `isOfRequest`: the request it names had not ended when this was planned, and ends with it. */
  #isKnown(idKey: string, result: NewOutbound, isOfRequest = false): boolean {
    const known = this.ids.ofResult(idKey);
    if (known?.kind === 'ended' || this.#isPending(known)) return true;
    // A request that is pending has no results that came with its end. Almost every worker has one handler only.
    return !(isOfRequest && result.handlers.length === 1) && this.#cameWithRequest(idKey, result);
  }

  #cameWithRequest(idKey: string, { responseTo, handlers }: NewOutbound): boolean {
    if (responseTo === '') return false;
    return handlers.some((handler) => {
      const request = this.ids.get(inboundIdKey(handler, responseTo));
      return request?.kind === 'ended' && request.results.includes(idKey);
    });
  }

  /** Whether a record is there: one that is gone or torn is no reason to drop what comes again. */
  #isPending(known: IdState | undefined): boolean {
    if (known?.kind !== 'pending') return false;
    return this.live.get(known.key) !== undefined || asOutbound(this.ledger.read(known.recordKey)) !== undefined;
  }

  /** The file of a copy is of no use. */
  #drop({ content }: NewOutbound): void {
    if (!Buffer.isBuffer(content)) this.ledger.release(content.file);
  }

  #arrives(record: OutboundRecord, changes: readonly Change[]): Promise<void> {
    const { idKey } = record;
    const prefix = prefixOf(record);
    const idKeys = idKey === undefined ? [] : [idKey];
    const underWay = new Commit();
    for (const each of idKeys) this.#pending.set(each, underWay);
    const { done: durable, resolve, reject } = deferred();
    this.lanes.add(prefix, record, {
      prepare: (stored) => {
        const all: Change[] = [];
        const growth = this.#prepare(all, prefix, stored, changes);
        return { changes: all, growth };
      },
      done: () => {
        this.#settled(idKeys, underWay);
        this.ledger.watch.witness?.outbound(record, 'queued');
        resolve();
      },
      failed: (error) => {
        this.#settled(idKeys, underWay, error);
        reject(error);
      },
    });
    return durable;
  }

  /** Adds to `all` what stores a record; gives what the spool grows by it. */
  #prepare(all: Change[], prefix: string, record: OutboundRecord, keyChanges: readonly Change[]): number {
    const { idKey, key } = record;
    const path = recordKey(prefix, key);
    for (const change of keyChanges) all.push(change);
    all.push(put(record, path));
    if (idKey !== undefined) all.push(this.ids.pending(idKey, path, key));
    return spoolSize(record);
  }
}

/** Whether it is the request that this result names: what is kept with the one is found by the other. */
function isResultOf({ responseTo, handlers }: NewOutbound, { messageId, directiveKey }: InboundRecord): boolean {
  return responseTo === messageId && handlers.includes(directiveKey);
}

/** The same worker, id and bytes are one result (CONTRACT 1.10). */
function idKeyOf({ worker, messageId, content }: NewOutbound): string | undefined {
  return worker && resultIdKey(worker, messageId, sha256Of(content));
}
