/**
 * Which messages may have made a worker die or cut its connection, and which did. Both go one at a time: a suspect so
 * that the guilty is found, a guilty one so that it takes no other with it. Only what is live is remembered.
 */
import type { MessageKey } from '../message/ids.js';

/** Cuts with one message alone in flight that count nothing: a worker may restart its server. */
const CUTS_FORGIVEN = 2;

export class Blame {
  readonly #suspects = new Set<MessageKey>();
  /** How often each was cut off while it was alone. */
  readonly #guilty = new Map<MessageKey, number>();

  constructor(private readonly isLive: (key: MessageKey) => boolean) {}

  /** Nobody is suspected or guilty. */
  get isQuiet(): boolean {
    return this.#suspects.size === 0 && this.#guilty.size === 0;
  }

  get hasSuspects(): boolean {
    for (const key of this.#suspects) if (!this.isLive(key)) this.#suspects.delete(key);
    return this.#suspects.size > 0;
  }

  isGuilty(key: MessageKey): boolean {
    return this.#guilty.has(key);
  }

  /** Whether one of them is among those that `has` knows. */
  isAnyGuilty(has: (key: MessageKey) => boolean): boolean {
    for (const key of this.#guilty.keys()) if (has(key)) return true;
    return false;
  }

  suspect(keys: readonly MessageKey[]): void {
    for (const key of keys) this.#suspects.add(key);
  }

  /** One was found, so the others that were in flight with it did nothing. */
  clearSuspects(): void {
    this.#suspects.clear();
  }

  /** The worker died with this message alone. */
  died(key: MessageKey): void {
    this.#convict(key, this.#guilty.get(key) ?? 0);
  }

  /** The worker cut the connection with this message alone; whether that counts as a failed attempt. */
  cut(key: MessageKey): boolean {
    const cuts = (this.#guilty.get(key) ?? 0) + 1;
    this.#convict(key, cuts);
    return cuts > CUTS_FORGIVEN;
  }

  /** The worker answered with an error, so it lived. */
  answered(key: MessageKey): void {
    this.#suspects.delete(key);
  }

  /** It has its receipt, or is dead. */
  forget(key: MessageKey): void {
    if (this.isQuiet) return;
    this.#suspects.delete(key);
    this.#guilty.delete(key);
  }

  #convict(key: MessageKey, cuts: number): void {
    for (const other of this.#guilty.keys()) if (!this.isLive(other)) this.#guilty.delete(other);
    this.#guilty.set(key, cuts);
  }
}
