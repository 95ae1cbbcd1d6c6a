/**
 * Records whose bytes fail their checksum: each is named in the log once and moved out of the queue, into a table of
 * its own where a person can look at it. What it was about is unknown, so nobody can be answered; a message that the
 * server sends again under its id is accepted anew.
 */
import type { Log } from '../log/log.js';
import type { Clock } from '../time.js';
import { END, type Change, type Journal, type Table } from './journal.js';
import { padded } from './keys.js';

/** A record that could not be read. */
export interface TornRecord {
  /** Where it stood. */
  readonly table: Table;
  readonly key: string;
  /** Wall time at which it was found. */
  readonly foundAt: number;
  readonly bytes: Buffer;
}

/** How many are kept; the oldest go. */
const MOST_KEPT = 256;
/** Moved in one commit at the start. */
const BATCH = 64;

export class TornRecords {
  /** Those that were named since the start. */
  readonly #named = new Set<string>();

  constructor(
    private readonly journal: Journal,
    private readonly commit: (changes: readonly Change[]) => Promise<void>,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {}

  get count(): number {
    return this.journal.count('torn');
  }

  *all(): Generator<TornRecord> {
    for (const [key, bytes] of this.journal.range('torn', { after: '', before: END })) {
      const [at = '', table = '', ...rest] = key.split('/');
      yield { table: table as Table, key: rest.join('/'), foundAt: Number.parseInt(at, 36), bytes };
    }
  }

  /** One was met while the agent runs: it is moved in a commit of its own, which takes `more` along. */
  met(table: Table, key: string, bytes: Buffer, more: readonly Change[]): void {
    const id = `${table} ${key}`;
    // Named before: then it is on its way out already.
    if (this.#named.has(id)) return;
    this.#name(table, key);
    this.commit([...this.#move(table, key, bytes), ...more])
      .then(() => this.#forgetOldest())
      .catch((error: unknown) => {
        this.#named.delete(id);
        this.#notMoved(error);
      });
  }

  /** Moves those that were found at the start. False where the disk does not let it: they stay where they are for now. */
  async moveAll(found: readonly (readonly [Table, string])[]): Promise<boolean> {
    for (const [table, key] of found) this.#name(table, key);
    try {
      for (let at = 0; at < found.length; at += BATCH) {
        await this.commit(
          found.slice(at, at + BATCH).flatMap(([table, key]) => {
            const bytes = this.journal.get(table, key);
            return bytes === undefined ? [] : this.#move(table, key, bytes);
          }),
        );
        await this.#forgetOldest();
      }
      return true;
    } catch (error) {
      this.#named.clear();
      this.#notMoved(error);
      return false;
    }
  }

  #name(table: Table, key: string): void {
    this.#named.add(`${table} ${key}`);
    const text = 'a record of the journal fails its checksum and is put aside; all others are kept';
    this.log.error('journal.torn', text, { table, key });
  }

  #notMoved(error: unknown): void {
    this.log.error('journal.write_failed', 'torn records could not be moved out of the queue', { error });
  }

  #move(table: Table, key: string, bytes: Buffer): readonly Change[] {
    return [
      { table, key, value: undefined },
      { table: 'torn', key: `${padded(this.clock.now())}/${table}/${key}`, value: bytes },
    ];
  }

  async #forgetOldest(): Promise<void> {
    const excess = this.count - MOST_KEPT;
    if (excess <= 0) return;
    const oldest = [...this.journal.range('torn', { after: '', before: END, limit: excess })];
    await this.commit(oldest.map(([key]) => ({ table: 'torn', key, value: undefined })));
    this.log.warn('torn.pruned', 'torn records were thrown away: only the newest are kept', { count: oldest.length });
  }
}
