/**
 * A value that nobody prints by accident: every way to turn it into text gives `[redacted]`. Only `reveal` gives it. And
 * addresses without what is secret in them.
 */
import { inspect } from 'node:util';

const REDACTED = '[redacted]';

/** An address without its user and password, also one that is no URL; a password may hold any letter. */
export function withoutUserInfo(address: string): string {
  return address.replace(/^([a-z][a-z0-9+.-]*:\/\/)?.*@/is, '$1');
}

export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The value itself: for the one place that hands it on. */
  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return REDACTED;
  }

  toJSON(): string {
    return REDACTED;
  }

  [inspect.custom](): string {
    return REDACTED;
  }
}
