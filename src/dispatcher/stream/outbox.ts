/**
 * What goes to a worker on its stream, gathered while a callback of the event loop runs and sent in few frames. Frames
 * hold at most 256 KiB, or one message. Two are on their way at once at most: what comes meanwhile gathers for the next,
 * and is gone with the stream instead of filling memory behind a worker that does not read. That a completion is durable
 * waits a while for a frame to ride in: the worker is done with it, and a frame of its own costs a worker that gets few
 * messages as much as half of one.
 */
import type { AgentFrame, Delivery, ResultRefusal, Welcome } from '../../../protocol/generated/stream.js';
import type { Event } from '../../../protocol/generated/yggdrasil.js';
import { boundOfDelivery, bytesOf, OVERHEAD } from './frame-writer.js';

/** Bytes of a frame that holds more than one message. */
export const MOST_IN_FRAME = 256 * 1024;

/** Frames handed to gRPC whose end it has not reported. */
const MOST_ON_THE_WAY = 2;

/** How long a tag may wait for a frame that goes anyway, in milliseconds: well below what a worker that stops is given. */
const RIDE_WITHIN = 100;

/** So many do not wait: small ones, hence far from filling the window of results. */
const MOST_WAITING = 64;

/** What has an order: a cancel never comes before the delivery it names. */
export type Part =
  | (Delivery & { readonly kind: 'delivery' })
  | { readonly kind: 'cancel'; readonly tag: number }
  | { readonly kind: 'event'; readonly event: Event };

/** What the worker waits for: it goes first. */
export interface Acknowledgements {
  readonly settled: number[];
  readonly accepted: number[];
  readonly refusals: ResultRefusal[];
  readonly pings: number[];
}

/** An upper bound of the bytes that a part takes in a frame. */
export function boundOf(part: Part): number {
  return part.kind === 'delivery' ? boundOfDelivery(part) : OVERHEAD;
}

/** The next frame: takes from `acks` and `parts` what fits, at least one of them. */
export function takeFrame(acks: Acknowledgements, parts: Part[]): AgentFrame {
  // The lists themselves have a tag and a length.
  let left = MOST_IN_FRAME - OVERHEAD;
  const some = <T>(list: T[], bound: number): T[] => {
    const count = Math.min(list.length, Math.floor(left / bound));
    left -= count * bound;
    return list.splice(0, count);
  };
  const frame: AgentFrame = {
    welcome: undefined,
    // A varint of 32 bits has five bytes.
    settled: some(acks.settled, 5),
    accepted: some(acks.accepted, 5),
    pings: some(acks.pings, 5),
    resultRefusals: some(acks.refusals, OVERHEAD + 3 * MOST_REASON),
    deliveries: [],
    cancels: [],
    events: [],
  };
  let isEmpty = left === MOST_IN_FRAME - OVERHEAD;
  let taken = 0;
  for (const part of parts) {
    left -= boundOf(part);
    if (left < 0 && !isEmpty) break;
    isEmpty = false;
    taken += 1;
    if (part.kind === 'delivery') frame.deliveries.push(part);
    else if (part.kind === 'cancel') frame.cancels.push(part.tag);
    else frame.events.push({ name: part.event, detail: '', metadata: {} });
  }
  parts.splice(0, taken);
  return frame;
}

function noAcks(): Acknowledgements {
  return { settled: [], accepted: [], refusals: [], pings: [] };
}

/** Characters of a reason that a worker is given. */
const MOST_REASON = 1000;

export interface OutboxOptions {
  /** Hands a frame to the wire; `sent` is called when it is through. */
  readonly write: (frame: Buffer, sent: () => void) => void;
  /** Called before the frames are made: what is ready by then goes along. */
  readonly gather: () => void;
}

export class Outbox {
  readonly #acks = noAcks();
  readonly #parts: Part[] = [];
  #isScheduled = false;
  /** Sends what waits for a ride. Of real time, as the turns are: no test has to hold it. */
  #ride: NodeJS.Timeout | undefined;
  #onTheWay = 0;
  #state: 'held' | 'open' | 'closed' = 'held';
  #whenEmpty: (() => void) | undefined;
  // A function that stands within another costs each call of that one some memory, whether it is made or not.
  readonly #onTick = (): void => {
    this.#isScheduled = false;
    this.#flush();
  };
  readonly #onRide = (): void => {
    this.#ride = undefined;
    if (this.#acks.settled.length > 0) this.schedule();
  };

  constructor(private readonly options: OutboxOptions) {}

  /** The first frame; what gathered before it follows. */
  welcome(welcome: Welcome): void {
    this.#state = 'open';
    this.#write({ ...takeFrame(noAcks(), []), welcome });
    this.schedule();
  }

  put(part: Part): void {
    this.#parts.push(part);
    this.schedule();
  }

  /** `isUrgent`: the room that its results take is wanted again soon. */
  settled(tag: number, isUrgent = true): void {
    const { settled } = this.#acks;
    settled.push(tag);
    if (isUrgent || settled.length >= MOST_WAITING || this.#state === 'closed') this.schedule();
    else this.#ride ??= setTimeout(this.#onRide, RIDE_WITHIN).unref();
  }

  accepted(number: number): void {
    this.#acks.accepted.push(number);
    this.schedule();
  }

  refused(refusal: ResultRefusal): void {
    this.#acks.refusals.push({ ...refusal, reason: refusal.reason.slice(0, MOST_REASON) });
    this.schedule();
  }

  ping(number: number): void {
    this.#acks.pings.push(number);
    this.schedule();
  }

  /** Whether `gather` is sure to be called soon, once it is asked for. */
  get isOpen(): boolean {
    return this.#state === 'open';
  }

  /**
   * Sees to it that `gather` is called, and what is there sent, behind the callback of the event loop that runs now, and
   * behind its promises when one of them asks for it. Not in an immediate: HTTP/2 writes in one of its own, which would
   * then run a whole turn later.
   */
  schedule(): void {
    // What comes after the end is for nobody.
    if (this.#state === 'closed') this.#clear();
    else if (!this.#isScheduled) {
      this.#isScheduled = true;
      process.nextTick(this.#onTick);
    }
  }

  /** Calls `then` when everything is on the wire, and nothing once it was closed. */
  drained(then: () => void): void {
    this.#whenEmpty = then;
    this.schedule();
  }

  /** Sends the tags that wait for a ride: the call is about to end, and none goes anyway. Before `close`. */
  tellSettled(): void {
    if (this.#state !== 'open' || this.#acks.settled.length === 0) return;
    this.#write(takeFrame({ ...noAcks(), settled: this.#acks.settled }, []));
  }

  /** Drops what was not sent. */
  close(): void {
    this.#state = 'closed';
    clearTimeout(this.#ride);
    this.#ride = undefined;
    this.#whenEmpty = undefined;
    this.#clear();
  }

  #clear(): void {
    const { settled, accepted, refusals, pings } = this.#acks;
    for (const list of [this.#parts, settled, accepted, refusals, pings]) list.length = 0;
  }

  #flush(): void {
    if (this.#state !== 'open') return;
    this.options.gather();
    while (this.#onTheWay < MOST_ON_THE_WAY && this.#hasMore()) this.#write(takeFrame(this.#acks, this.#parts));
    if (this.#onTheWay > 0 || this.#hasMore()) return;
    const then = this.#whenEmpty;
    this.#whenEmpty = undefined;
    then?.();
  }

  #hasMore(): boolean {
    const { settled, accepted, refusals, pings } = this.#acks;
    return this.#parts.length + settled.length + accepted.length + refusals.length + pings.length > 0;
  }

  #write(frame: AgentFrame): void {
    this.#onTheWay += 1;
    this.options.write(bytesOf(frame), () => {
      this.#onTheWay -= 1;
      if (this.#state === 'open' && (this.#hasMore() || this.#whenEmpty !== undefined)) this.#flush();
    });
  }
}
