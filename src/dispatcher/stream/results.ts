/**
 * The results that come on a stream: counted against the window they were promised, checked, and made whole when their
 * bodies have come. A completion is one with all its results: it is whole when all of them are, and refused as one.
 */
import type { Result } from '../../../protocol/generated/stream.js';
import { INLINE_LIMIT, type SummedContent } from '../../message/record.js';
import { resultFromData } from '../codec.js';
import type { DispatchLimits, DispatchStore } from '../ports.js';
import type { HandedResult } from './books.js';
import type { Arrival, IncomingBodies } from './incoming.js';
import { withItem } from '../../signal/short-list.js';
import { SlotTable } from '../../signal/slot-table.js';
import { Violation } from './violation.js';
import { Window, type Load, type WindowLimits } from './window.js';

/** Of more, the numbers are looked up: a frame may hold half a million, and each would be held against all before it. */
const FEW = 16;

/** Results that came together, and take effect together. */
export interface Batch extends Load {
  /** As they came. */
  readonly given: readonly Result[];
  /** Those with a body have an empty content until it has come. */
  results: HandedResult[];
  /** Numbers whose bodies are on the way. */
  readonly missing: Set<number>;
  /** Gives back the room that was kept in the spool. */
  readonly release: () => void;
}

/** Why none of it is taken. */
export interface Declined {
  readonly kind: 'declined';
  readonly number: number;
  /** The same again may be taken later. */
  readonly isPassing: boolean;
  readonly reason: string;
}

export interface ResultsOptions {
  readonly limits: WindowLimits;
  readonly checks: Pick<DispatchLimits, 'resultSize' | 'metadataSize'>;
  readonly store: Pick<DispatchStore, 'reserve' | 'discardContentFile'>;
  readonly bodies: IncomingBodies;
}

const KEPT_NOTHING = (): void => undefined;

/** Never changed: of batches without bodies. */
const NONE = new Set<number>();

const NOTHING: Batch = {
  messages: 0,
  bytes: 0,
  bodies: 0,
  given: [],
  results: [],
  missing: NONE,
  release: KEPT_NOTHING,
};

export class Results {
  readonly #window: Window;
  /** Numbers of results that are not settled. */
  readonly #numbers = new SlotTable<Batch>();
  /** Batches whose bodies are on the way, or that wait for those before them. */
  readonly #begun = new Set<Batch>();

  constructor(private readonly options: ResultsOptions) {
    this.#window = new Window(options.limits);
  }

  /** None is in flight. */
  get isIdle(): boolean {
    return this.#window.messages === 0;
  }

  /** Takes results without bodies into the window: for `handOver` or `discard` in the same turn. Throws a Violation. */
  take(results: readonly Result[]): Batch | Declined {
    if (results.length === 0) return NOTHING;
    const load = this.#admitted(results);
    const handed = this.#check(results);
    return 'kind' in handed ? handed : this.#batch(load, results, handed, NONE, KEPT_NOTHING);
  }

  /**
   * Takes results into the window. Once, and not in this turn, one of the two is called if bodies are missing: `whole`,
   * or `broken` when one cannot come; then the batch has ended. Throws a Violation.
   */
  begin(results: readonly Result[], whole: () => void, broken: (declined: Declined) => void): Batch | Declined {
    if (results.length === 0) return NOTHING;
    const load = this.#admitted(results);
    const handed = this.#check(results);
    if ('kind' in handed) return this.#declineAll(results, handed);
    const room = load.bodies === 0 ? KEPT_NOTHING : this.options.store.reserve(bodyBytes(results));
    if (room === undefined) {
      const number = results.find(({ body }) => body !== undefined)?.number ?? 0;
      const reason = 'the agent’s spool is full: keep the result and send it again later';
      return this.#declineAll(results, { kind: 'declined', number, isPassing: true, reason });
    }
    const batch = this.#batch(load, results, handed, new Set(), room);
    this.#begun.add(batch);
    for (const [index, { number, body }] of results.entries()) {
      if (body === undefined) continue;
      batch.missing.add(number);
      this.options.bodies.expect(number, Number(body.size), (arrival) => {
        const problem = this.#arrived(batch, index, number, arrival);
        if (problem !== undefined) broken(problem);
        else if (batch.missing.size === 0) whole();
      });
    }
    return batch;
  }

  #admitted(results: readonly Result[]): Load {
    const load = loadOf(results);
    if (this.#window.roomFor(load) === 'here') return load;
    throw new Violation('more results are in flight than the window of Welcome allows');
  }

  #batch(
    load: Load,
    results: readonly Result[],
    handed: HandedResult[],
    missing: Set<number>,
    release: () => void,
  ): Batch {
    const { messages, bytes, bodies } = load;
    const batch: Batch = { messages, bytes, bodies, given: results, results: handed, missing, release };
    for (const { number } of results) this.#numbers.add(number, batch);
    this.#window.take(batch);
    return batch;
  }

  /** They are durable: their numbers and their room are free. */
  end(batch: Batch): void {
    if (batch === NOTHING) return;
    this.#begun.delete(batch);
    for (const { number } of batch.given) this.#numbers.delete(number);
    this.#window.give(batch);
    batch.release();
  }

  /** None of them is taken: as `end`, and their bodies go. */
  discard(batch: Batch): void {
    if (batch === NOTHING) return;
    this.end(batch);
    for (const number of batch.missing) this.options.bodies.stop(number);
    batch.missing.clear();
    for (const { content } of batch.results) this.#forget(content);
    batch.results = [];
  }

  /** The stream has ended: what has not taken effect will not. */
  close(): void {
    for (const batch of [...this.#begun]) {
      batch.missing.clear();
      this.discard(batch);
    }
  }

  /** The batch takes effect now: the store has its files from here on. */
  handOver(batch: Batch): void {
    this.#begun.delete(batch);
  }

  #arrived(batch: Batch, index: number, number: number, arrival: Arrival): Declined | undefined {
    batch.missing.delete(number);
    if (arrival.kind === 'broken') {
      this.discard(batch);
      return { kind: 'declined', number, isPassing: true, reason: arrival.reason };
    }
    const result = batch.results[index];
    if (result !== undefined) batch.results[index] = { ...result, content: arrival.content };
    return undefined;
  }

  #check(results: readonly Result[]): HandedResult[] | Declined {
    let handed: HandedResult[] | undefined;
    const numbers = results.length > FEW ? new Set<number>() : undefined;
    for (let index = 0; index < results.length; index++) {
      const { number, data, body } = results[index] ?? NO_RESULT;
      if (data === undefined) throw new Violation(`the result ${number} has no data`);
      const isTwice = numbers?.has(number) ?? isAmong(results, number, index);
      numbers?.add(number);
      if (isTwice || this.#numbers.get(number) !== undefined) {
        throw new Violation(`the number ${number} is that of another result in flight`);
      }
      if (data.content.length > INLINE_LIMIT) {
        throw new Violation(`a content of more than ${INLINE_LIMIT} bytes stands in a frame: it must go as a body`);
      }
      if (body !== undefined && data.content.length > 0) throw new Violation(`the result ${number} has two contents`);
      const result = resultFromData(data, this.options.checks, body && Number(body.size));
      if (result.kind === 'refused') return { kind: 'declined', number, isPassing: false, reason: result.reason };
      handed = withItem(handed, result);
    }
    return handed ?? [];
  }

  #declineAll(results: readonly Result[], declined: Declined): Declined {
    for (const { number, body } of results) if (body !== undefined) this.options.bodies.stop(number);
    return declined;
  }

  #forget(content: Buffer | SummedContent): void {
    if (Buffer.isBuffer(content)) return;
    // What cannot be removed now is removed at the next start: no record names it.
    this.options.store.discardContentFile(content.path).catch(() => undefined);
  }
}

const NO_RESULT: Result = { number: 0, data: undefined, body: undefined };

/** Whether one of those before `end` has this number. */
function isAmong(results: readonly Result[], number: number, end: number): boolean {
  for (let index = 0; index < end; index++) if (results[index]?.number === number) return true;
  return false;
}

/** What results take of the window. */
export function loadOf(results: readonly Result[]): Load {
  let bytes = 0;
  let bodies = 0;
  for (const { data, body } of results) {
    bytes += data?.content.length ?? 0;
    if (body !== undefined) bodies += 1;
  }
  return { messages: results.length, bytes, bodies };
}

function bodyBytes(results: readonly Result[]): number {
  return results.reduce((bytes, { body }) => bytes + Number(body?.size ?? 0n), 0);
}
