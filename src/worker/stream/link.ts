/**
 * One Connect call, from Hello to its end: takes the agent's frames apart, gives each part to whom it concerns, and
 * sends at the end of each turn of the event loop what came together in it. An agent that breaks a rule has its call
 * ended, and the worker connects anew.
 */
import { status } from '@grpc/grpc-js';
import {
  type AgentFrame,
  type Delivery as WireDelivery,
  type Hello,
  Refusal_Kind,
  type ResultRefusal,
  type Welcome,
  type WorkerFrame,
} from '../../../protocol/generated/stream.js';
import type { Data, EventNotification } from '../../../protocol/generated/yggdrasil.js';
import { errorText } from '../../errors.js';
import type { Log } from '../../log/log.js';
import { type Backoff, type Clock, fullJitter, type Random, sleep } from '../../time.js';
import { AgentLost, type RefusalKind } from '../delivery.js';
import { Refusal } from '../message.js';
import type { Run } from '../run.js';
import type { Runs } from '../runs.js';
import { Outbox } from './outbox.js';
import { type Parcel, parcelOf, problemOf } from './parcel.js';
import { checkDelivery, checkWelcome, checkWindow, RuleBroken } from './rules.js';
import { type DeliveryStream, StreamDelivery } from './stream-delivery.js';
import { SlotTable } from '../../signal/slot-table.js';
import { Transfer, type TransferOptions } from './transfer.js';
import { Window } from './window.js';

export interface LinkOptions {
  /** What the worker told the agent. */
  readonly hello: Hello;
  /** Makes the call for bodies. */
  readonly openTransfer: TransferOptions['open'];
  readonly runs: Runs;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly onEvent: (event: EventNotification) => void;
  /** The agent's first frame. */
  readonly onWelcome: (welcome: Welcome) => void;
  /** The call is over, for this reason; called once. */
  readonly onEnd: (status: { readonly code: status; readonly details: string }) => void;
}

/** A reply outside a completion that the agent has not answered for. */
interface EarlyResult {
  readonly data: Data;
  readonly parcel: Parcel;
  delays: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** The Connect call, as far as this side acts on it. */
export interface ConnectCall {
  write(frame: WorkerFrame): void;
  /** Nothing more is written; the agent then ends it. */
  end(): void;
  cancel(): void;
}

/** What is done of it comes behind the promises that are settled now. */
const HANDLED = Promise.resolve();

/** What a Hello without a limit means. */
const DEFAULT_BODY: number = 4 * 1024 * 1024;
/** An agent that has no room now is asked again. */
const DELAY: Backoff = { first: 100, cap: 5_000 };
const KINDS: Readonly<Record<RefusalKind, Refusal_Kind>> = {
  failed: Refusal_Kind.FAILED,
  unavailable: Refusal_Kind.UNAVAILABLE,
  invalid: Refusal_Kind.INVALID,
  cancelled: Refusal_Kind.CANCELLED,
};

export class StreamLink implements DeliveryStream {
  /** By tag: those the agent does not know to be over. */
  readonly #deliveries = new SlotTable<StreamDelivery>();
  /** By number. */
  readonly #early = new Map<number, EarlyResult>();
  readonly #outbox = new Outbox();
  /** Deliveries that are not answered. */
  readonly #window: Window;
  readonly #transfer: Transfer;
  /** Ends the timers of this call. */
  readonly #scope = new AbortController();
  #maxResult = Infinity;
  #isWelcome = false;
  #isStopping = false;
  #isScheduled = false;
  #isOver = false;
  #lastNumber = 0;
  readonly #number = (): number => {
    this.#lastNumber = (this.#lastNumber + 1) >>> 0;
    return this.#lastNumber;
  };
  readonly #flushNow = (): void => this.#flush();
  readonly #flushNext = (): void => process.nextTick(this.#flushNow);
  #onDrained: (() => void) | undefined;
  /** Why this side ended the call. */
  #broken: Error | undefined;
  /** Whether anything came of it. */
  wasUseful = false;

  constructor(
    private readonly call: ConnectCall,
    private readonly options: LinkOptions,
  ) {
    const { hello, openTransfer } = options;
    this.#window = new Window(hello.window);
    this.#transfer = new Transfer({
      open: openTransfer,
      bodies: hello.window?.bodies ?? 0,
      maxBody: hello.maxBody === 0n ? DEFAULT_BODY : Number(hello.maxBody),
      onFail: (error) => this.#break(error),
    });
  }

  complete(delivery: StreamDelivery, replies: readonly Data[]): void {
    if (this.#isOver) return;
    for (const { content, messageId } of replies) {
      if (content.length <= this.#maxResult) continue;
      delivery.completed?.rejected(this.#tooLarge(messageId, content.length));
      return;
    }
    const parcel = parcelOf(delivery.tag, replies, this.#number);
    const problem = problemOf(parcel);
    if (problem !== undefined) {
      delivery.completed?.rejected(new Refusal(problem));
      return;
    }
    this.#answered(delivery);
    delivery.parcel = parcel;
    this.#outbox.addParcel(parcel);
    this.#schedule();
  }

  refuse(delivery: StreamDelivery, kind: RefusalKind, reason: string): void {
    if (this.#isOver || !this.#deliveries.delete(delivery.tag)) return;
    this.#answered(delivery);
    this.#outbox.addRefusal({ tag: delivery.tag, kind: KINDS[kind], reason });
    this.#schedule();
    this.#checkDrained();
  }

  /** Hands a reply over outside a completion. */
  send(data: Data): Promise<void> {
    if (this.#isOver) return Promise.reject(new AgentLost('the agent is gone'));
    if (data.content.length > this.#maxResult)
      return Promise.reject(this.#tooLarge(data.messageId, data.content.length));
    return new Promise((resolve, reject) => this.#sendEarly({ data, delays: 0, resolve, reject }));
  }

  /** Answers no ping with health from now on. */
  stopping(): void {
    this.#isStopping = true;
  }

  /** Resolves when nothing is owed to the agent any more, or the call is over. */
  drained(): Promise<void> {
    return new Promise((resolve) => {
      this.#onDrained = resolve;
      this.#checkDrained();
    });
  }

  /** Says that nothing more comes; the agent then ends the call. */
  end(): void {
    this.#flush();
    if (this.#isOver) return;
    this.#transfer.end();
    this.call.end();
  }

  /** Cuts the call off. */
  cancel(): void {
    this.call.cancel();
  }

  /** What the agent sent. */
  receive(frame: AgentFrame): void {
    if (this.#isOver || this.#broken !== undefined) return;
    const isFirst = !this.#isScheduled;
    this.#isScheduled = true;
    try {
      checkWelcome(frame, !this.#isWelcome);
      if (frame.welcome !== undefined) this.#onWelcome(frame.welcome);
      for (const tag of frame.settled) this.#onSettled(tag);
      for (const number of frame.accepted) this.#onAccepted(number);
      for (const refusal of frame.resultRefusals) this.#onResultRefusal(refusal);
      for (const delivery of frame.deliveries) this.#onDelivery(delivery);
      for (const tag of frame.cancels) this.#onCancel(tag);
      for (const event of frame.events) this.options.onEvent(event);
      for (const number of frame.pings) this.#outbox.addPong({ number, serving: !this.#isStopping });
    } catch (error) {
      if (!(error instanceof RuleBroken)) throw error;
      this.#break(error);
    } finally {
      // Behind the handlers that have nothing to wait for: their outcomes go at once, without another turn.
      if (isFirst) void HANDLED.then(this.#flushNext);
    }
  }

  /** The agent sent something that is no frame. */
  receivedNoise(error: unknown): void {
    this.#break(new RuleBroken(`a frame is no AgentFrame: ${errorText(error)}`));
  }

  /** Ends the call because of what the agent did. */
  #break(error: Error): void {
    this.#broken ??= error;
    this.call.cancel();
  }

  #onWelcome(welcome: Welcome): void {
    this.#isWelcome = true;
    this.#outbox.open(new Window(welcome.window));
    this.#transfer.welcome(welcome.token, welcome.window?.bodies);
    if (welcome.maxResult > 0n) this.#maxResult = Number(welcome.maxResult);
    this.options.onWelcome(welcome);
  }

  #onDelivery(wire: WireDelivery): void {
    const { tag, priority } = wire;
    const data = checkDelivery(wire, this.#deliveries.get(tag) !== undefined);
    const load = { messages: 1, bytes: data.content.length, bodies: wire.body === undefined ? 0 : 1 };
    checkWindow(wire, load, this.#window);
    this.#window.take(load);
    this.wasUseful = true;
    const body = wire.body === undefined ? undefined : this.#transfer.expect(tag, Number(wire.body.size));
    const delivery = new StreamDelivery(tag, priority, data, body, load, this);
    this.#deliveries.add(tag, delivery);
    delivery.run = this.options.runs.take(delivery);
  }

  #onSettled(tag: number): void {
    const delivery = this.#deliveries.get(tag);
    if (delivery?.parcel === undefined) throw new RuleBroken(`settled names tag ${tag}, of which nothing is owed`);
    this.#deliveries.delete(tag);
    this.#gone(delivery.parcel);
    delivery.completed?.settled();
    this.#checkDrained();
  }

  #onAccepted(number: number): void {
    const early = this.#early.get(number);
    if (early === undefined) throw new RuleBroken(`accepted names the unknown result ${number}`);
    this.wasUseful = true;
    this.#early.delete(number);
    this.#gone(early.parcel);
    early.resolve();
    this.#checkDrained();
  }

  #onResultRefusal({ number, tag, passing, reason }: ResultRefusal): void {
    if (tag !== undefined) this.#onCompletionRefusal(tag, number, passing, reason);
    else this.#onEarlyRefusal(number, passing, reason);
  }

  #onCompletionRefusal(tag: number, number: number, isPassing: boolean, reason: string): void {
    const delivery = this.#deliveries.get(tag);
    const refused = delivery?.parcel?.results.find((result) => result.number === number);
    // A second refusal of the same completion: the first one was enough.
    if (delivery?.parcel === undefined || refused === undefined) return;
    this.#gone(delivery.parcel);
    delivery.parcel = undefined;
    const what = `reply ${refused.data?.messageId ?? ''} to ${delivery.data.messageId}`;
    if (!isPassing) {
      delivery.completed?.rejected(new Refusal(`the agent does not take ${what}: ${reason}`));
      return;
    }
    this.#later(what, reason, delivery.delays++, () => this.complete(delivery, delivery.replies));
  }

  #onEarlyRefusal(number: number, isPassing: boolean, reason: string): void {
    const early = this.#early.get(number);
    if (early === undefined) throw new RuleBroken(`a refusal of the unknown result ${number}`);
    this.#early.delete(number);
    this.#gone(early.parcel);
    const what = `reply ${early.data.messageId} to ${early.data.responseTo}`;
    if (!isPassing) {
      early.reject(new Refusal(`the agent does not take ${what}: ${reason}`));
      return;
    }
    const again = (): void => this.#sendEarly({ ...early, delays: early.delays + 1 });
    this.#later(what, reason, early.delays, again, () => early.reject(new AgentLost('the agent is gone')));
  }

  #onCancel(tag: number): void {
    // One that is unknown was answered while the cancel was on its way.
    const delivery = this.#deliveries.get(tag);
    if (delivery?.run === undefined) return;
    delivery.isCancelled = true;
    this.options.runs.cancel(delivery.run);
  }

  #sendEarly(early: Omit<EarlyResult, 'parcel'>): void {
    const parcel = parcelOf(undefined, [early.data], this.#number);
    const problem = problemOf(parcel);
    if (problem !== undefined) {
      early.reject(new Refusal(problem));
      return;
    }
    this.#early.set(this.#lastNumber, { ...early, parcel });
    this.#outbox.addParcel(parcel);
    this.#schedule();
  }

  /** Sends the same once more after a back-off, unless the call ends before that. */
  #later(what: string, reason: string, delays: number, again: () => void, onLost: () => void = () => undefined): void {
    const { clock, random, log } = this.options;
    const delay = fullJitter(DELAY, delays, random);
    const line = `the agent did not take ${what}; it is sent again`;
    log.warn('worker.reply_delayed', line, { reason, retry_in_ms: delay });
    sleep(clock, delay, this.#scope.signal).then(again, onLost);
  }

  /** The agent has answered for it: its room is free, and of its bodies nothing more is wanted. */
  #gone(parcel: Parcel): void {
    this.#outbox.free(parcel);
    for (const { number } of parcel.bodies) this.#transfer.stop(number);
  }

  #answered(delivery: StreamDelivery): void {
    if (!delivery.isAnswered) this.#window.give(delivery.load);
    delivery.isAnswered = true;
  }

  #tooLarge(messageId: string, size: number): Refusal {
    return new Refusal(`reply ${messageId} has ${size} bytes: more than the ${this.#maxResult} that the agent takes`);
  }

  #schedule(): void {
    if (this.#isScheduled || this.#isOver || !this.#outbox.isReady) return;
    this.#isScheduled = true;
    setImmediate(this.#flushNow);
  }

  #flush(): void {
    this.#isScheduled = false;
    if (this.#isOver) return;
    // What the peer has not read yet is bounded by its own window, so a full buffer here needs no waiting.
    for (let taken = this.#outbox.take(); taken !== undefined; taken = this.#outbox.take()) {
      this.call.write(taken.frame);
      for (const { bodies } of taken.parcels) {
        for (const { number, content } of bodies) this.#transfer.send(number, content);
      }
    }
  }

  #checkDrained(): void {
    if (this.#isOver || this.#deliveries.size === 0) this.#onDrained?.();
  }

  /** The call has ended. */
  over({ code, details }: { readonly code: status; readonly details: string }): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#scope.abort();
    this.#transfer.close();
    const lost: { run: Run; delivery: StreamDelivery }[] = [];
    for (const delivery of this.#deliveries.values()) {
      if (delivery.run !== undefined) lost.push({ run: delivery.run, delivery });
    }
    this.#deliveries.clear();
    this.options.runs.lose(lost);
    for (const early of this.#early.values()) early.reject(new AgentLost('the agent is gone'));
    this.#early.clear();
    this.#checkDrained();
    this.options.onEnd(this.#broken === undefined ? { code, details } : brokenStatus(this.#broken));
  }
}

function brokenStatus(error: Error): { code: status; details: string } {
  const rule = error instanceof RuleBroken ? 'the agent broke a rule of the stream: ' : '';
  return { code: status.INVALID_ARGUMENT, details: rule + error.message };
}
