/**
 * What is counted: single series, made once and then only added to. A series is looked up by its labels when it is
 * first needed, never for each message; adding is a few machine instructions and makes no garbage.
 */
import { METRICS, type Declaration } from './catalogue.js';

/** One value with its labels: of a counter or a gauge. */
export class Count {
  value = 0;

  constructor(readonly labels: readonly string[]) {}

  add(amount = 1): void {
    this.value += amount;
  }
}

/** Values sorted into buckets, with their sum. */
export class Histogram {
  readonly #buckets: Float64Array;
  #sum = 0;

  constructor(
    readonly labels: readonly string[],
    readonly bounds: readonly number[],
  ) {
    this.#buckets = new Float64Array(bounds.length + 1);
  }

  observe(value: number): void {
    const { bounds } = this;
    let at = 0;
    // From the smallest on: most of what is measured is quick.
    while (at < bounds.length && value > (bounds[at] ?? Infinity)) at += 1;
    this.#buckets[at] = (this.#buckets[at] ?? 0) + 1;
    this.#sum += value;
  }

  get sum(): number {
    return this.#sum;
  }

  /** For each bound how many values were at most that, and at last how many there were. */
  get cumulative(): readonly number[] {
    let total = 0;
    return Array.from(this.#buckets, (count) => (total += count));
  }
}

/** Quantiles of a while, with the count and the sum of all there ever was. */
export interface Summary {
  readonly labels: readonly string[];
  readonly quantiles: readonly (readonly [quantile: number, value: number])[];
  readonly count: number;
  readonly sum: number;
}

export type Series = Count | Histogram | Summary;

/** All series of one metric. */
export class Family<S extends Series> {
  readonly #series = new Map<string, S>();

  constructor(
    readonly declaration: Declaration,
    private readonly make: (labels: readonly string[]) => S,
  ) {}

  /** The series with these values of its labels, in the order of their declaration; made when it is new. */
  with(...labels: readonly string[]): S {
    const id = labels.join('\0');
    const present = this.#series.get(id);
    if (present !== undefined) return present;
    const made = this.make(labels);
    this.#series.set(id, made);
    return made;
  }

  /** Puts a series in the place of the one with its labels. */
  put(series: S): void {
    this.#series.set(series.labels.join('\0'), series);
  }

  /** Forgets all series: what is looked up anew each time begins with this. */
  clear(): void {
    this.#series.clear();
  }

  get series(): Iterable<S> {
    return this.#series.values();
  }
}

/** The metrics that somebody measures. One that nobody asked for is not there. */
export class Registry {
  readonly #counts = new Map<Declaration, Family<Count>>();
  readonly #histograms = new Map<Declaration, Family<Histogram>>();
  readonly #summaries = new Map<Declaration, Family<Summary>>();

  /** A counter or a gauge. */
  count(declaration: Declaration<'counter' | 'gauge'>): Family<Count> {
    return found(this.#counts, declaration, (labels) => new Count(labels));
  }

  histogram(declaration: Declaration<'histogram'>): Family<Histogram> {
    return found(this.#histograms, declaration, (labels) => new Histogram(labels, declaration.bounds));
  }

  summary(declaration: Declaration<'summary'>): Family<Summary> {
    return found(this.#summaries, declaration, (labels) => ({ labels, quantiles: [], count: 0, sum: 0 }));
  }

  /** All families, in the order of their declaration. */
  get families(): readonly Family<Series>[] {
    const all = [this.#counts, this.#histograms, this.#summaries];
    return Object.values<Declaration>(METRICS).flatMap((metric) => all.flatMap((some) => some.get(metric) ?? []));
  }
}

function found<S extends Series>(
  families: Map<Declaration, Family<S>>,
  declaration: Declaration,
  make: (labels: readonly string[]) => S,
): Family<S> {
  const present = families.get(declaration);
  if (present !== undefined) return present;
  const family = new Family(declaration, make);
  families.set(declaration, family);
  return family;
}
