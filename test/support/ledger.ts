/**
 * The ledger of a fault run: what each end did with each message and when, and when harm was done. From it comes the
 * verdict: what was promised and has no end, and what was done twice without a harm that excuses it (CONTRACT section
 * 1: at least once, and a second time only where a kill or a cut fell between the deed and its record).
 */
import assert from 'node:assert/strict';
import { readBook } from './book-worker.js';
import type { Heard, Operator } from './operator.js';
import type { Home } from './yggd.js';

/**
 * `sent` handed to the broker, `taken` acknowledged by the broker to the sender, `acknowledged` by the agent to the
 * broker, `handled` begun by the worker, `returned` the worker's result was taken by the agent, `published` the answer
 * came over the broker, `posted` it came to a web server, `refused` the answer was an error answer.
 */
export type Deed = 'sent' | 'taken' | 'acknowledged' | 'handled' | 'returned' | 'published' | 'posted' | 'refused';

export type Harm = 'agent' | 'worker' | 'broker' | 'link' | 'stop';

export interface Twice {
  readonly deed: Deed;
  readonly id: string;
  /** The earlier time, from its begin to when it was done (or to the repetition, if it never was). */
  readonly began: number;
  readonly ended: number;
  readonly again: number;
}

export interface Verdict {
  readonly messages: number;
  /** Promised, and without an end. */
  readonly lost: readonly string[];
  /** Done again for a reason the contract names. */
  readonly duplicated: readonly Twice[];
  /** Done again, and nothing excuses it. */
  readonly unexplained: readonly Twice[];
}

/** Milliseconds of the machine's monotonic clock, the same in every process of it. */
export function machineTime(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/**
 * How long after a deed a harm may still undo its record: the record rides with the next commit (2 ms), whose sync may
 * take its time on a busy machine.
 */
const GRACE_MS = 1_000;
/** An answer is heard a little after it was sent. */
const SEEN_LATE_MS = 200;

export class Ledger {
  readonly #deeds = new Map<Deed, Map<string, number[]>>();
  readonly #harms: { readonly kind: Harm; readonly from: number; readonly to: number }[] = [];

  /** Notes a deed; `at` in machine time, by default now. */
  note(deed: Deed, id: string, at: number = machineTime()): void {
    const ids = this.#deeds.get(deed) ?? new Map<string, number[]>();
    this.#deeds.set(deed, ids);
    const times = ids.get(id);
    if (times === undefined) ids.set(id, [at]);
    else times.push(at);
  }

  /** Runs what does harm and notes from when to when it did. */
  async harm<T>(kind: Harm, work: () => Promise<T>): Promise<T> {
    const from = machineTime();
    try {
      return await work();
    } finally {
      this.#harms.push({ kind, from, to: machineTime() });
    }
  }

  ids(deed: Deed): readonly string[] {
    return [...(this.#deeds.get(deed)?.keys() ?? [])];
  }

  /** When the deed was done to this message, in order. */
  times(deed: Deed, id: string): readonly number[] {
    return this.#deeds.get(deed)?.get(id) ?? [];
  }

  /**
   * Judges. `promised` is what obliges the agent: by default that the broker took the message (its session is kept);
   * `acknowledged` where the broker itself may forget.
   */
  verdict(promised: 'taken' | 'acknowledged' = 'taken'): Verdict {
    const ends: readonly Deed[] = ['published', 'posted', 'refused'];
    const ids = this.ids(promised);
    const lost = ids.filter((id) => ends.every((deed) => this.times(deed, id).length === 0));
    const twice = [...this.#again('handled', 'returned'), ...this.#again('published'), ...this.#again('posted')];
    return {
      messages: ids.length,
      lost,
      duplicated: twice.filter((each) => this.#isExcused(each)),
      unexplained: twice.filter((each) => !this.#isExcused(each)),
    };
  }

  /** The verdict, which must be that nothing is lost and every second time is excused. */
  assertSound(promised?: 'taken' | 'acknowledged'): Verdict {
    const verdict = this.verdict(promised);
    assert.deepEqual(verdict.lost, [], 'promised, and never answered');
    const unexplained = verdict.unexplained.map((twice) => ({ ...twice, harms: this.#harmsAround(twice) }));
    assert.deepEqual(unexplained, [], 'done twice, and no harm excuses it');
    return verdict;
  }

  /** Each repetition of a deed; it counts as under way until `done`, where there is such a deed. */
  #again(deed: Deed, done?: Deed): Twice[] {
    const found: Twice[] = [];
    for (const [id, unsorted] of this.#deeds.get(deed) ?? []) {
      const times = [...unsorted].sort((a, b) => a - b);
      for (const [n, again] of times.slice(1).entries()) {
        const began = times[n] ?? 0;
        const isBetween = (at: number): boolean => at >= began && at < again;
        const ended = done === undefined ? began : (this.times(done, id).find(isBetween) ?? again);
        found.push({ deed, id, began, ended, again });
      }
    }
    return found;
  }

  /** What was done nearby, in milliseconds from the deed: whoever looks for the reason needs it. */
  #harmsAround({ began, again }: Twice): string[] {
    return this.#harms
      .filter(({ from, to }) => from <= again && to >= began - 10_000)
      .map(({ kind, from, to }) => `${kind} ${(from - began).toFixed()} to ${(to - began).toFixed()}`);
  }

  /** A harm fell between the begin of the deed and the moment it was surely on record, and before it was done again. */
  #isExcused({ began, ended, again }: Twice): boolean {
    return this.#harms.some(({ from, to }) => from <= Math.min(ended + GRACE_MS, again) && to >= began - SEEN_LATE_MS);
  }
}

/** Enters what the operator heard: answers, and error answers. */
export function enterHeard(ledger: Ledger, heard: Iterable<Heard>): void {
  for (const { type, response_to: id = '', metadata, at } of heard) {
    if (type !== 'data' || id === '') continue;
    ledger.note(metadata?.['status'] === 'error' ? 'refused' : 'published', id, at);
  }
}

/**
 * Enters what a worker's book says. One that has `returned` lines (see `bookWorker`) tells more exactly when a message
 * was out of the worker's hands. What it `failed`, and so gave back, it has not handled.
 */
export function enterBook(ledger: Ledger, home: Home, worker: string): void {
  const begun = new Map<string, number>();
  const enterBegun = (id: string): void => {
    const at = begun.get(id);
    if (at !== undefined) ledger.note('handled', id, at);
    begun.delete(id);
  };
  for (const { word, id, at } of readBook(home, worker).lines) {
    if (word === 'failed') {
      begun.delete(id);
      continue;
    }
    enterBegun(id);
    if (word === 'handle') begun.set(id, at);
    if (word === 'returned') ledger.note('returned', id, at);
  }
  for (const id of begun.keys()) enterBegun(id);
}

/** Enters both ends. */
export function enter(
  ledger: Ledger,
  { operator, home, worker }: { operator: Operator; home: Home; worker: string },
): void {
  enterHeard(ledger, operator.everything);
  enterBook(ledger, home, worker);
}
