/**
 * What became of a message, while the journal does not know it yet. The message has left memory; should the commit
 * fail, it is tried again until it is through, lest the message vanish until the next start. Whoever hands messages out
 * stops while anything is late, so no more is kept here than was in flight when the disk failed.
 */
import type { MessageKey } from '../message/index.js';
import { SlotTable } from '../signal/index.js';
import type { Clock, Millis } from '../time.js';
import { rejected } from './promises.js';
import type { Settler } from './transactions.js';

const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 30_000;

/** What became of one message, to be committed, if need be several times, one after the other. */
export abstract class Outcome<T = unknown> implements Settler {
  /** Those who want to know when it is through: nobody, for nearly every message. */
  waiting: readonly (() => void)[] | undefined;
  /** Is told how each try went, before anybody else. */
  port: OutcomePort | undefined;

  constructor(
    readonly key: MessageKey,
    /** `end`: its first end was asked for, and there is no other. `wait`: an end may still take its place. */
    readonly kind: 'end' | 'wait',
  ) {}

  /** Begins a try in this turn. Calls `done` or `failed`, then settles; what it throws is a failure. */
  abstract begin(): Promise<T>;

  done(): void {
    this.port?.done(this);
  }

  failed(_error: unknown): void {
    this.port?.failed(this);
  }
}

export interface OutcomePort {
  done(outcome: Outcome): void;
  failed(outcome: Outcome): void;
}

/** For what does not come with every message. */
export class Work extends Outcome {
  constructor(
    key: MessageKey,
    kind: Outcome['kind'],
    private readonly commit: () => Promise<void>,
  ) {
    super(key, kind);
  }

  async begin(): Promise<void> {
    try {
      await this.commit();
    } catch (error) {
      this.failed(error);
      throw error;
    }
    this.done();
  }
}

export class Unrecorded {
  readonly #outcomes = new SlotTable<Outcome>();
  /** Those whose commit has failed, in the order they failed. */
  readonly #late = new Map<MessageKey, Outcome>();
  #delay: Millis = FIRST_RETRY_MS;
  /** One try at a time: a change that is committed twice would be counted twice. */
  #isRetrySet = false;
  #scope: AbortSignal = AbortSignal.abort();
  readonly #port: OutcomePort = {
    done: (outcome) => this.#done(outcome),
    failed: (outcome) => {
      if (this.#outcomes.get(outcome.key) !== outcome) return;
      this.#late.set(outcome.key, outcome);
      this.#retryLater();
    },
  };

  /** `caughtUp` is called when the last one that was late is through. */
  constructor(
    private readonly clock: Clock,
    private readonly caughtUp: () => void,
  ) {}

  start(scope: AbortSignal): void {
    this.#scope = scope;
    this.#isRetrySet = false;
    this.#outcomes.clear();
    this.#late.clear();
  }

  /** Whether the journal could not be written and still owes something. */
  get isLate(): boolean {
    return this.#late.size > 0;
  }

  has(key: MessageKey): boolean {
    return this.#outcomes.get(key) !== undefined;
  }

  isEnding(key: MessageKey): boolean {
    return this.#outcomes.get(key)?.kind === 'end';
  }

  /** Resolves when the journal knows what became of the message. */
  recorded(key: MessageKey): Promise<void> {
    const outcome = this.#outcomes.get(key);
    if (outcome === undefined) return Promise.resolve();
    return new Promise((resolve) => (outcome.waiting = [...(outcome.waiting ?? []), resolve]));
  }

  /** Runs `commit`, in this turn. Rejects when it fails; it is then tried again all the same. */
  record(key: MessageKey, kind: Outcome['kind'], commit: () => Promise<void>): Promise<unknown> {
    return this.enlist(new Work(key, kind, commit));
  }

  /** As `record`, for what comes with every message. */
  enlist<T>(outcome: Outcome<T>): Promise<T> {
    const { key } = outcome;
    const before = this.#outcomes.get(key);
    if (before !== undefined) this.#outcomes.delete(key);
    outcome.waiting = before?.waiting;
    outcome.port = this.#port;
    this.#outcomes.add(key, outcome);
    if (this.#late.size > 0) this.#late.delete(key);
    return begun(outcome);
  }

  #done(outcome: Outcome): void {
    const { key, waiting } = outcome;
    if (this.#outcomes.get(key) === outcome) {
      this.#outcomes.delete(key);
      if (waiting !== undefined) for (const wake of waiting) wake();
    }
    if (this.#late.size > 0 && this.#late.get(key) === outcome) this.#late.delete(key);
  }

  #retryLater(): void {
    if (this.#isRetrySet) return;
    this.#isRetrySet = true;
    this.clock.after(this.#delay, () => void this.#retry(), this.#scope);
  }

  async #retry(): Promise<void> {
    for (const outcome of this.#late.values()) {
      try {
        await begun(outcome);
      } catch {
        // Told when it failed first; a disk that is still full is no news.
        this.#delay = Math.min(LONGEST_RETRY_MS, this.#delay * 2);
        this.#isRetrySet = false;
        this.#retryLater();
        return;
      }
    }
    this.#delay = FIRST_RETRY_MS;
    this.#isRetrySet = false;
    this.caughtUp();
  }
}

function begun<T>(outcome: Outcome<T>): Promise<T> {
  try {
    return outcome.begin();
  } catch (error) {
    outcome.failed(error);
    return rejected(error);
  }
}
