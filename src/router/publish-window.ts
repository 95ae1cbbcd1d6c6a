/**
 * Counts the QoS 1 publications that are unacknowledged on one link, so that there are never more than the broker
 * takes (mqtt does not count them, DEPENDENCIES). Some places are kept for control, and a control message that waits
 * is served before any data: a full data window never delays a pong.
 */
export class PublishWindow {
  readonly #capacity: number;
  readonly #dataCapacity: number;
  #inFlight = 0;
  readonly #waiting: (() => void)[] = [];

  /** `reserved` places are control's alone, as long as one remains for data. */
  constructor(capacity: number, reserved: number) {
    this.#capacity = Math.max(1, capacity);
    this.#dataCapacity = Math.max(1, this.#capacity - reserved);
  }

  /** Places that are taken now. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Control messages that wait for a place. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Takes a place for data; false when there is none now. */
  tryTake(): boolean {
    if (this.#waiting.length > 0 || this.#inFlight >= this.#dataCapacity) return false;
    this.#inFlight += 1;
    return true;
  }

  /** Runs `send` as soon as there is a place, in the order of the calls; it then holds that place. */
  takeForControl(send: () => void): void {
    this.#waiting.push(send);
    this.#serve();
  }

  /** Gives a place back. */
  release(): void {
    this.#inFlight -= 1;
    this.#serve();
  }

  /** Calls those that wait, so that they can give up: there will be no more places. */
  close(): void {
    for (const send of this.#waiting.splice(0)) send();
  }

  #serve(): void {
    while (this.#inFlight < this.#capacity) {
      const send = this.#waiting.shift();
      if (send === undefined) return;
      this.#inFlight += 1;
      send();
    }
  }
}
