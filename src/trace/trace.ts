/**
 * What becomes of messages, workers and the connection, for an operator who asks: the steps of the last messages, always
 * written down; and events, which are made only while somebody watches.
 */
import type { LiveRecord, MessageKey } from '../message/index.js';
import type { RingReader } from '../signal/index.js';
import type { Clock, Millis } from '../time.js';
import { EventFeed } from './event-feed.js';
import { STEP, StepRing, type End, type Step, type Traced } from './step-ring.js';

/** Something that happened. Fields that do not concern it are empty, the key 0. */
export interface AgentEvent {
  /** Wall time in milliseconds, with their fractions. */
  readonly at: Millis;
  readonly kind: 'message' | 'worker' | 'connection';
  readonly name: string;
  readonly key: number;
  readonly messageId: string;
  readonly directive: string;
  readonly worker: string;
  readonly detail: string;
}

/** A step that was taken, as it is told. */
export interface TakenStep {
  readonly name: string;
  /** Wall time in milliseconds, with their fractions. */
  readonly at: Millis;
  readonly detail: string;
}

export interface TracedMessage extends Pick<Traced, 'kind' | 'key' | 'messageId' | 'responseTo' | 'directive' | 'end'> {
  /** In the order of time. */
  readonly steps: readonly TakenStep[];
}

export interface TraceOptions {
  readonly clock: Clock;
  /** A message that has not ended. */
  readonly find: (key: MessageKey) => LiveRecord | undefined;
}

const NAMES: Readonly<Record<'inbound' | 'outbound', readonly string[]>> = {
  inbound: ['journaled', 'fetching', 'fetched', 'ready', 'dispatching', 'put-back', 'ended'],
  outbound: ['journaled', '', '', '', 'sending', 'put-back', 'ended'],
};
const ARRIVAL = { inbound: 'received', outbound: 'returned' } as const;

/** What an operator should see who does not look at each step. */
const TROUBLE: ReadonlySet<string> = new Set(['put-back', 'expired', 'cancelled', 'dead', 'refused']);

export class Trace {
  readonly #ring: StepRing;
  readonly #all = new EventFeed<AgentEvent>();
  readonly #notable = new EventFeed<AgentEvent>();
  #time: Millis = 0;
  #isFresh = false;
  readonly #goStale = (): void => void (this.#isFresh = false);

  constructor(private readonly options: TraceOptions) {
    this.#ring = new StepRing(options.find);
  }

  /** A message has taken a step. */
  mark(key: MessageKey, step: Step): void {
    this.#ring.mark(key, step, this.#now());
    if (this.#all.isWatched || (step === STEP.back && this.#notable.isWatched)) this.#tell(key, step);
  }

  /** A message has come to its end. */
  ended(key: MessageKey, end: End): void {
    this.#ring.end(key, end, this.#now());
    if (this.#all.isWatched || (TROUBLE.has(end) && this.#notable.isWatched)) this.#tell(key, STEP.ended);
  }

  /** Something else has happened. `tell` is asked only while somebody watches. */
  note(tell: () => Pick<AgentEvent, 'kind' | 'name'> & Partial<AgentEvent>): void {
    if (!this.#all.isWatched && !this.#notable.isWatched) return;
    const event: AgentEvent = {
      at: this.options.clock.monotonic() + this.#offset,
      ...{ key: 0, messageId: '', directive: '', worker: '', detail: '' },
      ...tell(),
    };
    this.#all.push(event);
    if (event.kind !== 'message' || TROUBLE.has(event.name)) this.#notable.push(event);
  }

  /** What happens from now on, until `scope` ends; `isNotable`: of messages only what went wrong. */
  watch(isNotable: boolean, scope: AbortSignal): RingReader<AgentEvent> {
    return (isNotable ? this.#notable : this.#all).watch(scope);
  }

  /** The message of this key, as far as it is remembered. */
  at(key: MessageKey): TracedMessage | undefined {
    const traced = this.#ring.at(key);
    return traced && this.#told(traced, this.#offset);
  }

  /** The messages of this id, and those that answer it, in the order of arrival. */
  of(messageId: string): readonly TracedMessage[] {
    // The same for all of them: the two clocks do not tick together.
    const offset = this.#offset;
    const all = this.#ring.of(messageId);
    const request = all.find(({ kind, messageId: id }) => kind === 'inbound' && id === messageId);
    return all.map((traced) => {
      const first = traced.responseTo === messageId ? (request?.times[STEP.underWay] ?? 0) : 0;
      return this.#told(traced, offset, first);
    });
  }

  /**
   * Arrivals stand on the wall clock, which tells milliseconds only: they never stand behind the step that followed, nor
   * before `first`, a step that came before all of these.
   */
  #told({ times, tries, arrivedAt, ...traced }: Traced, offset: Millis, first = 0): TracedMessage {
    const { kind, key, messageId, responseTo, directive, end } = traced;
    const steps = times
      .flatMap((time, step) => (time === 0 ? [] : [{ name: nameOf(kind, step, end), time, step }]))
      .sort((a, b) => a.time - b.time || a.step - b.step);
    const arrival = Math.min(Math.max(arrivedAt - offset, first === 0 ? -Infinity : first), steps[0]?.time ?? Infinity);
    const arrived = { name: ARRIVAL[kind], time: arrival, step: -1 };
    return {
      ...{ kind, key, messageId, responseTo, directive, end },
      steps: [...(arrivedAt === 0 ? [] : [arrived]), ...steps].map(({ name, time, step }) => ({
        name,
        at: time + offset,
        detail: step === STEP.underWay && tries > 1 ? `try ${tries}` : '',
      })),
    };
  }

  #tell(key: MessageKey, step: Step): void {
    const traced = this.#ring.at(key);
    if (traced === undefined) return;
    const { kind, messageId, responseTo, directive, end, tries } = traced;
    this.note(() => ({
      ...{ kind: 'message', name: nameOf(kind, step, end), key, messageId, directive },
      detail: [
        kind === 'outbound' && responseTo !== '' ? `answers ${responseTo}` : '',
        step === STEP.underWay && tries > 1 ? `try ${tries}` : '',
      ]
        .filter(Boolean)
        .join(', '),
    }));
  }

  /** To ask the clock costs more than all else here (0.24 µs on a virtual machine): steps of one moment share a time. */
  #now(): Millis {
    if (this.#isFresh) return this.#time;
    this.#isFresh = true;
    queueMicrotask(this.#goStale);
    return (this.#time = this.options.clock.monotonic());
  }

  /** From the clock that nobody can set, on which steps stand, to the wall. */
  get #offset(): Millis {
    const { clock } = this.options;
    return clock.now() - clock.monotonic();
  }
}

function nameOf(kind: 'inbound' | 'outbound', step: number, end: End | undefined): string {
  return step === STEP.ended && end !== undefined ? end : (NAMES[kind][step] ?? '');
}
