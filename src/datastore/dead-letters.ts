/**
 * Messages that were given up, kept for the operator: bounded in bytes and age, the oldest go first and are counted.
 */
import type { Log } from '../log/log.js';
import type { DeadRecord, Failure, InboundRecord, OutboundRecord } from '../message/index.js';
import { END, type Change } from './journal.js';
import { padded } from './keys.js';
import type { Ledger } from './ledger.js';
import { encodeRecord, storedSize } from './record-codec.js';

export interface DeadLimits {
  readonly bytes: number;
  /** Milliseconds. */
  readonly age: number;
}

const BATCH = 256;

export class DeadLetters {
  #bytes = 0;
  #pruned = 0;

  constructor(
    private readonly ledger: Ledger,
    private readonly limits: DeadLimits,
    private readonly log: Log,
  ) {}

  open(): void {
    this.#bytes = 0;
    for (const [, bytes] of this.ledger.journal.range('dead', { after: '', before: END }))
      this.#bytes += storedSize(bytes);
  }

  /** How many were thrown away for lack of room or for their age since the start. */
  get pruned(): number {
    return this.#pruned;
  }

  get count(): number {
    return this.ledger.journal.count('dead');
  }

  /** The changes that keep `record`, and that make room for it. */
  keep(record: DeadRecord): readonly Change[] {
    const value = encodeRecord(record);
    this.#bytes += storedSize(value);
    return [...this.#makeRoom(), { table: 'dead', key: padded(record.key), value }];
  }

  /** The changes that keep a record which is given up now. */
  keepRecord(record: InboundRecord | OutboundRecord, failure: Failure): readonly Change[] {
    const { key, kind, messageId, directive, metadata, content } = record;
    const endedAt = this.ledger.clock.now();
    return this.keep({ kind: 'dead', key, direction: kind, endedAt, failure, messageId, directive, metadata, content });
  }

  /** In the order of arrival. */
  *all(): Generator<DeadRecord> {
    for (const [key, bytes] of this.ledger.journal.range('dead', { after: '', before: END })) {
      const record = this.ledger.decode(key, bytes);
      if (record?.kind === 'dead') yield record;
    }
  }

  #makeRoom(): readonly Change[] {
    const changes: Change[] = [];
    const oldest = this.ledger.clock.now() - this.limits.age;
    for (const [key, bytes] of this.ledger.journal.range('dead', { after: '', before: END, limit: BATCH })) {
      // Thrown away by an earlier commit that is still under way.
      if (this.ledger.get('dead', key) === undefined) continue;
      const record = this.ledger.decode(key, bytes);
      if (this.#bytes <= this.limits.bytes && record?.kind === 'dead' && record.endedAt > oldest) break;
      this.#bytes -= storedSize(bytes);
      this.#pruned += 1;
      if (record !== undefined) this.ledger.release(record.content);
      changes.push({ table: 'dead', key, value: undefined });
    }
    if (changes.length > 0) {
      this.log.warn(
        'dead.pruned',
        'dead messages were thrown away: the oldest go when there is no room or they are too old',
        {
          count: changes.length,
        },
      );
    }
    return changes;
  }
}
