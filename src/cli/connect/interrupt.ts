/**
 * Ctrl-C in the midst of a work of many steps: the step at hand is given up and cleans up behind itself, and then the
 * program ends by the signal, as the shell expects.
 */

/** The reason of the scope after Ctrl-C. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';

  constructor(readonly signal: NodeJS.Signals) {
    super('interrupted');
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** Does the work in a scope that Ctrl-C ends. */
export async function interruptible<T>(work: (scope: AbortSignal) => Promise<T>): Promise<T> {
  const scope = new AbortController();
  const end = (signal: NodeJS.Signals): void => scope.abort(new Interrupted(signal));
  for (const signal of SIGNALS) process.once(signal, end);
  try {
    return await work(scope.signal);
  } finally {
    for (const signal of SIGNALS) process.removeListener(signal, end);
  }
}

/** Ends the program as the signal would have ended it. */
export function endBy({ signal }: Interrupted): void {
  process.kill(process.pid, signal);
}
