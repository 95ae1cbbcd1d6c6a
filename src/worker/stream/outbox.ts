/**
 * What waits to go to the agent on one stream, and how it is put into frames: small ones of a turn together, a large
 * one alone, and no more results than the agent's window takes. Pure state; the link writes what `take` gives.
 */
import {
  type Completion,
  type Pong,
  type Refusal,
  type Result,
  type Window,
  type WorkerFrame,
} from '../../../protocol/generated/stream.js';

/** A frame holds at most 256 KiB or one message; what is counted here are contents and texts, not every tag. */
const FRAME: number = 192 * 1024;
/** What a message takes in a frame beside its texts and content, rounded up. */
const OVERHEAD = 96;

/** Results that go together: those of one completion, or one alone. In the agent's window from `take` to `free`. */
export interface Parcel {
  /** The completion's tag; undefined for a result outside a completion. */
  readonly tag: number | undefined;
  readonly results: readonly Result[];
  /** Of contents within the frame. */
  readonly bytes: number;
  readonly bodies: number;
}

export interface Room {
  readonly messages: number;
  readonly bytes: number;
  readonly bodies: number;
}

/** What a window of the other side allows; 0 bodies mean 4, and a side that takes nothing at all still takes one. */
export function roomFrom(window: Window | undefined): Room {
  const { messages = 0, bytes = 0, bodies = 0 } = window ?? {};
  return { messages, bytes, bodies: bodies === 0 ? 4 : bodies };
}

/** What a parcel of these results weighs. */
export function parcelOf(tag: number | undefined, results: readonly Result[]): Parcel {
  let bytes = 0;
  let bodies = 0;
  for (const result of results) {
    bytes += result.data?.content.length ?? 0;
    if (result.body !== undefined) bodies += 1;
  }
  return { tag, results, bytes, bodies };
}

export class Outbox {
  #parcels: Parcel[] = [];
  #refusals: Refusal[] = [];
  #pongs: Pong[] = [];
  #messages = 0;
  #bytes = 0;
  #bodies = 0;
  #room: Room = { messages: 0, bytes: 0, bodies: 0 };

  /** From the agent's first frame on. */
  open(room: Room): void {
    this.#room = room;
  }

  addParcel(parcel: Parcel): void {
    this.#parcels.push(parcel);
  }

  addRefusal(refusal: Refusal): void {
    this.#refusals.push(refusal);
  }

  addPong(pong: Pong): void {
    this.#pongs.push(pong);
  }

  /** The agent has it, or does not take it: its room in the window is free. */
  free(parcel: Parcel): void {
    this.#messages -= parcel.results.length;
    this.#bytes -= parcel.bytes;
    this.#bodies -= parcel.bodies;
  }

  /** Whether something waits that no window holds back. */
  get isReady(): boolean {
    const [first] = this.#parcels;
    return this.#refusals.length > 0 || this.#pongs.length > 0 || (first !== undefined && this.#isAdmitted(first));
  }

  /** The next frame, or undefined where nothing may go now. */
  take(): WorkerFrame | undefined {
    if (!this.isReady) return undefined;
    const completions: Completion[] = [];
    const results: Result[] = [];
    let room = FRAME;
    const pongs = this.#pongs;
    this.#pongs = [];
    const refusals = this.#takeRefusals();
    for (const refusal of refusals) room -= OVERHEAD + refusal.reason.length * 3;
    let taken = 0;
    for (const parcel of this.#parcels) {
      const weight = weightOf(parcel);
      const isAlone = taken === 0 && refusals.length === 0;
      if (!this.#isAdmitted(parcel) || (weight > room && !isAlone)) break;
      room -= weight;
      taken += 1;
      this.#messages += parcel.results.length;
      this.#bytes += parcel.bytes;
      this.#bodies += parcel.bodies;
      if (parcel.tag === undefined) results.push(...parcel.results);
      else completions.push({ tag: parcel.tag, results: [...parcel.results] });
    }
    if (taken === this.#parcels.length) this.#parcels = [];
    else this.#parcels = this.#parcels.slice(taken);
    return { hello: undefined, completions, refusals, results, pongs };
  }

  #takeRefusals(): Refusal[] {
    let weight = 0;
    let count = 0;
    for (const { reason } of this.#refusals) {
      weight += OVERHEAD + reason.length * 3;
      if (count > 0 && weight > FRAME) break;
      count += 1;
    }
    return this.#refusals.splice(0, count);
  }

  /** A completion without results takes no room; one parcel is always admitted when none is under way. */
  #isAdmitted({ results, bytes, bodies }: Parcel): boolean {
    if (results.length === 0 || this.#messages === 0) return true;
    const { messages: most, bytes: mostBytes, bodies: mostBodies } = this.#room;
    return (
      this.#messages + results.length <= most && this.#bytes + bytes <= mostBytes && this.#bodies + bodies <= mostBodies
    );
  }
}

/** An upper bound of what it takes in a frame: text may need three bytes for each of its units. */
function weightOf({ results }: Parcel): number {
  let weight = OVERHEAD;
  for (const { data } of results) {
    if (data === undefined) continue;
    weight += OVERHEAD + data.content.length;
    weight += (data.messageId.length + data.responseTo.length + data.directive.length) * 3;
    for (const name in data.metadata) weight += 16 + (name.length + (data.metadata[name]?.length ?? 0)) * 3;
  }
  return weight;
}
