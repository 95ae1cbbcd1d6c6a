/**
 * Wall times at which a record wants attention: it is due again, or its time is over. They live in the journal, in
 * order of time, so a million of them cost no memory; one timer waits for the first.
 */
import type { MessageKey } from '../message/index.js';
import type { Change } from './journal.js';
import { END } from './journal.js';
import { padded } from './keys.js';
import type { Ledger } from './ledger.js';

/** A wall clock may be stepped; the timer looks again at least this often. */
const LONGEST_WAIT_MS = 30_000;
const BATCH = 256;

export class Alarms {
  /** Aborted and replaced whenever an earlier alarm is set. */
  #timer: AbortController | undefined;
  #nextAt = Infinity;
  #scope: AbortSignal = AbortSignal.abort();

  /** `ring` is told the record key of each alarm that has come, once. */
  constructor(
    private readonly ledger: Ledger,
    private readonly ring: (recordKey: string) => void,
  ) {}

  start(scope: AbortSignal): void {
    this.#scope = scope;
    this.#look();
  }

  /** The change that sets an alarm. Whoever has committed it calls `arm`. */
  set(at: number, key: MessageKey, recordKey: string): Change {
    return { table: 'alarms', key: alarmKey(at, key), value: Buffer.from(recordKey) };
  }

  /** An alarm at `at` is in the journal now: not before that, since a look that comes too early finds nothing. */
  arm(at: number): void {
    if (at < this.#nextAt) this.#wait(at);
  }

  clear(at: number, key: MessageKey): Change {
    return { table: 'alarms', key: alarmKey(at, key), value: undefined };
  }

  #wait(at: number): void {
    this.#timer?.abort();
    if (this.#scope.aborted) return;
    this.#nextAt = at;
    const timer = new AbortController();
    this.#timer = timer;
    const delay = Math.min(Math.max(0, at - this.ledger.clock.now()), LONGEST_WAIT_MS);
    this.ledger.clock.after(delay, () => this.#look(), AbortSignal.any([this.#scope, timer.signal]));
  }

  /** Rings what has come and waits for the next. */
  #look(): void {
    if (this.#scope.aborted) return;
    this.#nextAt = Infinity;
    const rung: Change[] = [];
    const now = this.ledger.clock.now();
    for (const [key, value] of this.ledger.journal.range('alarms', { after: '', before: END, limit: BATCH })) {
      const at = Number.parseInt(key.slice(0, key.indexOf('/')), 36);
      if (at > now) {
        this.#wait(at);
        break;
      }
      // Still there when it was just cleared, since the journal shows only what is committed.
      if (this.ledger.get('alarms', key) !== undefined) this.ring(value.toString());
      rung.push({ table: 'alarms', key, value: undefined });
    }
    if (rung.length === 0) return;
    this.ledger.commit(rung).then(
      () => {
        if (this.#nextAt === Infinity) this.#look();
      },
      (error: unknown) => {
        this.ledger.log.error(
          'journal.write_failed',
          'alarms could not be taken out of the journal; they ring again later',
          { error },
        );
        this.#wait(now + LONGEST_WAIT_MS);
      },
    );
  }
}

function alarmKey(at: number, key: MessageKey): string {
  return `${padded(at)}/${padded(key)}`;
}
