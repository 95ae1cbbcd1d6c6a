/**
 * The canonical facts for one who asks for them twice in a moment, as each connection does: for its will and for the
 * `online` that follows it. Reading them asks the name servers, and nothing goes to the broker meanwhile. What was read
 * within the last second is given again, and one reading is enough for all who ask while it is under way.
 */
import type { CanonicalFacts } from '../message/envelope.js';
import type { Millis } from '../time.js';
import { readCanonicalFacts, type FactsOptions } from './canonical-facts.js';

/** A network that comes up is told by the next status all the same. */
const FRESH_FOR: Millis = 1_000;

export class RecentFacts {
  #reading: Promise<CanonicalFacts> | undefined;
  #readAt = Infinity;

  constructor(private readonly options: FactsOptions) {}

  /** As `readCanonicalFacts`: never rejects. */
  read(): Promise<CanonicalFacts> {
    const { clock } = this.options;
    if (this.#reading === undefined || clock.monotonic() - this.#readAt > FRESH_FOR) {
      this.#readAt = Infinity;
      this.#reading = readCanonicalFacts(this.options);
      void this.#reading.then(() => (this.#readAt = clock.monotonic()));
    }
    return this.#reading;
  }
}
