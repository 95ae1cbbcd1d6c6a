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

/** A promise for what was thrown. */
export function rejected(error: unknown): Promise<never> {
  return Promise.reject(error instanceof Error ? error : new Error(String(error)));
}

/** Resolves in the next turn of the event loop: what this one still does comes before. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
