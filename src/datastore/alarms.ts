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
/** A record whose commit is under way is asked again after this. */
const AGAIN_MS = 1_000;
const BATCH = 256;

export class Alarms {
  /** Aborted and replaced whenever an earlier alarm is set. */
  #timer: AbortController | undefined;
  #nextAt = Infinity;
  #scope: AbortSignal = AbortSignal.abort();

  /** `ring` is told the record key of each alarm that has come, once; again a little later when it returns false. */
  constructor(
    private readonly ledger: Ledger,
    private readonly ring: (recordKey: string) => boolean,
  ) {}

  start(scope: AbortSignal): void {
    this.#scope = scope;
    // Not AbortSignal.any for each timer: Node 20 keeps something of each as long as the scope lives.
    scope.addEventListener('abort', () => this.#timer?.abort(), { once: true });
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
    this.ledger.clock.after(delay, () => this.#look(), timer.signal);
  }

  /** Sees to it that the alarm of a record that was found waiting is in the journal. */
  renew(at: number, key: MessageKey, recordKey: string): void {
    if (this.ledger.get('alarms', alarmKey(at, key)) !== undefined) return;
    this.ledger.commit([this.set(at, key, recordKey)]).then(
      () => this.arm(at),
      (error: unknown) => this.#failed(error),
    );
  }

  #look(): void {
    if (this.#scope.aborted) return;
    this.#nextAt = Infinity;
    try {
      this.#ringAll();
    } catch (error) {
      this.#failed(error);
    }
  }

  /** Rings what has come and waits for the next. */
  #ringAll(): void {
    const rung: Change[] = [];
    let come = 0;
    const now = this.ledger.clock.now();
    for (const [key, value] of this.ledger.journal.range('alarms', { after: '', before: END, limit: BATCH })) {
      const at = Number.parseInt(key.slice(0, key.indexOf('/')), 36);
      if (at > now) {
        this.arm(at);
        break;
      }
      come += 1;
      // Still there when it was just cleared, since the journal shows only what is committed.
      const isHeard = this.ledger.latest('alarms', key, value) === undefined || this.ring(value.toString());
      if (isHeard) rung.push({ table: 'alarms', key, value: undefined });
      else this.arm(now + AGAIN_MS);
    }
    if (rung.length === 0) return;
    this.ledger.commit(rung).then(
      // A full batch may have left others behind it, whatever was set since.
      () => {
        if (come === BATCH) this.arm(now);
      },
      (error: unknown) => this.#failed(error),
    );
  }

  #failed(error: unknown): void {
    if (this.#scope.aborted) return;
    this.ledger.log.error(
      'journal.alarms_failed',
      'alarms of the journal could not be seen to; they ring again later',
      {
        error,
      },
    );
    this.arm(this.ledger.clock.now() + LONGEST_WAIT_MS);
  }
}

function alarmKey(at: number, key: MessageKey): string {
  return `${padded(at)}/${padded(key)}`;
}
