/**
 * How much may be in flight one way, and how much is: messages, the bytes of contents that stand in frames, and how many
 * have a body of their own. One is always admitted when nothing is in flight, lest an oversized one wait for ever.
 */
import type { Window as Announced } from '../../../protocol/generated/stream.js';
import type { Room } from '../link-port.js';

export interface WindowLimits {
  readonly messages: number;
  readonly bytes: number;
  readonly bodies: number;
}

/** What a side that says nothing of bodies takes at once (stream.proto). */
const DEFAULT_BODIES = 4;

/** The window that a peer announced, bounded by our own; one message goes at least. */
export function windowFrom(announced: Announced | undefined, own: WindowLimits): WindowLimits {
  const { messages = 0, bytes = 0, bodies = 0 } = announced ?? {};
  return {
    messages: Math.max(1, Math.min(messages, own.messages)),
    bytes: Math.min(bytes, own.bytes),
    bodies: Math.min(bodies === 0 ? DEFAULT_BODIES : bodies, own.bodies),
  };
}

/** What one message, or one completion with all its results, takes of a window. */
export interface Load {
  readonly messages: number;
  readonly bytes: number;
  readonly bodies: number;
}

export class Window {
  #messages = 0;
  #bytes = 0;
  #bodies = 0;

  constructor(readonly limits: WindowLimits) {}

  /** Messages in flight. */
  get messages(): number {
    return this.#messages;
  }

  get isFull(): boolean {
    return this.#messages >= this.limits.messages;
  }

  /** Whether so much may go as well. */
  roomFor({ messages, bytes, bodies }: Load): Room {
    if (this.#messages === 0) return 'here';
    if (this.#messages + messages > this.limits.messages || this.#bytes + bytes > this.limits.bytes) return 'none';
    return bodies > 0 && this.#bodies + bodies > this.limits.bodies ? 'not-for-it' : 'here';
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
