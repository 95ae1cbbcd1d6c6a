/**
 * The prefixes of the lanes of directives, kept: they are asked for several times for every message, and a text that is
 * made anew has to be hashed anew.
 */
import type { DirectiveKey, InboundRecord } from '../message/index.js';
import { inboundPrefix, PRIORITIES } from './keys.js';

/** Directives whose prefixes are kept. */
const MOST = 1024;

export class InboundPrefixes {
  readonly #known = new Map<DirectiveKey, readonly string[]>();

  /** The lanes of a directive, the most urgent first. */
  all(directive: DirectiveKey): readonly string[] {
    const known = this.#known.get(directive);
    if (known !== undefined) return known;
    // However many directives are named, few have a worker.
    if (this.#known.size >= MOST) this.#known.clear();
    const prefixes = PRIORITIES.map((priority) => inboundPrefix(directive, priority));
    this.#known.set(directive, prefixes);
    return prefixes;
  }

  /** The lane of a record. */
  of({ directiveKey, priority }: InboundRecord): string {
    return this.all(directiveKey)[PRIORITIES.length - 1 - priority] ?? inboundPrefix(directiveKey, priority);
  }
}
