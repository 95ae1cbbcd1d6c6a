/**
 * How a message comes in: durably, once for each id, and again when an operator replays a dead one. What is known of an
 * id counts only while there is something behind it: one that is pending on a record which is gone or torn is unknown,
 * so that the server's repeat is accepted anew instead of being acknowledged and lost.
 */
import {
  directiveKey,
  parseDirective,
  readAttributes,
  spoolSize,
  type DeadRecord,
  type Failure,
  type InboundRecord,
  type MessageKey,
  type Metadata,
} from '../message/index.js';
import { SlotTable } from '../signal/index.js';
import type { InboundPrefixes } from './inbound-prefixes.js';
import { asInbound, newRecord, prefixOf, put, putNew } from './inbound-record.js';
import type { AcceptOptions, Acceptance, InboundParts, NewInbound } from './inbound-types.js';
import type { Change } from './journal.js';
import { inboundIdKey, inboundPrefix, PRIORITIES, recordKey } from './keys.js';
import type { Arrival, Entrance, Lanes, Prepared } from './lanes.js';
import type { IdState } from './recent-ids.js';
import type { Replay } from './replay-outcome.js';
import { UnderWay } from './under-way.js';

export interface ArrivalsParts extends Omit<InboundParts, 'dead'> {
  readonly lanes: Lanes<InboundRecord>;
  readonly prefixes: InboundPrefixes;
  /** Its lifetime begins. */
  readonly expect: (record: InboundRecord) => void;
  /** It comes back to its place in the lane. */
  readonly comesBack: (record: InboundRecord) => void;
  readonly isEnding: (key: MessageKey) => boolean;
  /** Records it as dead, with its error answer, in one commit. */
  readonly turnedAway: (record: InboundRecord, failure: Failure, changes: readonly Change[]) => Promise<unknown>;
}

/**
 * Lanes of directives that nobody ever registered, at once. Each costs memory, and their number is the sender's choice;
 * those that somebody registered are as many as this machine has workers. Far more than any fleet has directives.
 */
const MAX_UNKNOWN_LANES = 1024;

type Pending = IdState & { readonly kind: 'pending' };

/** What is being committed under an id. */
type Arriving = Pending & { readonly idKey: string };

/** How a new message is stored, and what follows once it is. */
class Accepting implements Entrance<InboundRecord>, Arrival<InboundRecord> {
  constructor(
    private readonly parts: ArrivalsParts,
    readonly prefix: string,
    readonly record: InboundRecord,
    readonly keys: Arriving,
    /** What else belongs to its commit. */
    private readonly changes: readonly Change[],
    /** Is told that it is under way no longer, before anybody else. */
    private readonly settled: (arriving: Arriving) => void,
  ) {}

  prepare(stored: InboundRecord): Prepared {
    const { alarms, ids, ledger } = this.parts;
    const { idKey, recordKey: path } = this.keys;
    const { key, expiresAt } = stored;
    const all = [ids.pending(idKey, path, key), putNew(ledger.encoder, stored, path)];
    if (expiresAt !== undefined) all.push(alarms.set(expiresAt, key, path));
    for (const change of this.changes) all.push(change);
    return { changes: all, growth: spoolSize(stored) };
  }

  done(): void {
    const { alarms, expect, lanes, ledger } = this.parts;
    const { record } = this;
    lanes.committed(this);
    if (record.expiresAt !== undefined) alarms.arm(record.expiresAt);
    expect(record);
    ledger.watch.witness?.inbound(record, 'accepted');
    this.settled(this.keys);
  }

  failed(): void {
    this.parts.lanes.failed([this]);
    this.settled(this.keys);
  }
}

export class InboundArrivals {
  readonly #committing = new SlotTable<Promise<void>>();
  readonly #settled = ({ idKey, key }: Arriving): void => {
    this.#arriving.delete(idKey);
    this.#committing.delete(key);
  };
  /** Messages whose commit is under way, by id: a second copy waits for the first. */
  readonly #arriving = new UnderWay<IdState>();

  constructor(private readonly parts: ArrivalsParts) {}

  /** The commit of a new message, while it is under way. */
  committing(key: MessageKey): Promise<void> | undefined {
    return this.#committing.get(key);
  }

  stateOf(idKey: string): IdState | undefined {
    const arriving = this.#arriving.get(idKey);
    if (arriving !== undefined) return arriving;
    const known = this.parts.ids.get(idKey);
    return known?.kind !== 'pending' || this.#isThere(known) ? known : undefined;
  }

  accept(message: NewInbound, { isRetained = false }: AcceptOptions = {}): Acceptance {
    const { ledger } = this.parts;
    const directive = directiveKey(message.directive);
    const idKey = inboundIdKey(directive, message.messageId);
    const known = this.stateOf(idKey);
    // A dead one is accepted anew when it is sent again (CONTRACT 1.3), but not when it merely lies there (1.9).
    const isAnew = known?.kind === 'ended' && known.end === 'dead' && !isRetained;
    if (known !== undefined && !isAnew) return this.#duplicate(known);
    const cancel = this.parts.facts.takeCancel(directive, message.messageId);
    if (cancel !== undefined) return this.#acceptCancelled(message, idKey, cancel);
    if (ledger.isIntakeFull) return { kind: 'full' };
    const { key, changes } = ledger.nextKey();
    const record = newRecord(message, directive, key);
    if (!this.#mayWait(record)) return { kind: 'unroutable', durable: this.#turnAway(record, idKey, changes) };
    return { kind: 'accepted', key, durable: this.#arrives(record, idKey, changes) };
  }

  /** A dead message comes in anew; `removal` takes it out of the dead, in the same commit. */
  replay(
    dead: DeadRecord,
    removal: readonly Change[],
  ): Replay | { readonly key: MessageKey; readonly durable: Promise<void> } {
    const { ledger } = this.parts;
    const { origin, messageId, metadata, content } = dead;
    const directive = parseDirective(dead.directive);
    if (origin.kind !== 'inbound' || directive === undefined) {
      return { kind: 'not-replayable', reason: 'it was never a message that could be delivered' };
    }
    const idKey = inboundIdKey(directiveKey(directive), messageId);
    const known = this.stateOf(idKey);
    if (known?.kind === 'pending') return { kind: 'pending' };
    if (known !== undefined && known.end !== 'dead') return { kind: 'superseded', end: known.end };
    if (ledger.isIntakeFull) return { kind: 'full' };
    const { key, changes } = ledger.nextKey();
    const { responseTo, isFetched, priority, replyTopic } = origin;
    const arrivedAt = ledger.clock.now();
    const expiresAt = readAttributes(withoutExpires(metadata), arrivedAt).expiresAt;
    const record: InboundRecord = {
      ...newRecord(
        { messageId, responseTo, directive, metadata, priority, arrivedAt, expiresAt, replyTopic, content: NOTHING },
        directiveKey(directive),
        key,
      ),
      content,
      isFetched,
      replayOf: dead.key,
    };
    if (!this.#mayWait(record)) return { kind: 'not-replayable', reason: TOO_MANY };
    return { key, durable: this.#arrives(record, idKey, [...removal, ...changes]) };
  }

  /** Whether there is room in memory for the lane of a record. */
  #mayWait(record: InboundRecord): boolean {
    const { lanes, facts, prefixes } = this.parts;
    if (facts.isKnown(record.directiveKey) || lanes.has(prefixes.of(record))) return true;
    if (lanes.size < MAX_UNKNOWN_LANES) return true;
    // Counted when it matters, so that no count can go astray: what was unknown may be registered at any time.
    let known = 0;
    for (const directive of facts.known) {
      for (const priority of PRIORITIES) if (lanes.has(inboundPrefix(directive, priority))) known += 1;
    }
    return lanes.size - known < MAX_UNKNOWN_LANES;
  }

  #turnAway(record: InboundRecord, idKey: string, changes: readonly Change[]): Promise<void> {
    const { key } = record;
    const failure: Failure = { code: 'unroutable', text: TOO_MANY };
    const path = recordKey(prefixOf(record), key);
    const arriving: Arriving = { kind: 'pending', recordKey: path, key, idKey };
    return this.#underWay(arriving, () => this.parts.turnedAway(record, failure, changes));
  }

  #isThere({ key, recordKey: path }: Pending): boolean {
    const { live, ledger } = this.parts;
    return live.get(key) !== undefined || asInbound(ledger.read(path)) !== undefined;
  }

  #arrives(record: InboundRecord, idKey: string, changes: readonly Change[]): Promise<void> {
    const { key } = record;
    const prefix = this.parts.prefixes.of(record);
    const path = recordKey(prefix, key);
    const arriving: Arriving = { kind: 'pending', recordKey: path, key, idKey };
    this.#arriving.set(idKey, arriving);
    this.parts.ledger.watch.witness?.inbound(record, 'arriving');
    const accepting = new Accepting(this.parts, prefix, record, arriving, changes, this.#settled);
    return this.#waitFor(arriving, this.parts.lanes.add(accepting, accepting));
  }

  /** As `#arrives`, for what becomes no record of its own. */
  #underWay(arriving: Arriving, commit: () => Promise<unknown>): Promise<void> {
    this.#arriving.set(arriving.idKey, arriving);
    const committed = async (): Promise<void> => {
      try {
        await commit();
      } finally {
        this.#settled(arriving);
      }
    };
    return this.#waitFor(arriving, committed());
  }

  /** Notes that a message is being committed, so that a second copy waits for the first. */
  #waitFor(arriving: Arriving, durable: Promise<void>): Promise<void> {
    if (this.#arriving.get(arriving.idKey) === arriving) this.#committing.add(arriving.key, durable);
    return durable;
  }

  #duplicate(known: IdState): Acceptance {
    if (known.kind === 'ended') return { kind: 'duplicate', durable: Promise.resolve() };
    const underWay = this.#committing.get(known.key);
    if (underWay === undefined) this.wake(known);
    return { kind: 'duplicate', durable: underWay ?? Promise.resolve() };
  }

  /** A back-off it waits in ends now: the broker sent it again (CONTRACT 1.3), or the wall clock went back. */
  wake({ key, recordKey: path }: Pick<IdState & { kind: 'pending' }, 'key' | 'recordKey'>): void {
    const { ledger, live, alarms, isEnding, comesBack } = this.parts;
    if (live.get(key) !== undefined || isEnding(key)) return;
    const record = asInbound(ledger.read(path));
    if (record === undefined || record.dueAt <= ledger.clock.now()) return;
    const due: InboundRecord = { ...record, dueAt: 0 };
    comesBack(due);
    const alarm = record.dueAt === record.expiresAt ? [] : [alarms.clear(record.dueAt, key)];
    ledger.commit([put(ledger.encoder, due), ...alarm]).catch((error: unknown) => {
      ledger.log.warn('journal.write_failed', 'a message was woken, but the journal does not know it', { error });
    });
  }

  #acceptCancelled(message: NewInbound, idKey: string, cancel: Change): Acceptance {
    const { ledger, ids, outbound } = this.parts;
    const { key, changes } = ledger.nextKey();
    const failure: Failure = { code: 'cancelled', text: 'the message was cancelled before it arrived' };
    const answer = outbound.answerTo(message, failure);
    ledger.watch.witness?.inbound(newRecord(message, directiveKey(message.directive), key), 'cancelled', failure);
    const path = recordKey(inboundPrefix(directiveKey(message.directive), message.priority), key);
    const all = [...changes, cancel, ...ids.ended(idKey, 'cancelled', message.replyTopic), ...answer.changes];
    return {
      kind: 'cancelled',
      answer: answer.record.key,
      durable: this.#underWay({ kind: 'pending', recordKey: path, key, idKey }, () =>
        outbound.addAnswer(answer.record, all, answer.growth),
      ),
    };
  }
}

const NOTHING = Buffer.alloc(0);
const TOO_MANY = `no worker has ever registered its directive here, and the messages of ${MAX_UNKNOWN_LANES} such wait already`;

/** A replay does not heed when the message should have been done by; what counts from its arrival counts anew. */
function withoutExpires({ expires: _expires, ...rest }: Metadata): Metadata {
  return rest;
}
