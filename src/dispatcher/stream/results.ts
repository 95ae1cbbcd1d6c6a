/**
 * The results that come on a stream: counted against the window they were promised, checked, and put in order. A
 * completion is one with all its results; those outside take the lane of the message they answer while it is in flight.
 */
import type { Result } from '../../../protocol/generated/stream.js';
import { INLINE_LIMIT } from '../../message/record.js';
import { resultFromData, type ReceivedResult } from '../codec.js';
import type { DispatchLimits } from '../ports.js';
import { Violation } from './violation.js';
import { Window, type Load, type WindowLimits } from './window.js';

/** Results that came together, and take effect together. */
export interface Batch {
  readonly load: Load;
  readonly numbers: readonly number[];
  readonly results: readonly ReceivedResult[];
}

/** One of them can never be taken. */
export interface Malformed {
  readonly kind: 'malformed';
  readonly number: number;
  readonly reason: string;
}

const NOTHING: Batch = { load: { messages: 0, bytes: 0, bodies: 0 }, numbers: [], results: [] };

export class Results {
  readonly #window: Window;
  /** Numbers of results that are not settled. */
  readonly #numbers = new Set<number>();

  constructor(
    limits: WindowLimits,
    private readonly checks: Pick<DispatchLimits, 'resultSize' | 'metadataSize'>,
  ) {
    this.#window = new Window(limits);
  }

  /** Takes results into the window. Throws a Violation when they do not fit, or break another rule. */
  begin(results: readonly Result[]): Batch | Malformed {
    if (results.length === 0) return NOTHING;
    const load = loadOf(results);
    if (this.#window.roomFor(load) !== 'here') {
      throw new Violation('more results are in flight than the window of Welcome allows');
    }
    const received: ReceivedResult[] = [];
    for (const { number, data, body } of results) {
      if (data === undefined) throw new Violation(`the result ${number} has no data`);
      if (this.#numbers.has(number) || results.some((other) => other.number === number && other.data !== data)) {
        throw new Violation(`the number ${number} is that of another result in flight`);
      }
      if (body !== undefined) throw new Violation('bodies are not carried yet');
      if (data.content.length > INLINE_LIMIT) {
        throw new Violation(`a content of more than ${INLINE_LIMIT} bytes stands in a frame: it must go as a body`);
      }
      const result = resultFromData(data, this.checks);
      if (result.kind === 'refused') return { kind: 'malformed', number, reason: result.reason };
      received.push(result);
    }
    const numbers = results.map(({ number }) => number);
    for (const number of numbers) this.#numbers.add(number);
    this.#window.take(load);
    return { load, numbers, results: received };
  }

  /** They are durable, or refused: their numbers and their room are free. */
  end(batch: Batch): void {
    for (const number of batch.numbers) this.#numbers.delete(number);
    this.#window.give(batch.load);
  }
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
