/**
 * One worker's queue: takes what is ready from the store while the link is up and there is room, and turns each answer
 * into the step that plan.ts names. The store holds the messages; here are only the calls in flight. Invariants: a
 * message is in flight once at most; nothing is called while a death is being judged; every call ends in exactly one of
 * delivered, failed, dead or requeued.
 */
import { crashPoint } from '../crash-point.js';
import type { DirectiveKey, MessageKey } from '../message/ids.js';
import type { InboundRecord } from '../message/record.js';
import { SlotTable } from '../signal/slot-table.js';
import { fullJitter, type Millis } from '../time.js';
import { Blame } from './blame.js';
import type { Link } from './link-port.js';
import { Flight, type Lane, type QueueOptions } from './flight.js';
import { Outcomes } from './outcomes.js';
import {
  afterFailure,
  isOldestTurn,
  judgeDeath,
  onUnreadable,
  RETRY,
  turnOrder,
  verdictOn,
  workerLimit,
} from './plan.js';
import type { Answer, Report, Verdict } from './plan.js';

/** How long the last bytes of a worker that died may take to be read before its calls count as unanswered. */
const LAST_WORDS: Millis = 1000;

const NO_BYTES = Buffer.alloc(0);

const OLDEST = { oldest: true };
const FIRST = { oldest: false };

const PROCESS_ENDED = 'the process of the worker has ended';

export class WorkerQueue {
  readonly #lanes = new Map<DirectiveKey, Lane>();
  /** The lanes as a list, and the most calls that any of them may have at once. */
  #loads: readonly Lane[] = [];
  #limit = 0;
  readonly #flights = new SlotTable<Flight>();
  /** Those of them that are open. */
  #open = 0;
  readonly #blame: Blame;
  readonly #outcomes: Outcomes;
  #link: Link | undefined;
  #last: DirectiveKey | undefined;
  #death: { readonly isBlameless: boolean; readonly link: Link | undefined } | undefined;
  #isDraining = false;
  #isCondemned = false;
  #whenIdle: (() => void)[] = [];
  readonly #hasKey = (key: MessageKey): boolean => this.has(key);
  /** What is told of a call: one function for all flights. */
  readonly #reported = (flight: Flight, report: Report): void => {
    if (report.kind !== 'written' && report.kind !== 'unwritten') this.#answered(flight, report);
    else if (flight.state !== 'completed') return;
    else if (report.kind === 'written') this.#outcomes.written(flight.record);
    else this.#outcomes.unwritten(report.error);
  };

  constructor(private readonly options: QueueOptions) {
    this.#blame = new Blame((key) => options.store.inbound(key) !== undefined);
    this.#outcomes = new Outcomes(options);
  }

  /** No call is in flight. */
  get isIdle(): boolean {
    return this.#flights.size === 0;
  }

  has(key: MessageKey): boolean {
    return this.#flights.get(key) !== undefined;
  }

  /** Serves a directive with at most `limit` calls at once, from now on. */
  serve(directive: DirectiveKey, limit: number): void {
    const lane = this.#lanes.get(directive);
    if (lane !== undefined) lane.limit = limit;
    else this.#lanes.set(directive, { directive, limit, inFlight: 0, isPaused: false, turn: 0, setbacks: 0 });
    this.#lanesChanged();
  }

  /** Serves a directive no more; its calls in flight end by themselves. */
  forsake(directive: DirectiveKey): void {
    this.#lanes.delete(directive);
    this.#lanesChanged();
  }

  /** Uses this link from now on. */
  attach(link: Link): void {
    this.#link = link;
  }

  /** The link is up, for the first time or again: what broke with the old connection goes back to its place. */
  linkReady(): void {
    if (this.#death === undefined) this.#judgeCut();
    this.pump();
  }

  /** The worker is about to be stopped for its own fault: it is given nothing more. */
  condemn(): void {
    this.#isCondemned = true;
  }

  /** There may be something for the worker. A link that asks for it soon is not asked now. */
  wake(): void {
    if (this.#link?.asksSoon() !== true) this.pump();
  }

  /** Gives the worker what it can take now. */
  pump(): void {
    while (!this.#isHeld() && this.#link?.isReady === true && this.#link.hasRoom) {
      if (this.#flights.size >= (this.#isAlone() ? workerLimit(this.#loads, true) : this.#limit)) return;
      if (!this.#takeNext(turnOrder(this.#loads, this.#last), this.#link)) return;
    }
  }

  /** Whether one message goes at a time: one of them is, or may be, to blame. */
  #isAlone(): boolean {
    return !this.#blame.isQuiet && (this.#blame.hasSuspects || this.#blame.isAnyGuilty(this.#hasKey));
  }

  #lanesChanged(): void {
    this.#loads = [...this.#lanes.values()];
    this.#limit = workerLimit(this.#loads, false);
  }

  /**
   * The worker's process has died. Its last answers may still be on the way; when they are in, what has none is judged.
   * A link attached from now on belongs to the next incarnation and waits for that.
   */
  died(isBlameless: boolean): void {
    this.#isCondemned = false;
    if (this.#death !== undefined) {
      // The incarnation after it died too, before it was given anything.
      this.#link?.close(PROCESS_ENDED);
      this.#link = undefined;
      return;
    }
    this.#death = { isBlameless, link: this.#link };
    this.#link = undefined;
    this.#judge();
    if (this.#open === 0) return;
    // A child that outlived the worker may hold the connection open.
    this.options.clock.after(LAST_WORDS, () => this.#breakOff(), this.options.scope);
  }

  /** Begins nothing more; resolves when no call is in flight and all that ended is written. */
  async drain(): Promise<void> {
    this.#isDraining = true;
    while (this.#open > 0) await new Promise<void>((resolve) => this.#whenIdle.push(resolve));
    await this.#outcomes.allWritten();
  }

  /** Breaks off what is still in flight: it stays ready in the store and counts nothing. */
  halt(): void {
    this.#isDraining = true;
    for (const flight of this.#flights.values()) {
      this.#requeue(flight);
      flight.cancel?.();
    }
    // The worker has ended, and its last words are not waited for: another process may hold its connection open.
    this.#death?.link?.close(PROCESS_ENDED);
    this.#link = undefined;
    this.#wakeIdle();
  }

  #takeNext(lanes: readonly Lane[], link: Link): boolean {
    for (const lane of lanes) {
      const record = this.options.store.nextReady(lane.directive, isOldestTurn(lane.turn) ? OLDEST : FIRST);
      if (record === undefined) continue;
      // The others wait too: were they to go on, its turn would never come.
      if (this.#flights.size > 0 && this.#blame.isGuilty(record.key)) return false;
      const problem = link.problemWith(record);
      const room = problem === undefined ? link.roomFor(record) : 'here';
      // Nor is one passed by for which the window is too full just now: small ones would keep it full.
      if (room === 'none') return false;
      if (room === 'not-for-it') continue;
      lane.turn += 1;
      this.#last = lane.directive;
      this.options.store.markDispatching(record.key);
      if (problem === undefined) this.#dispatch(record, lane, link);
      else this.#outcomes.dead(record, { code: 'too-large', text: problem });
      return true;
    }
    return false;
  }

  #dispatch(record: InboundRecord, lane: Lane, link: Link): void {
    const flight = new Flight(record, lane, link, this.#reported);
    this.#flights.add(record.key, flight);
    this.#open += 1;
    this.options.onDispatch(record);
    lane.inFlight += 1;
    if (this.options.log.isEnabled('debug')) {
      const { key, messageId } = record;
      this.options.log.debug('dispatcher.dispatching', 'a message goes to its worker', { key, messageId });
    }
    if (record.content.kind === 'inline') this.#call(flight, record.content.bytes);
    else if (link.takesFiles) this.#call(flight, NO_BYTES);
    else this.#outcomes.track(this.#readAndCall(flight));
  }

  async #readAndCall(flight: Flight): Promise<void> {
    const { record } = flight;
    try {
      const content = await this.options.store.readContent(record.content);
      if (this.#flights.get(record.key) !== flight) return;
      if (this.#link === flight.link && flight.link.isReady) this.#call(flight, content);
      else this.#requeue(flight);
    } catch (error) {
      this.#land(flight);
      this.#act(flight, onUnreadable(error, record.attempts, this.options.maxAttempts));
    }
    this.#settled();
  }

  #call(flight: Flight, content: Buffer): void {
    FAULT: crashPoint('dispatch.before-call');
    const deadline = this.options.deadline();
    if (deadline !== undefined) {
      flight.answered = new AbortController();
      this.options.clock.after(deadline, () => this.#overdue(flight), flight.answered.signal);
    }
    flight.cancel = flight.link.send(flight, content);
  }

  #overdue(flight: Flight): void {
    flight.isOverdue = true;
    this.options.onOverdue(flight.record.messageId);
  }

  #answered(flight: Flight, answer: Answer): void {
    // Requeued by halt, or broken off: its cancelled call reports once more.
    if (flight.state !== 'open' || this.#flights.get(flight.record.key) !== flight) return;
    flight.answered?.abort();
    if (answer.kind === 'receipt' && answer.response.length > 0) {
      // The second generation may answer with bytes; its results come by Send all the same.
      this.options.log.debug('dispatcher.response_ignored', 'the bytes in the answer of a worker are not used', {
        key: flight.record.key,
        size: answer.response.length,
      });
    }
    const verdict = verdictOn(answer, flight.record.attempts, this.options.maxAttempts);
    if (verdict.kind === 'broken') this.#broke(flight);
    else {
      this.#land(flight);
      this.#act(flight, verdict);
    }
    this.#settled();
  }

  /** After anything that ended a call. */
  #settled(): void {
    this.#judge();
    this.#wakeIdle();
    this.wake();
  }

  #act(flight: Flight, verdict: Verdict): void {
    const { record, lane } = flight;
    switch (verdict.kind) {
      case 'delivered':
        FAULT: crashPoint('dispatch.receipt');
        lane.setbacks = 0;
        this.#blame.forget(record.key);
        this.#outcomes.delivered(record);
        return;
      case 'completed':
        lane.setbacks = 0;
        this.#blame.forget(record.key);
        flight.state = 'completed';
        this.#outcomes.begun();
        return;
      case 'cancelled':
        this.#blame.forget(record.key);
        this.#outcomes.cancelled(record);
        return;
      case 'unavailable':
        this.options.store.requeue(record.key);
        this.#pause(lane);
        return;
      case 'broken':
        this.options.store.requeue(record.key);
        return;
      case 'retry':
        this.#blame.answered(record.key);
        this.#outcomes.retry(record);
        return;
      case 'dead':
        this.#blame.forget(record.key);
        this.#outcomes.dead(record, { code: 'worker-failed', text: verdict.text });
        return;
    }
  }

  #requeue(flight: Flight): void {
    this.#land(flight);
    if (this.options.store.inbound(flight.record.key) !== undefined) this.options.store.requeue(flight.record.key);
  }

  #land(flight: Flight): void {
    flight.answered?.abort();
    if (!this.#flights.delete(flight.record.key)) return;
    flight.lane.inFlight -= 1;
    if (flight.state === 'open') this.#open -= 1;
  }

  /** Its call has ended without an answer; it stays in hand until that is judged. */
  #broke(flight: Flight): void {
    if (flight.state === 'open') this.#open -= 1;
    flight.state = 'broken';
  }

  /** Holds a directive back for a while; the others of the worker go on. */
  #pause(lane: Lane): void {
    if (lane.isPaused) return;
    lane.isPaused = true;
    const { clock, random, scope } = this.options;
    clock.after(
      fullJitter(RETRY, lane.setbacks, random),
      () => {
        lane.isPaused = false;
        this.pump();
      },
      scope,
    );
    lane.setbacks += 1;
  }

  #isHeld(): boolean {
    return this.#isDraining || this.#isCondemned || this.#death !== undefined;
  }

  #breakOff(): void {
    if (this.#death === undefined) return;
    for (const flight of this.#flights.values()) {
      if (flight.state !== 'open') continue;
      this.#broke(flight);
      flight.cancel?.();
    }
    this.#settled();
  }

  #judge(): void {
    const death = this.#death;
    if (death === undefined || this.#open > 0) return;
    this.#death = undefined;
    const unanswered = this.#flights.values();
    const judged = judgeDeath(
      unanswered.map(({ record, isOverdue }) => ({ key: record.key, isOverdue })),
      death.isBlameless,
    );
    const text = (isOverdue: boolean): string =>
      isOverdue ? 'the worker did not answer before the deadline' : 'the worker died while it had this message';
    if (judged.guilty.length > 0) this.#blame.clearSuspects();
    this.#blame.suspect(judged.suspects);
    for (const flight of unanswered) {
      if (judged.guilty.includes(flight.record.key)) {
        if (!flight.isOverdue) this.#blame.died(flight.record.key);
        this.#fail(flight, text(flight.isOverdue));
      } else this.#requeue(flight);
    }
    death.link?.close(PROCESS_ENDED);
    this.pump();
  }

  /** The worker lives and is back: what its cut broke off goes to its place again, unless this went on too long. */
  #judgeCut(): void {
    const broken = this.#flights.values().filter(({ state }) => state === 'broken');
    const isAlone = this.#flights.size === 1;
    if (!isAlone) this.#blame.suspect(broken.map(({ record }) => record.key));
    for (const flight of broken) {
      if (isAlone && this.#blame.cut(flight.record.key)) {
        this.#fail(flight, 'the worker cut the connection again and again while it had this message');
      } else {
        this.#requeue(flight);
        this.#pause(flight.lane);
      }
    }
  }

  /** Counts an attempt of a call that had no answer. */
  #fail(flight: Flight, text: string): void {
    this.#land(flight);
    this.#act(flight, afterFailure(flight.record.attempts, this.options.maxAttempts, text));
  }

  #wakeIdle(): void {
    if (this.#whenIdle.length > 0) for (const wake of this.#whenIdle.splice(0)) wake();
  }
}
