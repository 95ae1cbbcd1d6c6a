/** Does its work at the end of a turn of the event loop in which it was asked for, once however often that was. */
export class TurnEnd {
  #isSet = false;
  readonly #fire = (): void => {
    this.#isSet = false;
    this.work();
  };

  constructor(private readonly work: () => void) {}

  set(): void {
    if (this.#isSet) return;
    this.#isSet = true;
    setImmediate(this.#fire);
  }
}
