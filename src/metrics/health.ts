/**
 * The answers of `/healthz` and `/readyz`. Alive: the event loop answers and the
 * journal can be written, once it was opened. Ready: what
 * must be open is open, too; the broker's state is told with it and is no part of it, since messages from workers are
 * safe without. The journal is written at most once a second, however often somebody asks.
 */
import { errorText } from '../errors.js';
import type { Clock, Millis } from '../time.js';
import type { HealthDesk, Verdict } from './ports.js';

const PROBE_EVERY: Millis = 1_000;
/** A disk that takes longer takes nothing. */
const PROBE_WITHIN: Millis = 5_000;

const GOOD: Verdict = { isGood: true, reasons: [] };

/** A body of `/healthz` or `/readyz`, and its status. */
export interface HealthAnswer {
  readonly status: 200 | 503;
  readonly body: object;
}

export class Health {
  /** The last look at the journal, or the one under way. */
  #probe: { readonly at: Millis; readonly verdict: Promise<Verdict> } | undefined;

  constructor(
    private readonly desk: Pick<HealthDesk, 'probe' | 'progress' | 'broker'>,
    private readonly clock: Pick<Clock, 'monotonic' | 'after'>,
  ) {}

  async alive(): Promise<HealthAnswer> {
    const { isJournalOpen, reasons: missing } = this.desk.progress();
    // To open a large one takes its time, and nobody shall end the agent for it.
    if (!isJournalOpen) return { status: 200, body: { status: 'starting', reasons: missing } };
    const { isGood, reasons } = await this.#journal();
    return { status: isGood ? 200 : 503, body: { status: isGood ? 'alive' : 'failing', reasons } };
  }

  async ready(): Promise<HealthAnswer> {
    const progress = this.desk.progress();
    // What is not open cannot be written: that says nothing new.
    const journal = progress.isGood ? await this.#journal() : GOOD;
    const reasons = [...progress.reasons, ...journal.reasons];
    const isGood = progress.isGood && journal.isGood;
    const { state, broker, reason } = this.desk.broker();
    return {
      status: isGood ? 200 : 503,
      body: { status: isGood ? 'ready' : 'not ready', reasons, connection: { state, broker, reason } },
    };
  }

  #journal(): Promise<Verdict> {
    const now = this.clock.monotonic();
    if (this.#probe === undefined || now - this.#probe.at >= PROBE_EVERY) {
      this.#probe = { at: now, verdict: this.#look() };
    }
    return this.#probe.verdict;
  }

  async #look(): Promise<Verdict> {
    const timer = new AbortController();
    const late = new Promise<Verdict>((resolve) => {
      const text = `the journal took no write within ${PROBE_WITHIN / 1000} s`;
      this.clock.after(PROBE_WITHIN, () => resolve({ isGood: false, reasons: [text] }), timer.signal);
    });
    const written = this.desk.probe().then(
      () => GOOD,
      (error: unknown): Verdict => ({ isGood: false, reasons: [errorText(error)] }),
    );
    const verdict = await Promise.race([written, late]);
    timer.abort();
    return verdict;
  }
}
