/**
 * A signal announces a fact: typed by its payload, no reply, no queue. Handlers run in the order they were connected,
 * in the emitter's turn. One that throws (or rejects) goes to the error sink; it never reaches the emitter and never
 * keeps the next handler from running. A subscription ends with its scope and in no other way.
 */

/** Called with what a handler threw and the name of the signal it was connected to. */
export type ErrorSink = (error: unknown, signalName: string) => void;

export class Signal<T> {
  readonly #handlers = new Set<(payload: T) => unknown>();

  constructor(
    readonly name: string,
    private readonly errorSink: ErrorSink = throwLater,
  ) {}

  /** Calls `fn` with each payload until `scope` ends. A scope that has ended connects nothing. */
  connect(fn: (payload: T) => unknown, scope: AbortSignal): void {
    if (scope.aborted) return;
    // Each connection is an entry of its own, so that the same function may be connected twice.
    const handler = (payload: T): unknown => fn(payload);
    this.#handlers.add(handler);
    scope.addEventListener('abort', () => this.#handlers.delete(handler), { once: true });
  }

  /** Announces `payload` to all handlers; never throws. */
  emit(payload: T): void {
    for (const handler of this.#handlers) {
      try {
        const result = handler(payload);
        if (result instanceof Promise) result.catch((error: unknown) => this.errorSink(error, this.name));
      } catch (error) {
        this.errorSink(error, this.name);
      }
    }
  }

  /** Resolves with the next payload (for which `accept` holds); rejects when `scope` ends first. */
  next(scope: AbortSignal, accept: (payload: T) => boolean = () => true): Promise<T> {
    return new Promise((resolve, reject) => {
      const done = new AbortController();
      const ended = (): void => {
        done.abort();
        reject(scope.reason instanceof Error ? scope.reason : new Error(`the scope ended before ${this.name}`));
      };
      if (scope.aborted) {
        ended();
        return;
      }
      scope.addEventListener('abort', ended, { once: true });
      this.connect((payload) => {
        if (!accept(payload)) return;
        scope.removeEventListener('abort', ended);
        done.abort();
        resolve(payload);
      }, done.signal);
    });
  }

  /** How many handlers are connected now. */
  get size(): number {
    return this.#handlers.size;
  }
}

/** The sink of a signal that was given none: the error surfaces as an uncaught one instead of vanishing. */
function throwLater(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
