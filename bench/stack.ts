/** Things to release together, the last first: what `AsyncDisposableStack` is in later versions of Node. */
export class Stack implements AsyncDisposable {
  readonly #held: AsyncDisposable[] = [];

  /** Takes it over; gives it back for use. */
  use<T extends AsyncDisposable>(thing: T): T {
    this.#held.push(thing);
    return thing;
  }

  /** Releases everything, also when one fails, whose error is thrown at the end. */
  async [Symbol.asyncDispose](): Promise<void> {
    const errors: unknown[] = [];
    for (const thing of this.#held.splice(0).reverse()) {
      try {
        await thing[Symbol.asyncDispose]();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }
}
