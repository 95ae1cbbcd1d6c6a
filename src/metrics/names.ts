/** Bounds how many values a label may have: who makes up names must not fill our memory, nor the scraper's. */

/** What stands for all names beyond the bound, and for those that nobody here vouches for. */
export const OTHER = 'other';

/** As many directives and workers as one machine may have series for. */
export const MOST_NAMES = 128;

/** Names in the order in which they were first met. */
export class Names {
  readonly #known = new Set<string>();

  constructor(private readonly most = MOST_NAMES) {}

  /** The name itself, or `other`. */
  of(name: string): string {
    if (this.#known.has(name)) return name;
    if (this.#known.size >= this.most) return OTHER;
    this.#known.add(name);
    return name;
  }
}
