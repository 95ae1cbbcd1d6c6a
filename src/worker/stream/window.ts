/** How much may be under way in one direction of a stream: messages, bytes within frames, and bodies. Pure. */
import type { Window as Announced } from '../../../protocol/generated/stream.js';

export interface Load {
  readonly messages: number;
  /** Of contents within frames. */
  readonly bytes: number;
  readonly bodies: number;
}

/** What a side takes that says nothing of bodies. */
const BODIES = 4;

export class Window {
  #messages = 0;
  #bytes = 0;
  #bodies = 0;
  readonly #most: Load;

  constructor(announced: Announced | undefined) {
    const { messages = 0, bytes = 0, bodies = 0 } = announced ?? {};
    this.#most = { messages, bytes, bodies: bodies === 0 ? BODIES : bodies };
  }

  /** Whether it may go as well. What weighs nothing always may; so does anything while nothing is under way. */
  admits({ messages, bytes, bodies }: Load): boolean {
    if (messages === 0 || this.#messages === 0) return true;
    const most = this.#most;
    return (
      this.#messages + messages <= most.messages &&
      this.#bytes + bytes <= most.bytes &&
      (bodies === 0 || this.#bodies + bodies <= most.bodies)
    );
  }

  take({ messages, bytes, bodies }: Load): void {
    this.#messages += messages;
    this.#bytes += bytes;
    this.#bodies += bodies;
  }

  give({ messages, bytes, bodies }: Load): void {
    this.#messages -= messages;
    this.#bytes -= bytes;
    this.#bodies -= bodies;
  }
}
