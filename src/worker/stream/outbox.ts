/**
 * What waits to go to the agent on one stream, and how it is put into frames: small ones of a turn together, a large
 * one alone, and no more results than the agent's window takes. Pure state; the link writes what `take` gives.
 */
import type { Completion, Pong, Refusal, Result, WorkerFrame } from '../../../protocol/generated/stream.js';
import { OVERHEAD, type Parcel } from './parcel.js';
import type { Window } from './window.js';

/** What is counted as a frame's size; the rule is 256 KiB or one message. */
const FRAME: number = 192 * 1024;
/** Parcels that are gone and still in the list: cutting them off one by one would move all others each time. */
const MOST_GONE = 1_024;

export class Outbox {
  #parcels: Parcel[] = [];
  /** Where the first parcel stands that has not gone. */
  #first = 0;
  #refusals: Refusal[] = [];
  #pongs: Pong[] = [];
  #window: Window | undefined;

  /** From the agent's first frame on: what it takes that it has not answered for. */
  open(window: Window): void {
    this.#window = window;
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
    this.#window?.give(parcel.load);
  }

  /** Whether something waits that no window holds back. */
  get isReady(): boolean {
    if (this.#refusals.length > 0 || this.#pongs.length > 0) return true;
    const first = this.#parcels[this.#first];
    return first !== undefined && this.#window?.admits(first.load) === true;
  }

  /** The next frame and the parcels in it, or undefined where nothing may go now. */
  take(): { readonly frame: WorkerFrame; readonly parcels: readonly Parcel[] } | undefined {
    if (!this.isReady) return undefined;
    const pongs = this.#pongs;
    this.#pongs = [];
    const refusals = this.#takeRefusals();
    let room = FRAME - pongs.length * 16;
    for (const refusal of refusals) room -= weightOf(refusal);
    // One that is over the frame's size goes in a frame of its own.
    const isEmpty = pongs.length === 0 && refusals.length === 0;
    const parcels = this.#takeParcels(room, isEmpty);
    const completions: Completion[] = [];
    const results: Result[] = [];
    for (const parcel of parcels) {
      if (parcel.tag === undefined) results.push(...parcel.results);
      else completions.push({ tag: parcel.tag, results: parcel.results as Result[] });
    }
    return { frame: { hello: undefined, completions, refusals, results, pongs }, parcels };
  }

  #takeRefusals(): Refusal[] {
    let weight = 0;
    let count = 0;
    for (const refusal of this.#refusals) {
      weight += weightOf(refusal);
      if (count > 0 && weight > FRAME) break;
      count += 1;
    }
    return this.#refusals.splice(0, count);
  }

  #takeParcels(frame: number, isEmpty: boolean): readonly Parcel[] {
    const from = this.#first;
    let room = frame;
    for (let parcel = this.#parcels[from]; parcel !== undefined; parcel = this.#parcels[this.#first]) {
      const isAlone = isEmpty && this.#first === from;
      if ((parcel.weight > room && !isAlone) || this.#window?.admits(parcel.load) !== true) break;
      this.#window.take(parcel.load);
      room -= parcel.weight;
      this.#first += 1;
    }
    const taken = this.#parcels.slice(from, this.#first);
    if (this.#first === this.#parcels.length || this.#first > MOST_GONE) {
      this.#parcels = this.#parcels.slice(this.#first);
      this.#first = 0;
    }
    return taken;
  }
}

function weightOf({ reason }: Refusal): number {
  return OVERHEAD + reason.length * 3;
}
