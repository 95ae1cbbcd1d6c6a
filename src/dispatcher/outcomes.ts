/**
 * Writes down what became of a message and tells of it once that is durable. What is under way is kept, so that a drain
 * can wait for it; what fails is told once, and the store tries again.
 */
import { crashPoint } from '../crash-point.js';
import { errorText } from '../errors.js';
import type { InboundRecord } from '../message/record.js';
import { fullJitter } from '../time.js';
import type { QueueOptions } from './flight.js';
import { RETRY } from './plan.js';
import type { Outcome } from './ports.js';

const DELIVERED: Outcome = { kind: 'delivered' };

export class Outcomes {
  #underWay = 0;
  readonly #whenWritten: (() => void)[] = [];

  constructor(private readonly options: Pick<QueueOptions, 'store' | 'clock' | 'random' | 'log' | 'onOutcome'>) {}

  delivered(record: InboundRecord): void {
    this.track(this.#deliver(record));
  }

  /** The end of a message is being committed already, together with its results: `written` or `unwritten` follows. */
  begun(): void {
    this.#underWay += 1;
  }

  /** It has ended as delivered. */
  written(record: InboundRecord): void {
    this.options.onOutcome(record.key, DELIVERED);
    this.#done();
  }

  unwritten(error: unknown): void {
    this.options.log.error(
      'dispatcher.journal_failed',
      `what became of a message could not be written yet, the store tries again: ${errorText(error)}`,
    );
    this.#done();
  }

  cancelled(record: InboundRecord): void {
    this.track(this.#giveUp(record));
  }

  retry(record: InboundRecord): void {
    this.track(this.#retry(record));
  }

  dead(record: InboundRecord, failure: { readonly code: 'too-large' | 'worker-failed'; readonly text: string }): void {
    this.track(this.#bury(record, failure));
  }

  /** Counts a write until it is done. */
  track(work: Promise<void>): void {
    this.#underWay += 1;
    work.then(
      () => this.#done(),
      (error: unknown) => this.unwritten(error),
    );
  }

  /** Resolves when nothing is under way. */
  async allWritten(): Promise<void> {
    while (this.#underWay > 0) await new Promise<void>((resolve) => this.#whenWritten.push(resolve));
  }

  #done(): void {
    this.#underWay -= 1;
    if (this.#underWay === 0) for (const wake of this.#whenWritten.splice(0)) wake();
  }

  async #deliver(record: InboundRecord): Promise<void> {
    if (!(await this.options.store.delivered(record.key))) return;
    FAULT: crashPoint('dispatch.delivered');
    this.options.onOutcome(record.key, DELIVERED);
  }

  async #giveUp(record: InboundRecord): Promise<void> {
    const text = 'the message was cancelled, and its worker gave it up';
    const ended = await this.options.store.end(record.key, 'cancelled', { code: 'cancelled', text });
    if (ended.kind === 'ended') this.options.onOutcome(record.key, { kind: 'cancelled', answer: ended.answer });
  }

  async #retry(record: InboundRecord): Promise<void> {
    const { store, clock, random, log } = this.options;
    if (store.inbound(record.key) === undefined) return;
    const dueAt = clock.now() + Math.min(RETRY.cap, RETRY.first + fullJitter(RETRY, record.attempts, random));
    log.info('dispatcher.retry', 'a message failed and will be tried again', {
      key: record.key,
      messageId: record.messageId,
      attempt: record.attempts + 1,
      in: dueAt - clock.now(),
    });
    await store.failedAttempt(record.key, dueAt);
    this.options.onOutcome(record.key, { kind: 'retry', dueAt });
  }

  async #bury(
    record: InboundRecord,
    failure: { readonly code: 'too-large' | 'worker-failed'; readonly text: string },
  ): Promise<void> {
    const ended = await this.options.store.end(record.key, 'dead', failure);
    if (ended.kind === 'already-ended') return;
    this.options.log.warn('dispatcher.dead', `a message was given up: ${failure.text}`, {
      key: record.key,
      messageId: record.messageId,
      code: failure.code,
    });
    this.options.onOutcome(record.key, { kind: 'dead', answer: ended.answer });
  }
}
