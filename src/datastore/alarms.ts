/**
 * Wall times at which a record wants attention: it is due again, or its time is over. They live in the journal, in
 * order of time, so a million of them cost no memory; one timer waits for the first. When the wall clock goes back, times
 * that were meant to come soon are far away: every back-off then ends at once, and what expires keeps its time.
 */
import type { MessageKey } from '../message/index.js';
import type { Change } from './journal.js';
import { END } from './journal.js';
import { padded } from './keys.js';
import type { Ledger } from './ledger.js';
import type { Millis } from '../time.js';

/** A wall clock may be stepped; the timer looks again at least this often. */
const LONGEST_WAIT_MS = 30_000;
/** A record whose commit is under way is asked again after this. */
const AGAIN_MS = 1_000;
const BATCH = 256;
/** Less than this is no step of the wall clock, only the two clocks read one after the other. */
const SMALLEST_STEP: Millis = 2_000;

export interface AlarmPorts {
  /** The alarm of this record has come. False when it has to ring again a little later. */
  ring(recordKey: string): boolean;
  /** Ends the back-off of this record, if it is in one. */
  wake(recordKey: string): void;
}

export class Alarms {
  /** Aborted and replaced whenever an earlier alarm is set. */
  #timer: AbortController | undefined;
  /** When it fires, in monotonic time: a step of the wall clock must not make a late look seem an early one. */
  #nextAt: Millis = Infinity;
  #scope: AbortSignal = AbortSignal.abort();
  /** The most that wall time was ahead of monotonic time when an alarm was set or looked for. */
  #lead = -Infinity;

  constructor(
    private readonly ledger: Ledger,
    private readonly ports: AlarmPorts,
  ) {}

  start(scope: AbortSignal): void {
    this.#scope = scope;
    // Not AbortSignal.any for each timer: Node 20 keeps something of each as long as the scope lives.
    scope.addEventListener('abort', () => this.#timer?.abort(), { once: true });
    this.#look();
  }

  /** The change that sets an alarm. Whoever has committed it calls `arm`. */
  set(at: number, key: MessageKey, recordKey: string): Change {
    this.#lead = Math.max(this.#lead, this.#leadNow());
    return { table: 'alarms', key: alarmKey(at, key), value: Buffer.from(recordKey) };
  }

  /** An alarm at `at` is in the journal now: not before that, since a look that comes too early finds nothing. */
  arm(at: number): void {
    const { clock } = this.ledger;
    const delay = Math.min(Math.max(0, at - clock.now()), LONGEST_WAIT_MS);
    if (clock.monotonic() + delay < this.#nextAt) this.#wait(delay);
  }

  clear(at: number, key: MessageKey): Change {
    return { table: 'alarms', key: alarmKey(at, key), value: undefined };
  }

  /** Whether this alarm has still to ring. */
  isSet(at: number, key: MessageKey): boolean {
    return this.ledger.get('alarms', alarmKey(at, key)) !== undefined;
  }

  #leadNow(): Millis {
    return this.ledger.clock.now() - this.ledger.clock.monotonic();
  }

  #wait(delay: Millis): void {
    this.#timer?.abort();
    if (this.#scope.aborted) return;
    this.#nextAt = this.ledger.clock.monotonic() + delay;
    const timer = new AbortController();
    this.#timer = timer;
    this.ledger.clock.after(delay, () => this.#look(), timer.signal);
  }

  #look(): void {
    if (this.#scope.aborted) return;
    this.#nextAt = Infinity;
    try {
      if (this.#hasGoneBack()) this.#wakeAll(`${padded(this.ledger.clock.now())}/`);
      this.#ringAll();
    } catch (error) {
      this.#failed(error);
    }
  }

  #hasGoneBack(): boolean {
    const lead = this.#leadNow();
    const hasGoneBack = lead < this.#lead - SMALLEST_STEP;
    this.#lead = hasGoneBack ? lead : Math.max(this.#lead, lead);
    return hasGoneBack;
  }

  /** Ends the back-offs behind `after`, a part in each turn. Those that begin meanwhile may be among them. */
  #wakeAll(after: string): void {
    let last: string | undefined;
    for (const [key, value] of this.ledger.journal.range('alarms', { after, before: END, limit: BATCH })) {
      last = key;
      this.ports.wake(value.toString());
    }
    if (last === undefined) return;
    const next = last;
    const goOn = (): void => {
      try {
        this.#wakeAll(next);
      } catch (error) {
        this.#failed(error);
      }
    };
    this.ledger.clock.after(0, goOn, this.#scope);
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
      const isHeard = this.ledger.latest('alarms', key, value) === undefined || this.ports.ring(value.toString());
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
