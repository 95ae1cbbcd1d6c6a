/**
 * One link to the broker, from its `up` to its `down`: what it allows, a scope that ends with it, and a window that
 * all publications of the agent go through. A link that has ended publishes nothing any more; its counts die with it.
 */
import type { ConnectionPort, LinkUp, Payload, PublishOptions, SendOutcome } from './ports.js';
import { PublishWindow } from './publish-window.js';

/** Control messages that may wait for a place; more of them are dropped: their sender asks again. */
const MAX_WAITING_CONTROL = 256;

export interface Publication extends PublishOptions {
  readonly topic: string;
  readonly payload: Buffer;
}

export interface LinkOptions {
  readonly connection: ConnectionPort;
  readonly granted: LinkUp;
  /** The agent's own bound on unacknowledged publications. */
  readonly publishWindow: number;
  readonly controlSlots: number;
}

export class Link {
  readonly #connection: ConnectionPort;
  readonly #window: PublishWindow;
  readonly #scope = new AbortController();
  /** A publication failed: the link ends, though its `down` may take a while. */
  #isBroken = false;
  #isProven = false;
  /** Called when a place for data may have become free. */
  onRoom: () => void = () => undefined;

  constructor(options: LinkOptions) {
    this.#connection = options.connection;
    const capacity = Math.min(options.granted.receiveMaximum, options.publishWindow);
    this.#window = new PublishWindow(capacity, options.controlSlots);
  }

  /** Ends with the link. */
  get scope(): AbortSignal {
    return this.#scope.signal;
  }

  get isUp(): boolean {
    return !this.#isBroken && !this.#scope.signal.aborted;
  }

  /** Something that was published on it has come to an end other than a cut: it does carry something. */
  get isProven(): boolean {
    return this.#isProven;
  }

  end(): void {
    this.#scope.abort();
    this.#window.close();
  }

  /** Publishes a control message ahead of all data that is not on its way yet. */
  control(publication: Publication): Promise<SendOutcome> {
    if (!this.isUp || this.#window.waiting >= MAX_WAITING_CONTROL) return Promise.resolve({ kind: 'cut' });
    return new Promise((resolve) => {
      this.#window.takeForControl(() => {
        if (!this.isUp) {
          resolve({ kind: 'cut' });
          return;
        }
        this.publishHeld(publication.topic, publication.payload, publication, (outcome) => {
          this.landed(outcome);
          resolve(outcome);
          this.release();
        });
      });
    });
  }

  /** Publishes an empty message that expects no answer. */
  prime(topic: string): void {
    // What becomes of it concerns nobody: it is the broker's log that wants it.
    this.#connection.send(topic, Buffer.alloc(0), { qos: 0, retain: false }, () => undefined);
  }

  /** Takes a place for data; to be given back with `release`. */
  tryTake(): boolean {
    return this.isUp && this.#window.tryTake();
  }

  release(): void {
    this.#window.release();
    this.onRoom();
  }

  /**
   * Publishes in a place that is held already. `done` is told what came of it; it tells `landed`, and gives the place
   * back with `release` once it has seen to the rest.
   */
  publishHeld(topic: string, payload: Payload, options: PublishOptions, done: (outcome: SendOutcome) => void): void {
    this.#connection.send(topic, payload, options, done);
  }

  /** What was published in a place that is held has come to this. */
  landed(outcome: SendOutcome): void {
    // A cut says that the link has ended, which its `down` tells too, with the reason.
    if (outcome.kind === 'cut') this.#isBroken = true;
    else this.#isProven = true;
  }
}
