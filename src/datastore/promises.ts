/** Promises where there is one for many, or one less: those on a message's way are made several times for every message. */

/** A promise that many wait for, and what settles it. */
export interface Deferred {
  readonly done: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export function deferred(): Deferred {
  let [resolve, reject]: [() => void, (error: unknown) => void] = [() => undefined, () => undefined];
  const done = new Promise<void>((resolved, rejected) => ([resolve, reject] = [resolved, rejected]));
  return { done, resolve, reject };
}

/** Does work in this turn. What it throws rejects, as with an async function, for one promise less. */
export function inThisTurn<T>(work: () => Promise<T>): Promise<T> {
  try {
    return work();
  } catch (error) {
    return Promise.reject(error instanceof Error ? error : new Error(String(error)));
  }
}

/** Resolves in the next turn of the event loop: what this one still does comes before. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
