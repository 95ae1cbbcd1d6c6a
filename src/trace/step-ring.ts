/**
 * The steps of the last few thousand messages, and when each was taken. It is written to on every message's way, so a
 * step is one number in an array that is there already: a message has the slot that its key names, and whoever was
 * active there last has it. Read only when an operator asks.
 */
import type { MessageKey } from '../message/index.js';
import type { Millis } from '../time.js';

/** Columns of a slot; a message that takes a step again is remembered by the last time. */
export const STEP = {
  journaled: 0,
  fetching: 1,
  fetched: 2,
  ready: 3,
  /** With its worker, or on its way to the broker or a URL. */
  underWay: 4,
  /** It came back: it waits to be tried again. */
  back: 5,
  ended: 6,
} as const;

export type Step = (typeof STEP)[keyof typeof STEP];

const ENDS = ['delivered', 'expired', 'cancelled', 'dead', 'sent', 'posted'] as const;

export type End = (typeof ENDS)[number];

/** As it is kept; 0: none. */
const END_CODES: Readonly<Record<End, number>> = {
  delivered: 1,
  expired: 2,
  cancelled: 3,
  dead: 4,
  sent: 5,
  posted: 6,
};

/** What is told of a message when its first step is written down. */
export interface Seen {
  readonly kind: 'inbound' | 'outbound';
  readonly messageId: string;
  readonly responseTo: string;
  readonly directive: string;
  /** Wall time. */
  readonly arrivedAt: Millis;
}

/** A message with the steps that are remembered of it. */
export interface Traced extends Seen {
  readonly key: MessageKey;
  /** By column, on the clock of the steps; 0: not taken. */
  readonly times: readonly Millis[];
  /** How often it was under way. */
  readonly tries: number;
  readonly end: End | undefined;
}

const COLUMNS = 7;
const MOST_TRIES = 0xffff;
/** A power of two. With the results of each: the last 4,096 messages. */
const SLOTS = 8192;

export class StepRing {
  readonly #keys: Float64Array;
  readonly #arrivals: Float64Array;
  readonly #times: Float64Array;
  readonly #tries: Uint16Array;
  readonly #ends: Uint8Array;
  readonly #isOutbound: Uint8Array;
  readonly #messageIds: string[];
  readonly #responseTos: string[];
  readonly #directives: string[];

  /** `lookUp` tells of a message whose slot is taken over; it may know nothing of it. */
  constructor(
    private readonly lookUp: (key: MessageKey) => Seen | undefined,
    private readonly slots = SLOTS,
  ) {
    this.#keys = new Float64Array(slots);
    this.#arrivals = new Float64Array(slots);
    this.#times = new Float64Array(slots * COLUMNS);
    this.#tries = new Uint16Array(slots);
    this.#ends = new Uint8Array(slots);
    this.#isOutbound = new Uint8Array(slots);
    this.#messageIds = new Array<string>(slots).fill('');
    this.#responseTos = new Array<string>(slots).fill('');
    this.#directives = new Array<string>(slots).fill('');
  }

  /** Writes down that a message has taken a step `at` this time. */
  mark(key: MessageKey, step: Step, at: Millis): void {
    const slot = key % this.slots;
    if (this.#keys[slot] !== key) this.#takeOver(slot, key);
    this.#times[slot * COLUMNS + step] = at;
    if (step === STEP.underWay) this.#tries[slot] = Math.min(MOST_TRIES, (this.#tries[slot] ?? 0) + 1);
  }

  end(key: MessageKey, end: End, at: Millis): void {
    this.mark(key, STEP.ended, at);
    this.#ends[key % this.slots] = END_CODES[end];
  }

  /** The message of this key. */
  at(key: MessageKey): Traced | undefined {
    const slot = key % this.slots;
    return this.#keys[slot] === key ? this.#traced(slot, key) : undefined;
  }

  /** Every message whose own id this is, or that of the one it answers. */
  of(messageId: string): readonly Traced[] {
    const found: Traced[] = [];
    for (let slot = 0; slot < this.slots; slot++) {
      const key = this.#keys[slot] ?? 0;
      if (key === 0) continue;
      if (this.#messageIds[slot] === messageId || this.#responseTos[slot] === messageId)
        found.push(this.#traced(slot, key as MessageKey));
    }
    return found.sort((a, b) => a.key - b.key);
  }

  #traced(slot: number, key: MessageKey): Traced {
    return {
      kind: this.#isOutbound[slot] === 1 ? 'outbound' : 'inbound',
      key,
      messageId: this.#messageIds[slot] ?? '',
      responseTo: this.#responseTos[slot] ?? '',
      directive: this.#directives[slot] ?? '',
      arrivedAt: this.#arrivals[slot] ?? 0,
      times: [...this.#times.subarray(slot * COLUMNS, (slot + 1) * COLUMNS)],
      tries: this.#tries[slot] ?? 0,
      end: ENDS[(this.#ends[slot] ?? 0) - 1],
    };
  }

  #takeOver(slot: number, key: MessageKey): void {
    const seen = this.lookUp(key);
    this.#keys[slot] = key;
    this.#arrivals[slot] = seen?.arrivedAt ?? 0;
    // Quicker than `fill` for so few.
    for (let at = slot * COLUMNS; at < (slot + 1) * COLUMNS; at++) this.#times[at] = 0;
    this.#tries[slot] = 0;
    this.#ends[slot] = 0;
    this.#isOutbound[slot] = seen?.kind === 'outbound' ? 1 : 0;
    this.#messageIds[slot] = seen?.messageId ?? '';
    this.#responseTos[slot] = seen?.responseTo ?? '';
    this.#directives[slot] = seen?.directive ?? '';
  }
}
