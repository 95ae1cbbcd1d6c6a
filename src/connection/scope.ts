/**
 * A scope inside a scope: ends by itself or with its parent, and leaves no listener on the parent. (AbortSignal.any
 * keeps one for as long as a long-lived parent lives.)
 */
import { abortReason } from '../time.js';

export class Scope implements Disposable {
  readonly #controller = new AbortController();
  readonly #parent: AbortSignal | undefined;
  readonly #onParentEnd = (): void => this.end(this.#parent === undefined ? undefined : abortReason(this.#parent));

  constructor(parent?: AbortSignal) {
    this.#parent = parent;
    if (parent?.aborted === true) this.end(abortReason(parent));
    else parent?.addEventListener('abort', this.#onParentEnd, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Ends it; the first reason stays. Idempotent. */
  end(reason: Error = new Error('the scope has ended')): void {
    this.#parent?.removeEventListener('abort', this.#onParentEnd);
    this.#controller.abort(reason);
  }

  [Symbol.dispose](): void {
    this.end();
  }
}
