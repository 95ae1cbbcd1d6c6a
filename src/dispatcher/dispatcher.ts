/**
 * The Dispatcher: the gRPC services on Unix sockets and one queue per worker. It gives ready messages to the workers
 * that registered for them and takes their results. Each worker has a socket of its own, so it is known by where it
 * calls; one that is slow, hung or missing holds up nobody else. Messages stay in the store; what is here can be lost.
 */
import { status } from '@grpc/grpc-js';
import { Event, type Config, type Data } from '../../protocol/generated/yggdrasil.js';
import { crashPoint } from '../crash-point.js';
import { AgentError } from '../errors.js';
import type { Log } from '../log/log.js';
import type { Directive, DirectiveKey, MessageKey, WorkerName } from '../message/ids.js';
import { Signal } from '../signal/index.js';
import type { Clock, Millis, Random } from '../time.js';
import { resultFromData } from './codec.js';
import { Door, openPeerReader, type PeerReader } from './peer.js';
import { decideRegistration, decideRelease, type ReleaseDecision } from './plan.js';
import { DEFAULT_LIMITS } from './ports.js';
import type {
  AgentConfig,
  DispatchLimits,
  DispatchSettings,
  DispatchStore,
  Outcome,
  Peer,
  Preparation,
  ProcessExit,
} from './ports.js';
import { Seat } from './seat.js';
import { resultBooks } from './result-books.js';
import { Refusal, serve } from './service.js';
import type { Books } from './stream/books.js';
import { Streams } from './stream/streams.js';
import { makeWorkersDirectory, socketsOf, type WorkerSockets } from './socket.js';

/** A stream that does not say whose it is by then is ended. */
const HELLO_WITHIN: Millis = 10_000;

export interface DispatcherOptions {
  /** Sockets live under `w/` in it. */
  readonly runtimeDir: string;
  /** Whether a worker's executable is still there; one that is gone owns no handler. Default: it is. */
  readonly isInstalled?: (name: WorkerName) => boolean;
  /** What is wrong with the way to a directory, if others could change it. Default: nothing. */
  readonly wayProblem?: (directory: string) => Promise<string | undefined>;
  readonly store: DispatchStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Whether a process that connected is this worker's, asked where koffi is. Default: whoever gets to the socket is. */
  readonly isPeer?: (name: WorkerName, peer: Peer) => boolean;
  /** Asked at each GetConfig, so that a reload shows. */
  readonly agentConfig: () => AgentConfig;
  readonly limits?: Partial<DispatchLimits>;
}

export interface HandlerOfWorker {
  readonly name: WorkerName;
  readonly directive: Directive;
}

export class Dispatcher {
  /** A worker registered a handler, or registered it again. */
  readonly workerRegister: Signal<HandlerOfWorker>;
  /** A handler is gone: at once when its worker was stopped or removed, else after the grace of a crash. */
  readonly workerUnregister: Signal<HandlerOfWorker>;
  /** A worker must be stopped: it hangs past its deadline, or says itself that it is not well. */
  readonly workerUnhealthy: Signal<{ readonly name: WorkerName; readonly reason: string }>;
  /** What became of a message: durable when this is emitted. */
  readonly dataDispatch: Signal<{ readonly key: MessageKey; readonly outcome: Outcome }>;
  /** A worker's result is on stable storage. */
  readonly dataReturn: Signal<MessageKey>;

  readonly #limits: DispatchLimits;
  readonly #seats = new Map<WorkerName, Seat>();
  /** Who was found to hold a directive: asked for with every message, and asked whether it still does. */
  readonly #holders = new Map<DirectiveKey, Seat>();
  /** Preparations and removals of one worker go one after the other. */
  readonly #turns = new Map<WorkerName, Promise<unknown>>();
  /** Opened before the first socket is there. */
  #readPeer: Promise<PeerReader | undefined> | undefined;
  #isStopped = false;

  constructor(private readonly options: DispatcherOptions) {
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    const failed = (error: unknown, signal: string): void =>
      options.log.error('dispatcher.handler_failed', `a handler of ${signal} failed`, { error });
    this.workerRegister = new Signal('worker-register', failed);
    this.workerUnregister = new Signal('worker-unregister', failed);
    this.workerUnhealthy = new Signal('worker-unhealthy', failed);
    this.dataDispatch = new Signal('data-dispatch', failed);
    this.dataReturn = new Signal('data-return', failed);
  }

  /** Makes the directory of sockets; throws `runtime.unusable` or `runtime.path_too_long` when it cannot. */
  async start(scope: AbortSignal): Promise<void> {
    scope.throwIfAborted();
    await makeWorkersDirectory(this.options.runtimeDir, this.options.wayProblem);
  }

  /**
   * Makes the socket of a worker, before it is spawned, and gives the address for YGG_SOCKET_ADDR. The same worker may
   * be prepared again, with other settings. Throws `runtime.path_too_long`, `runtime.unusable` or `worker.config`.
   *
   * @example const { address } = await dispatcher.prepare({ name, settings, uid: 1000, gid: 1000 });
   */
  async prepare(preparation: Preparation): Promise<{ readonly address: string }> {
    const { name, settings, uid, gid } = preparation;
    const sockets = socketsOf(this.options.runtimeDir, name, settings.socket);
    const owner = uid === undefined || gid === undefined ? undefined : { uid, gid };
    return this.#inTurn(name, async () => {
      if (this.#isStopped) {
        throw new AgentError('runtime.unusable', `cannot prepare ${name}: the agent is stopping`, { name });
      }
      const seat = await this.#seatFor(name, sockets, settings);
      await seat.open(settings, owner);
      return { address: `unix:${seat.sockets.dispatcher.announced}` };
    });
  }

  /** A message is ready: its worker gets it when its turn comes. Unknown keys and missing workers are no error. */
  enqueue(key: MessageKey): void {
    const record = this.options.store.inbound(key);
    if (record !== undefined) this.#holderOf(record.directiveKey)?.queue.wake();
  }

  /** A worker's process was started. It makes itself known by registering, so there is nothing to do yet. */
  processSpawned(spawned: { readonly name: WorkerName }): void {
    this.options.log.debug('dispatcher.awaits', `waiting for ${spawned.name} to register`);
  }

  /** A worker's process has ended: what it had in flight is judged, and its handlers go. */
  processDied(exit: ProcessExit): void {
    this.#seats.get(exit.name)?.died(exit);
    if (exit.isRemoved) {
      this.forget(exit.name).catch((error: unknown) =>
        this.options.log.error('dispatcher.forget_failed', `the sockets of ${exit.name} could not be removed`, {
          error,
        }),
      );
    }
  }

  /** A worker's executable is gone: its socket is removed and its handlers are free for others. */
  async forget(name: WorkerName): Promise<void> {
    await this.#inTurn(name, async () => {
      const seat = this.#seats.get(name);
      seat?.died({ name, isStopped: true, isRemoved: true });
      this.#seats.delete(name);
      await seat?.close();
      this.options.store.workers.remove(name);
      await this.options.store.releaseOwner(name);
    });
  }

  /**
   * Takes a handler from the worker that has it registered or owns it, so that another one may register it. What that
   * worker has in flight comes to its end. Rejects with `journal.write_failed`, and then nothing has changed.
   */
  async release(handler: string): Promise<ReleaseDecision> {
    const decision = decideRelease({
      handler,
      holderOf: (directive) => this.#nameWhere((seat) => seat.holds(directive)),
      ownerOf: (directive) => this.options.store.ownerOf(directive),
      binds: (worker, directive) => this.#seats.get(worker)?.binds(directive) ?? false,
    });
    if (decision.kind !== 'released') return decision;
    const { directive, worker } = decision;
    const owner = this.options.store.ownerOf(directive);
    if (owner !== undefined) await this.options.store.releaseOwner(owner, directive);
    this.options.log.info('dispatcher.handler_released', `the handler ${directive} was taken from ${worker} by hand`);
    this.#seats.get(worker)?.cede(directive);
    return decision;
  }

  /** How many messages a worker has handled since the start, and in the last minute. */
  traffic(name: WorkerName): { readonly delivered: number; readonly perMinute: number } {
    const meter = this.#seats.get(name)?.meter;
    return { delivered: meter?.total ?? 0, perMinute: meter?.lastMinute(this.options.clock.monotonic()) ?? 0 };
  }

  /** The broker asked for a disconnect. */
  notifyDisconnectCommand(): void {
    this.#notifyAll(Event.RECEIVED_DISCONNECT);
  }

  notifyConnectionLost(): void {
    this.#notifyAll(Event.UNEXPECTED_DISCONNECT);
  }

  notifyConnectionRestored(): void {
    this.#notifyAll(Event.CONNECTION_RESTORED);
  }

  /** A cancel came for a message that is with its worker. A stream worker is told; a unary one has no way to be. */
  notifyCancel(cancel: {
    readonly key: MessageKey;
    readonly directive: DirectiveKey;
    readonly messageId: string;
  }): void {
    const { log } = this.options;
    const seat = [...this.#seats.values()].find(({ queue }) => queue.has(cancel.key));
    const { messageId } = cancel;
    if (seat?.giveUp(cancel.key) === true) {
      log.info('dispatcher.cancel_sent', `the worker of ${cancel.directive} was asked to give a message up`, {
        messageId,
      });
      return;
    }
    log.info(
      'dispatcher.cancel_too_late',
      `the message to ${cancel.directive} ${seat === undefined ? 'was delivered' : 'is being handled'}: its worker cannot be told to give it up`,
      { messageId },
    );
  }

  /** Gives no worker anything more and waits at most `within` for what is in flight. Workers can still send results. */
  async drain(within: Millis): Promise<void> {
    const drained = Promise.all([...this.#seats.values()].map((seat) => seat.drain()));
    if (within <= 0) return;
    const done = new AbortController();
    const late = new Promise<void>((resolve) => this.options.clock.after(within, resolve, done.signal));
    await Promise.race([late, drained]);
    done.abort();
  }

  /** Drains, breaks off what is left after `within`, and removes all sockets. Idempotent; works in the middle of a start. */
  async stop(within: Millis): Promise<void> {
    this.#isStopped = true;
    await Promise.allSettled(this.#turns.values());
    await this.drain(within);
    const seats = [...this.#seats.values()];
    this.#seats.clear();
    await Promise.all(seats.map((seat) => seat.close()));
  }

  /** The worker's seat; a new one when its file asks for the other kind of socket. */
  async #seatFor(name: WorkerName, sockets: WorkerSockets, settings: DispatchSettings): Promise<Seat> {
    const present = this.#seats.get(name);
    if (present?.sockets.kind === sockets.kind) return present;
    present?.died({ name, isStopped: true, isRemoved: false });
    await present?.close();
    if (sockets.kind === 'abstract') {
      this.options.log.warn('dispatcher.abstract_socket', `any local user can reach the abstract socket of ${name}`);
    }
    if (this.options.isPeer !== undefined) this.#readPeer ??= openPeerReader(this.options.log);
    const seat = this.#newSeat(name, sockets, settings, await this.#readPeer);
    this.#seats.set(name, seat);
    return seat;
  }

  #newSeat(
    name: WorkerName,
    sockets: WorkerSockets,
    settings: DispatchSettings,
    readPeer: PeerReader | undefined,
  ): Seat {
    const { store, clock, random, log, isPeer = (): boolean => true } = this.options;
    const own = log.child({ worker: name });
    const door = new Door({ read: readPeer, isPeer: (peer) => isPeer(name, peer), clock, log: own });
    const agentConfig = (): Config => ({
      ...this.options.agentConfig(),
      // Without `unix:`, unlike YGG_SOCKET_ADDR: as the original has it.
      socketAddr: sockets.dispatcher.announced,
    });
    const books: Books = this.#booksOf(name, () => seat);
    const streams: Streams = new Streams({
      clock,
      log: own,
      limits: this.#limits,
      books,
      store,
      config: agentConfig,
      helloWithin: HELLO_WITHIN,
      register: (requests, link) => seat.connect(requests, link),
      onRoom: () => seat.queue.pump(),
    });
    const seat: Seat = new Seat(
      {
        name,
        sockets,
        store,
        clock,
        random,
        log: own,
        limits: this.#limits,
        admits: door.admits,
        listen: (path) =>
          serve({
            path,
            admits: door.admits,
            // Room for the frame around the largest result, so that our own refusal says why.
            maxReceive: this.#limits.resultSize + this.#limits.metadataSize * 2 + 1024 * 1024,
            answerWithin: this.#limits.answerWithin,
            clock,
            log: own,
            calls: {
              register: (request) => seat.register(request),
              send: (data, done) => this.#accept(books, data, done),
              config: agentConfig,
              connect: (call) => streams.connect(call),
              transfer: (call) => streams.transfer(call),
            },
          }),
        decide: (handler) =>
          decideRegistration({
            worker: name,
            handler,
            allowed: seat.settings.handlers,
            holderOf: (directive) => this.#nameWhere((other) => other.holds(directive)),
            ownerOf: (directive) => this.#ownerOf(directive),
            boundTo: (directive) => this.#nameWhere((other) => other.binds(directive)),
            binds: (worker, directive) => this.#seats.get(worker)?.binds(directive) ?? false,
          }),
        onTake: (directive, from) => {
          own.warn(
            'dispatcher.handler_ceded',
            `the handler ${directive} goes from ${from} to ${name}, whose file binds it`,
          );
          this.#seats.get(from)?.cede(directive);
        },
        onRegister: (directive) => this.workerRegister.emit({ name, directive }),
        onUnregister: (directive) => this.workerUnregister.emit({ name, directive }),
        onUnhealthy: (reason) => this.workerUnhealthy.emit({ name, reason }),
        onOutcome: (key, outcome) => {
          if (outcome.kind === 'delivered') seat.meter.count(clock.monotonic());
          this.dataDispatch.emit({ key, outcome });
        },
      },
      settings,
    );
    return seat;
  }

  /** Takes a worker's result: a receipt only when it is on stable storage. */
  #accept(books: Books, data: Data, done: (error?: unknown) => void): void {
    FAULT: crashPoint('result.received');
    const received = resultFromData(data, this.#limits);
    if (received.kind === 'refused') throw new Refusal(status.INVALID_ARGUMENT, received.reason);
    const booking = books.accept(received);
    if (booking.kind === 'full') throw new Refusal(status.RESOURCE_EXHAUSTED, booking.reason);
    booking.durable.then(() => done(), done);
  }

  /** How the results of one worker come into the store. */
  #booksOf(name: WorkerName, seatOf: () => Seat): Books {
    return resultBooks({
      ...this.options,
      worker: name,
      handlers: () => seatOf().handlers,
      passOn: (metadata, responseTo) => seatOf().traces.passOn(metadata, responseTo),
      onReturn: (key) => this.dataReturn.emit(key),
    });
  }

  #holderOf(directive: DirectiveKey): Seat | undefined {
    const known = this.#holders.get(directive);
    // A seat that was taken away while its worker registered may still hold it.
    if (known?.holds(directive) === true && this.#seats.get(known.name) === known) return known;
    this.#holders.delete(directive);
    for (const seat of this.#seats.values()) {
      if (!seat.holds(directive)) continue;
      this.#holders.set(directive, seat);
      return seat;
    }
    return undefined;
  }

  /** Who owns a handler. An executable that was removed while no agent ran has told nobody. */
  #ownerOf(directive: DirectiveKey): WorkerName | undefined {
    const owner = this.options.store.ownerOf(directive);
    const isInstalled = this.options.isInstalled ?? ((): boolean => true);
    return owner !== undefined && isInstalled(owner) ? owner : undefined;
  }

  #nameWhere(holds: (seat: Seat) => boolean): WorkerName | undefined {
    for (const [name, seat] of this.#seats) if (holds(seat)) return name;
    return undefined;
  }

  #notifyAll(event: Event): void {
    for (const seat of this.#seats.values()) void seat.notify(event);
  }

  async #inTurn<T>(name: WorkerName, work: () => Promise<T>): Promise<T> {
    const turn = (this.#turns.get(name) ?? Promise.resolve()).then(work, work);
    this.#turns.set(name, turn);
    try {
      return await turn;
    } finally {
      if (this.#turns.get(name) === turn) this.#turns.delete(name);
    }
  }
}
