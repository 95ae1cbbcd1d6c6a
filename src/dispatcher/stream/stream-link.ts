/**
 * A worker's stream as the way to it: deliveries go out while the window has room, and each ends by the worker's
 * completion or refusal, or with the stream. A tag, and its place in the window, is free again when what the worker
 * said of it is durable: so what waits for the journal is bounded too.
 */
import type { Completion, Refusal, Result, WorkerFrame } from '../../../protocol/generated/stream.js';
import { status } from '@grpc/grpc-js';
import type { Event } from '../../../protocol/generated/yggdrasil.js';
import type { MessageKey } from '../../message/ids.js';
import { contentSize, type InboundRecord } from '../../message/record.js';
import { SlotTable } from '../../signal/slot-table.js';
import type { Clock, Millis } from '../../time.js';
import type { Call, Health, Link, Room } from '../link-port.js';
import type { FileContent } from '../ports.js';
import type { Books } from './books.js';
import { LaneOrder, type Outcome } from './lane-order.js';
import type { Outbox } from './outbox.js';
import type { OutgoingBodies } from './outgoing.js';
import type { Batch, Declined, Results } from './results.js';
import { answerFrom, laneOf, loadOf, StreamFlight, WRITTEN, type CommitPort } from './stream-flight.js';
import { MOST_EMPTY, Violation } from './violation.js';
import { Window, type Load, type WindowLimits } from './window.js';

/** Tags count up to here and begin anew: so one is not soon used again. */
const LAST_TAG = 2 ** 31 - 1;

/** Of results that answer nothing in flight. */
const OWN_LANE = '';

export interface StreamLinkOptions {
  readonly outbox: Outbox;
  readonly books: Books;
  readonly results: Results;
  /** Of deliveries. */
  readonly bodies: OutgoingBodies;
  readonly clock: Clock;
  /** Deliveries. */
  readonly window: WindowLimits;
  /** Bytes of the largest content the worker takes. */
  readonly maxBody: number;
  /** Ends the call, when the agent wants that. */
  readonly end: (reason: string) => void;
}

export class StreamLink implements Link {
  readonly transport = 'stream';
  readonly takesFiles = true;
  readonly #window: Window;
  /** By tag. */
  readonly #flights = new SlotTable<StreamFlight>();
  readonly #order = new LaneOrder();
  readonly #pings = new Map<number, (health: Health) => void>();
  #lastTag = 0;
  #lastPing = 0;
  #empties = 0;
  #isOpen = true;
  #whenSettled: (() => void) | undefined;
  readonly #commits: CommitPort = {
    durable: (flight) => {
      flight.tell(WRITTEN);
      this.#settle(flight);
    },
    failed: (flight, error) => {
      flight.tell({ kind: 'unwritten', error });
      // The store tries again until it is through: only then is the worker told.
      void this.options.books.recorded(flight.record.key).then(() => this.#settle(flight));
    },
  };

  constructor(private readonly options: StreamLinkOptions) {
    this.#window = new Window(options.window);
  }

  get isReady(): boolean {
    return this.#isOpen;
  }

  get hasRoom(): boolean {
    return !this.#window.isFull;
  }

  problemWith(record: InboundRecord): string | undefined {
    const size = contentSize(record.content);
    const { maxBody } = this.options;
    if (size <= maxBody) return undefined;
    return `the message has ${size} bytes of content and the worker of ${record.directive} takes ${maxBody}`;
  }

  /** The outbox gathers soon after it is asked to. */
  asksSoon(): boolean {
    if (!this.#isOpen || !this.options.outbox.isOpen) return false;
    this.options.outbox.schedule();
    return true;
  }

  roomFor(record: InboundRecord): Room {
    return this.#window.roomFor(loadOf(record));
  }

  /** Nothing of it can be broken off: what comes of it later is for nobody. */
  send(call: Call, content: Buffer): undefined {
    const tag = this.#nextTag();
    const flight = new StreamFlight(tag, call, content, this.#commits);
    this.#flights.add(tag, flight);
    this.#window.take(flight);
    this.options.outbox.put(flight);
    const stored = call.record.content;
    if (stored.kind === 'file') this.#sendBody(flight, stored);
  }

  #sendBody(flight: StreamFlight, stored: FileContent): void {
    // The worker is told by the body's last chunk, and still settles the delivery; one that is being committed needs no body.
    this.options.bodies.send(flight.tag, stored, (error) => {
      if (!flight.isDecided) flight.tell({ kind: 'unreadable', error });
    });
  }

  giveUp(key: MessageKey): boolean {
    const flight = this.#flights.find(({ record }) => record.key === key);
    if (flight?.state !== 'open') return false;
    if (!flight.isCancelled) this.options.outbox.put({ kind: 'cancel', tag: flight.tag });
    flight.isCancelled = true;
    return true;
  }

  check(timeout: Millis): Promise<Health> {
    if (!this.#isOpen) return Promise.resolve('unknown');
    this.#lastPing += 1;
    const number = this.#lastPing;
    return new Promise((resolve) => {
      const answered = new AbortController();
      const answer = (health: Health): void => {
        this.#pings.delete(number);
        answered.abort();
        resolve(health);
      };
      this.#pings.set(number, answer);
      this.options.outbox.ping(number);
      this.options.clock.after(timeout, () => answer('silence'), answered.signal);
    });
  }

  notify(event: Event): Promise<boolean> {
    if (this.#isOpen) this.options.outbox.put({ kind: 'event', event });
    return Promise.resolve(this.#isOpen);
  }

  close(reason: string): void {
    this.options.end(reason);
    this.gone();
  }

  /** What the worker sent. Throws a Violation. */
  receive(frame: WorkerFrame): void {
    const { hello, completions, refusals, results, pongs } = frame;
    if (hello !== undefined) throw new Violation('Hello stands in the first frame and in no other');
    const size = completions.length + refusals.length + results.length + pongs.length;
    this.#empties = size === 0 ? this.#empties + 1 : 0;
    if (this.#empties > MOST_EMPTY) throw new Violation('too many empty frames');
    for (const result of results) this.#result(result);
    for (const completion of completions) this.#completion(completion);
    for (const refusal of refusals) this.#refusal(refusal);
    for (const { number, serving } of pongs) this.#pong(number, serving);
  }

  /**
   * The worker says nothing more, but what it said still takes effect: what it left open is broken off, and `then` is
   * called when all else is durable.
   */
  drain(then: () => void): void {
    this.#whenSettled = then;
    this.#isOpen = false;
    for (const flight of this.#flights.values()) if (flight.state === 'open') this.#breakOff(flight);
    this.#wake();
  }

  /** The stream is gone: all is broken off that is not being committed. */
  gone(): void {
    this.#isOpen = false;
    this.#whenSettled = undefined;
    for (const answer of [...this.#pings.values()]) answer('unknown');
    for (const flight of this.#flights.values()) if (!flight.isDecided) this.#breakOff(flight);
  }

  #breakOff(flight: StreamFlight): void {
    this.#land(flight);
    const details = 'the stream has ended';
    flight.tell({ kind: 'status', code: status.UNAVAILABLE, details, isConnected: false });
  }

  #completion({ tag, results }: Completion): void {
    const flight = this.#open(tag);
    // Nearly always nothing holds it back: then it needs no place in an order.
    if (this.#order.isIdle && results.every(isWhole)) {
      const batch = this.options.results.take(results);
      if ('kind' in batch) {
        this.#declined(flight, batch);
        return;
      }
      flight.state = 'settling';
      this.#complete(flight, batch);
      return;
    }
    this.#completeInOrder(flight, results);
  }

  #completeInOrder(flight: StreamFlight, results: readonly Result[]): void {
    this.#inOrder(laneOf(flight.record), results, {
      declined: (declined) => this.#declined(flight, declined),
      begun: () => (flight.state = 'settling'),
      run: (batch) => this.#complete(flight, batch),
    });
  }

  /** Nothing of a completion was taken: it is still owed. */
  #declined(flight: StreamFlight, { number, isPassing, reason }: Declined): void {
    flight.state = 'open';
    this.options.outbox.refused({ number, tag: flight.tag, passing: isPassing, reason });
    if (!this.#isOpen) this.#breakOff(flight);
    this.#wake();
  }

  /** Takes results in, and does `run` with them in their turn of the lane, once they are whole; or they are declined. */
  #inOrder(
    lane: string,
    results: readonly Result[],
    {
      declined,
      begun,
      run,
    }: {
      readonly declined: (declined: Declined) => void;
      /** They are taken in: before `run`, which may be at once. */
      readonly begun?: () => void;
      readonly run: (batch: Batch) => void;
    },
  ): void {
    const outcome: Outcome = { isReady: false, run: () => undefined };
    const batch = this.options.results.begin(
      results,
      () => this.#order.ready(lane, outcome),
      (reason) => {
        this.#order.drop(lane, outcome);
        declined(reason);
      },
    );
    if ('kind' in batch) {
      declined(batch);
      return;
    }
    begun?.();
    outcome.isReady = batch.missing.size === 0;
    outcome.run = () => run(batch);
    this.#order.add(lane, outcome);
  }

  #complete(flight: StreamFlight, batch: Batch): void {
    const { books, results } = this.options;
    const booking = books.complete(flight.record.key, batch.results, flight);
    if (booking.kind === 'full') {
      results.discard(batch);
      const number = batch.given[booking.index]?.number ?? 0;
      this.#declined(flight, { kind: 'declined', number, isPassing: true, reason: booking.reason });
      return;
    }
    results.handOver(batch);
    flight.decided(batch);
  }

  /** What the worker said of it is durable. */
  #settle(flight: StreamFlight): void {
    const { batch } = flight;
    if (batch !== undefined) this.options.results.end(batch);
    this.options.outbox.settled(flight.tag, batch !== undefined && isBulky(batch));
    this.#land(flight);
    this.#wake();
  }

  #result(result: Result): void {
    const { outbox } = this.options;
    const { number } = result;
    const lane = this.#laneOfAnswer(result);
    const declined = ({ isPassing, reason }: Declined): void => {
      outbox.refused({ number, passing: isPassing, reason });
      this.#wake();
    };
    this.#inOrder(lane, [result], { declined, run: (batch) => this.#accept(number, batch, declined) });
  }

  #accept(number: number, batch: Batch, declined: (declined: Declined) => void): void {
    const { books, outbox, results } = this.options;
    const [received] = batch.results;
    if (received === undefined) return;
    const booking = books.accept(received);
    if (booking.kind === 'full') {
      results.discard(batch);
      declined({ kind: 'declined', number, isPassing: true, reason: booking.reason });
      return;
    }
    results.handOver(batch);
    booking.durable.then(
      () => {
        results.end(batch);
        outbox.accepted(number);
        this.#wake();
      },
      () => {
        results.discard(batch);
        declined({ kind: 'declined', number, isPassing: true, reason: 'the agent could not write it down' });
      },
    );
  }

  /** The lane of the message it answers, while that is in flight: a handler's results keep their order with its end. */
  #laneOfAnswer({ data }: Result): string {
    if (data === undefined || data.responseTo === '') return OWN_LANE;
    const answered = this.#flights.find(({ record }) => record.messageId === data.responseTo);
    return answered === undefined ? OWN_LANE : laneOf(answered.record);
  }

  #refusal({ tag, kind, reason }: Refusal): void {
    const flight = this.#open(tag);
    const answer = answerFrom(kind, reason);
    if (answer.kind === 'cancelled' && !flight.isCancelled) {
      throw new Violation(`the delivery ${tag} was refused as cancelled and was not`);
    }
    this.#land(flight);
    flight.tell(answer);
  }

  #pong(number: number, isServing: boolean): void {
    if (number === 0 || number > this.#lastPing) throw new Violation(`the pong ${number} answers no ping`);
    // One that comes too late is of no use any more.
    this.#pings.get(number)?.(isServing ? 'serving' : 'not-serving');
  }

  #open(tag: number): StreamFlight {
    const flight = this.#flights.get(tag);
    if (flight === undefined) throw new Violation(`no delivery ${tag} is in flight`);
    if (flight.state !== 'open') throw new Violation(`the delivery ${tag} was settled before`);
    return flight;
  }

  /** Its tag and its place are free. */
  #land(flight: StreamFlight): void {
    if (!this.#flights.delete(flight.tag)) return;
    if (flight.bodies > 0) this.options.bodies.stop(flight.tag);
    this.#window.give(flight);
  }

  #wake(): void {
    if (this.#whenSettled === undefined || this.#flights.size > 0 || !this.options.results.isIdle) return;
    const then = this.#whenSettled;
    this.#whenSettled = undefined;
    then();
  }

  #nextTag(): number {
    do this.#lastTag = this.#lastTag === LAST_TAG ? 1 : this.#lastTag + 1;
    while (this.#flights.get(this.#lastTag) !== undefined);
    return this.#lastTag;
  }
}

/**
 * Whether results take so much of their window that the worker may wait for it: all that ride (outbox.ts) take a quarter
 * at most.
 */
function isBulky({ messages, bytes, bodies }: Load): boolean {
  return bodies > 0 || messages > 4 || bytes > 16 * 1024;
}

function isWhole({ body }: Result): boolean {
  return body === undefined;
}
