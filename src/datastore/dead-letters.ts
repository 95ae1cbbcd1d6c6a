/**
 * Messages that were given up, kept for the operator: bounded in bytes and age, the oldest go first and are counted.
 * What the disk holds is counted once the commit is through; a content file goes only behind the commit that forgets
 * its message, so a dead letter never names a file that is gone.
 */
import type { Log } from '../log/log.js';
import type { DeadOrigin, DeadRecord, Failure, InboundRecord, MessageKey, OutboundRecord } from '../message/index.js';
import { END, type Change } from './journal.js';
import { padded } from './keys.js';
import type { Ledger } from './ledger.js';
import { encodeRecord, storedSize } from './record-codec.js';

export interface DeadLimits {
  readonly bytes: number;
  /** Milliseconds. */
  readonly age: number;
}

/** What keeps a message, or takes it out; whoever has committed the changes calls `committed`. */
export interface DeadChange {
  readonly changes: readonly Change[];
  readonly committed: () => void;
}

/** Looked at or thrown away in one turn. */
const BATCH = 256;

export class DeadLetters {
  #bytes = 0;
  #pruned = 0;
  /** How far the search for those that are too old has come. */
  #cursor = '';
  #pruning: Promise<void> | undefined;

  constructor(
    private readonly ledger: Ledger,
    private readonly limits: DeadLimits,
    private readonly log: Log,
  ) {}

  /** `bytes`: what they take now. */
  open(bytes: number): void {
    this.#bytes = bytes;
    this.#cursor = '';
  }

  /** How many were thrown away for lack of room or for their age since the start. */
  get pruned(): number {
    return this.#pruned;
  }

  get count(): number {
    return this.ledger.journal.count('dead');
  }

  /** Bytes that dead messages take on disk. */
  get bytes(): number {
    return this.#bytes;
  }

  keep(record: DeadRecord): DeadChange {
    const value = encodeRecord(record);
    return {
      changes: [{ table: 'dead', key: padded(record.key), value }],
      committed: () => {
        this.#bytes += storedSize(value);
        if (this.#bytes > this.limits.bytes) this.#makeRoom();
      },
    };
  }

  /** Keeps a record which is given up now. */
  keepRecord(record: InboundRecord | OutboundRecord, failure: Failure): DeadChange {
    const { key, kind, messageId, directive, metadata, content } = record;
    const endedAt = this.ledger.clock.now();
    const origin = originOf(record);
    return this.keep({
      kind: 'dead',
      key,
      direction: kind,
      endedAt,
      failure,
      messageId,
      directive,
      metadata,
      content,
      origin,
    });
  }

  /** In the order of arrival. */
  *all(): Generator<DeadRecord> {
    for (const [key, bytes] of this.ledger.journal.range('dead', { after: '', before: END })) {
      const record = this.#decode(key, bytes);
      if (record !== undefined) yield record;
    }
  }

  /** Undefined when it is not there, or a commit under way takes it out. */
  get(key: MessageKey): DeadRecord | undefined {
    const bytes = this.ledger.get('dead', padded(key));
    return bytes && this.#decode(padded(key), bytes);
  }

  /** Takes a message out, with its content file, which is the caller's from then on. */
  takeOut(record: DeadRecord): DeadChange {
    const size = storedSize(encodeRecord(record));
    return {
      changes: [{ table: 'dead', key: padded(record.key), value: undefined }],
      committed: () => (this.#bytes -= size),
    };
  }

  /** Throws away some of what is too old; true when it has come to the end. Rejects when the journal fails. */
  async expire(): Promise<boolean> {
    const oldest = this.ledger.clock.now() - this.limits.age;
    const old: [string, Buffer][] = [];
    let read = 0;
    for (const [key, bytes] of this.ledger.journal.range('dead', { after: this.#cursor, before: END, limit: BATCH })) {
      read += 1;
      this.#cursor = key;
      const record = this.#decode(key, bytes);
      if (record !== undefined && record.endedAt <= oldest) old.push([key, bytes]);
    }
    const isEnd = read < BATCH;
    if (isEnd) this.#cursor = '';
    await this.#pruning;
    await this.#throwAway(old);
    return isEnd;
  }

  /** One at a time, lest a message be counted twice. */
  #makeRoom(): void {
    this.#pruning ??= this.#dropOldest()
      .catch((error: unknown) => {
        this.log.error('dead.not_pruned', 'dead messages could not be thrown away; it is tried at the next', { error });
      })
      .finally(() => (this.#pruning = undefined));
  }

  async #dropOldest(): Promise<void> {
    while (this.#bytes > this.limits.bytes) {
      let excess = this.#bytes - this.limits.bytes;
      const oldest: [string, Buffer][] = [];
      for (const [key, bytes] of this.ledger.journal.range('dead', { after: '', before: END, limit: BATCH })) {
        if (excess <= 0) break;
        // A commit under way takes it out, or it is torn.
        if (this.ledger.get('dead', key) === undefined || this.#decode(key, bytes) === undefined) continue;
        excess -= storedSize(bytes);
        oldest.push([key, bytes]);
      }
      if (oldest.length === 0) return;
      await this.#throwAway(oldest);
    }
  }

  async #throwAway(entries: readonly (readonly [string, Buffer])[]): Promise<void> {
    // One that a commit under way takes out is not ours any more.
    const present = entries.filter(([key]) => this.ledger.get('dead', key) !== undefined);
    if (present.length === 0) return;
    await this.ledger.commit(present.map(([key]) => ({ table: 'dead', key, value: undefined })));
    for (const [key, bytes] of present) {
      this.#bytes -= storedSize(bytes);
      const record = this.#decode(key, bytes);
      if (record !== undefined) this.ledger.release(record.content);
    }
    this.#pruned += present.length;
    this.log.warn(
      'dead.pruned',
      'dead messages were thrown away: the oldest go when there is no room or they are too old',
      { count: present.length },
    );
  }

  #decode(key: string, bytes: Buffer): DeadRecord | undefined {
    const record = this.ledger.decode('dead', key, bytes);
    return record?.kind === 'dead' ? record : undefined;
  }
}

function originOf(record: InboundRecord | OutboundRecord): DeadOrigin {
  if (record.kind === 'inbound') {
    const { kind, responseTo, isFetched, priority, replyTopic } = record;
    return { kind, responseTo, isFetched, priority, replyTopic };
  }
  const { kind, worker, responseTo, destination, idKey } = record;
  return { kind, worker, responseTo, destination, idKey };
}
