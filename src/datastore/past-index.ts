/**
 * Which pages of `past` may hold a key: a hash table of 32 bits for each, outside V8's heap. What is in a Map for as long
 * as ids are remembered would be most of the heap, and V8 would collect it again and again.
 */
import { randomBytes } from 'node:crypto';

const FEWEST_SLOTS = 1024;

/** What keys are known by: 32 bits that nobody can guess, so that whoever chooses ids cannot make them all alike. */
export class Prints {
  readonly #start: number;
  readonly #factor: number;

  constructor(secret: Buffer = randomBytes(8)) {
    this.#start = secret.readInt32LE(0);
    this.#factor = secret.readInt32LE(4) | 1;
  }

  /** Never 0. All of the key counts: results of the same bytes have the same end. */
  of(key: string): number {
    let hash = this.#start;
    for (let at = 0; at < key.length; at++) hash = Math.imul(hash ^ key.charCodeAt(at), this.#factor) ^ (hash >>> 15);
    return printOf(hash);
  }

  /** The same of a key that stands there. */
  ofBytes(bytes: Buffer, start: number, end: number): number {
    let hash = this.#start;
    for (let at = start; at < end; at++) hash = Math.imul(hash ^ (bytes[at] ?? 0), this.#factor) ^ (hash >>> 15);
    return printOf(hash);
  }
}

function printOf(hash: number): number {
  const print = (hash ^ (hash >>> 16)) >>> 0;
  return print === 0 ? 1 : print;
}

/** Pairs of a print and the number of a page. Open addressing, linear probing. */
export class PastIndex {
  /** 0 in a slot that is free. */
  #prints = new Uint32Array(FEWEST_SLOTS);
  #pages = new Uint32Array(FEWEST_SLOTS);
  #mask = FEWEST_SLOTS - 1;
  #size = 0;

  /** A pair that is there is not there twice: an id that ends again and again would make all searches long. */
  add(print: number, page: number): void {
    if (4 * (this.#size + 1) > 3 * (this.#mask + 1)) this.#grow();
    if (this.#put(print, page)) this.#size += 1;
  }

  /** The newest page below the number `below` that may hold a key of this print; 0 when there is none. */
  newest(print: number, below: number): number {
    let newest = 0;
    for (let at = print & this.#mask, known = this.#prints[at]; known !== 0; known = this.#prints[at]) {
      const page = this.#pages[at] ?? 0;
      if (known === print && page > newest && page < below) newest = page;
      at = (at + 1) & this.#mask;
    }
    return newest;
  }

  /** Takes a pair out, where it is there. */
  remove(print: number, page: number): void {
    let at = print & this.#mask;
    while (this.#prints[at] !== print || this.#pages[at] !== page) {
      if (this.#prints[at] === 0) return;
      at = (at + 1) & this.#mask;
    }
    this.#size -= 1;
    this.#free(at);
  }

  /** Those behind a slot that becomes free move up, where they may: a search ends at the first that is free. */
  #free(slot: number): void {
    let free = slot;
    for (let at = (slot + 1) & this.#mask; ; at = (at + 1) & this.#mask) {
      const print = this.#prints[at] ?? 0;
      if (print === 0) break;
      const isBeforeFree = ((at - print) & this.#mask) >= ((at - free) & this.#mask);
      if (!isBeforeFree) continue;
      this.#prints[free] = print;
      this.#pages[free] = this.#pages[at] ?? 0;
      free = at;
    }
    this.#prints[free] = 0;
  }

  /** False when it is there. */
  #put(print: number, page: number): boolean {
    let at = print & this.#mask;
    for (let known = this.#prints[at]; known !== 0; known = this.#prints[at]) {
      if (known === print && this.#pages[at] === page) return false;
      at = (at + 1) & this.#mask;
    }
    this.#prints[at] = print;
    this.#pages[at] = page;
    return true;
  }

  #grow(): void {
    const prints = this.#prints;
    const pages = this.#pages;
    this.#prints = new Uint32Array(2 * prints.length);
    this.#pages = new Uint32Array(2 * prints.length);
    this.#mask = 2 * prints.length - 1;
    for (let at = 0; at < prints.length; at++) {
      const print = prints[at] ?? 0;
      if (print !== 0) this.#put(print, pages[at] ?? 0);
    }
  }
}
