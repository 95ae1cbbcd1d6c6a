/**
 * Which protocol version each broker is met with under `auto`: 5 first; 3.1.1 after the broker refused 5 or closed two
 * connections in a row before its CONNACK; 5 again after a day, since brokers are updated. Kept in memory only.
 */
import type { Millis } from '../time.js';

export type ProtocolVersion = '5' | '3.1.1';
export type VersionPolicy = 'auto' | ProtocolVersion;

const FALL_BACK_FOR: Millis = 24 * 3_600_000;
const CLOSES_THAT_MEAN_NO = 2;

interface Memory {
  /** Until when (monotonic) this broker is met with 3.1.1; undefined: with 5. */
  fallBackUntil: Millis | undefined;
  /** Closes before a CONNACK, in a row, with the version in use. */
  closes: number;
}

/** What an attempt says about the version: the broker refused it, closed before its CONNACK, answered, or nothing. */
export type VersionEvidence = 'refused' | 'closed-early' | 'answered' | 'none';

export class VersionMemory {
  readonly #brokers = new Map<string, Memory>();

  constructor(
    private readonly policy: VersionPolicy,
    private readonly monotonic: () => Millis,
  ) {}

  /** The version for the next attempt at this broker. */
  next(broker: string): ProtocolVersion {
    if (this.policy !== 'auto') return this.policy;
    return this.#isFallenBack(this.#of(broker)) ? '3.1.1' : '5';
  }

  /** Notes how an attempt went; true when another version should be tried at once. */
  learn(broker: string, evidence: VersionEvidence): boolean {
    if (this.policy !== 'auto' || evidence === 'none') return false;
    const memory = this.#of(broker);
    if (evidence === 'answered') {
      memory.closes = 0;
      return false;
    }
    if (evidence === 'closed-early') {
      memory.closes += 1;
      if (memory.closes < CLOSES_THAT_MEAN_NO) return false;
    }
    memory.closes = 0;
    const wasFallenBack = this.#isFallenBack(memory);
    memory.fallBackUntil = wasFallenBack ? undefined : this.monotonic() + FALL_BACK_FOR;
    // From 3.1.1 back to 5 there is no haste: 5 was refused before, and the two must not chase each other.
    return !wasFallenBack;
  }

  #of(broker: string): Memory {
    const known = this.#brokers.get(broker);
    if (known !== undefined) return known;
    const fresh: Memory = { fallBackUntil: undefined, closes: 0 };
    this.#brokers.set(broker, fresh);
    return fresh;
  }

  #isFallenBack(memory: Memory): boolean {
    return memory.fallBackUntil !== undefined && this.monotonic() < memory.fallBackUntil;
  }
}
