/**
 * What became of a message, while the journal does not know it yet. The message has left memory; should the commit
 * fail, it is tried again until it is through, lest the message vanish until the next start. Whoever hands messages out
 * stops while anything is late, so no more is kept here than was in flight when the disk failed.
 */
import type { MessageKey } from '../message/index.js';
import { SlotTable } from '../signal/index.js';
import type { Clock, Millis } from '../time.js';
import { inThisTurn } from './promises.js';
import type { Settler } from './transactions.js';

const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 30_000;

/** What became of one message, and who is told of the first try: an object, since there are two for every message. */
class Entry implements Settler {
  /** Those who want to know when it is through. */
  waiting: readonly (() => void)[];

  constructor(
    private readonly port: EntryPort,
    readonly key: MessageKey,
    /** `end`: its first end was asked for, and there is no other. `wait`: an end may still take its place. */
    readonly kind: 'end' | 'wait',
    readonly commit: Commit,
    private readonly settler: Settler,
    waiting: readonly (() => void)[],
  ) {
    this.waiting = waiting;
  }

  done(): void {
    this.port.done(this);
    this.settler.done();
  }

  failed(error: unknown): void {
    this.port.failed(this);
    this.settler.failed(error);
  }
}

/** Is told how the first try went, before anybody else. */
interface EntryPort {
  done(entry: Entry): void;
  failed(entry: Entry): void;
}

/** What has to be committed, if need be several times, one after the other. */
export interface Commit {
  /** Begins a try in this turn; what it throws is a failure of it. */
  begin(settler: Settler): void;
}

/** None, for nearly every message. */
const NOBODY: readonly (() => void)[] = [];

export class Unrecorded {
  readonly #entries = new SlotTable<Entry>();
  /** Those whose commit has failed, in the order they failed. */
  readonly #late = new Map<MessageKey, Entry>();
  #delay: Millis = FIRST_RETRY_MS;
  /** One try at a time: a change that is committed twice would be counted twice. */
  #isRetrySet = false;
  #scope: AbortSignal = AbortSignal.abort();
  readonly #port: EntryPort = {
    done: (entry) => this.#done(entry),
    failed: (entry) => {
      if (this.#entries.get(entry.key) !== entry) return;
      this.#late.set(entry.key, entry);
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
    this.#entries.clear();
    this.#late.clear();
  }

  /** Whether the journal could not be written and still owes something. */
  get isLate(): boolean {
    return this.#late.size > 0;
  }

  has(key: MessageKey): boolean {
    return this.#entries.get(key) !== undefined;
  }

  isEnding(key: MessageKey): boolean {
    return this.#entries.get(key)?.kind === 'end';
  }

  /** Resolves when the journal knows what became of the message. */
  recorded(key: MessageKey): Promise<void> {
    const entry = this.#entries.get(key);
    if (entry === undefined) return Promise.resolve();
    return new Promise((resolve) => (entry.waiting = [...entry.waiting, resolve]));
  }

  /** Runs `commit`, in this turn. Rejects when it fails; it is then tried again all the same. */
  record(key: MessageKey, kind: Entry['kind'], commit: () => Promise<void>): Promise<void> {
    return new Promise((done, failed) => this.enlist(key, kind, settledBy(commit), { done, failed }));
  }

  /** As `record`, for what comes with every message: `settler` is told how the first try went. */
  enlist(key: MessageKey, kind: Entry['kind'], commit: Commit, settler: Settler): void {
    const before = this.#entries.get(key);
    if (before !== undefined) this.#entries.delete(key);
    const entry = new Entry(this.#port, key, kind, commit, settler, before?.waiting ?? NOBODY);
    this.#entries.add(key, entry);
    if (this.#late.size > 0) this.#late.delete(key);
    begin(commit, entry);
  }

  #done(entry: Entry): void {
    const { key } = entry;
    if (this.#entries.get(key) === entry) {
      this.#entries.delete(key);
      for (const wake of entry.waiting) wake();
    }
    if (this.#late.size > 0 && this.#late.get(key) === entry) this.#late.delete(key);
  }

  #retryLater(): void {
    if (this.#isRetrySet) return;
    this.#isRetrySet = true;
    this.clock.after(this.#delay, () => void this.#retry(), this.#scope);
  }

  async #retry(): Promise<void> {
    for (const entry of this.#late.values()) {
      try {
        await new Promise<void>((done, failed) => begin(entry.commit, { done, failed }));
      } catch {
        // Told when it failed first; a disk that is still full is no news.
        this.#delay = Math.min(LONGEST_RETRY_MS, this.#delay * 2);
        this.#isRetrySet = false;
        this.#retryLater();
        return;
      }
      this.#done(entry);
    }
    this.#delay = FIRST_RETRY_MS;
    this.#isRetrySet = false;
    this.caughtUp();
  }
}

/** A commit that has a promise of its own. */
export function settledBy(commit: () => Promise<void>): Commit {
  return {
    begin: (settler) =>
      void inThisTurn(commit).then(
        () => settler.done(),
        (error: unknown) => settler.failed(error),
      ),
  };
}

function begin(commit: Commit, settler: Settler): void {
  try {
    commit.begin(settler);
  } catch (error) {
    settler.failed(error);
  }
}
