/**
 * Looks after messages that set no expiry of their own: each directive has a lifetime, and since a lane is in the order
 * of arrival its head is the first whose lifetime ends. One timer waits for the first of all heads.
 */
import type { DirectiveKey, InboundRecord, MessageKey } from '../message/index.js';
import type { Clock } from '../time.js';
import type { Lifetimes } from './inbound-types.js';

export interface SweepPorts {
  /** Whether any worker ever registered the directive. */
  isKnown(directive: DirectiveKey): boolean;
  /** The live records of each lane, in order. */
  lanes(): readonly (readonly InboundRecord[])[];
  lapsed(key: MessageKey): void;
}

/** A wall clock may be stepped; the heads are looked at this often at the least. */
const LONGEST_WAIT_MS = 60_000;
/** A head that is over its time and still there is looked at again after this. */
const AGAIN_MS = 1_000;

export class LifetimeSweep {
  #scope: AbortSignal = AbortSignal.abort();
  #at = Infinity;
  #timer: AbortController | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly lifetimes: Lifetimes,
    private readonly ports: SweepPorts,
  ) {}

  start(scope: AbortSignal): void {
    this.#scope = scope;
    // Not AbortSignal.any for each timer: Node 20 keeps something of each as long as the scope lives.
    scope.addEventListener('abort', () => this.#timer?.abort(), { once: true });
    this.#at = Infinity;
  }

  /** Sees to it that somebody looks when the lifetime of `record` is over. */
  expect(record: InboundRecord): void {
    this.#lookBy(this.#endOf(record));
  }

  #endOf(record: InboundRecord): number {
    const isKnown = this.ports.isKnown(record.directiveKey);
    return record.arrivedAt + (isKnown ? this.lifetimes.message : this.lifetimes.unknownDirective);
  }

  #lookBy(at: number): void {
    if (at >= this.#at || this.#scope.aborted) return;
    this.#timer?.abort();
    this.#timer = new AbortController();
    this.#at = at;
    const delay = Math.min(Math.max(0, at - this.clock.now()), LONGEST_WAIT_MS);
    this.clock.after(delay, () => this.#look(), this.#timer.signal);
  }

  #look(): void {
    this.#at = Infinity;
    const now = this.clock.now();
    for (const lane of this.ports.lanes()) {
      for (const record of lane) {
        const end = this.#endOf(record);
        if (end > now) {
          this.#lookBy(end);
          break;
        }
        this.ports.lapsed(record.key);
        this.#lookBy(now + AGAIN_MS);
      }
    }
  }
}
