/**
 * Finds the result that makes the broker cut the connection (CONTRACT 1.12): one that was in flight at three cuts goes
 * alone from then on; one that was cut three times while alone is guilty. Acknowledged ones are forgotten. In memory
 * only: after a restart the counting begins anew.
 */
import type { MessageKey } from '../message/index.js';

const CUTS_IN_COMPANY = 3;
const CUTS_ALONE = 3;

interface Record {
  readonly inCompany: number;
  readonly alone: number;
}

export class Suspects {
  readonly #records = new Map<MessageKey, Record>();

  /** Whether this result has to be in flight by itself. */
  mustGoAlone(key: MessageKey): boolean {
    return (this.#records.get(key)?.inCompany ?? 0) >= CUTS_IN_COMPANY;
  }

  /** The connection was cut with these in flight; returns the one that is guilty, if that is known now. */
  cut(inFlight: readonly MessageKey[]): MessageKey | undefined {
    const [only, ...others] = inFlight;
    if (only !== undefined && others.length === 0 && this.mustGoAlone(only)) {
      const record = this.#recordOf(only);
      const alone = record.alone + 1;
      this.#records.set(only, { ...record, alone });
      return alone >= CUTS_ALONE ? only : undefined;
    }
    for (const key of inFlight) {
      const record = this.#recordOf(key);
      this.#records.set(key, { ...record, inCompany: record.inCompany + 1 });
    }
    return undefined;
  }

  /** This result has ended. */
  forget(key: MessageKey): void {
    this.#records.delete(key);
  }

  /** Results that are kept in mind. */
  get size(): number {
    return this.#records.size;
  }

  #recordOf(key: MessageKey): Record {
    return this.#records.get(key) ?? { inCompany: 0, alone: 0 };
  }
}
