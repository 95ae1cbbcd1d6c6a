/**
 * The place one worker has at the dispatcher: its socket and server, what it has registered, the link to its present
 * incarnation, and its queue. Who calls is known by the socket; the pid a worker claims is only logged.
 */
import type { Socket } from 'node:net';
import type { Registered } from '../../protocol/generated/stream.js';
import type { RegistrationRequest, RegistrationResponse, Event } from '../../protocol/generated/yggdrasil.js';
import type { Directive, DirectiveKey, MessageKey, WorkerName } from '../message/ids.js';
import type { Log } from '../log/log.js';
import type { Clock, Millis, Random } from '../time.js';
import { countFeature } from './codec.js';
import { watchHealth } from './health.js';
import { WorkerLink } from './link.js';
import type { Link } from './link-port.js';
import { Meter } from './meter.js';
import { isAllowed, type RegistrationDecision } from './plan.js';
import type { DispatchLimits, DispatchSettings, DispatchStore, Outcome, ProcessExit } from './ports.js';
import { WorkerQueue } from './queue.js';
import { Registrations, type Registration } from './registrations.js';
import type { WorkerServer } from './service.js';
import { bindDispatcher, removeDirectory, removeStaleSocket, renewDispatcher } from './socket.js';
import type { Bound, Endpoint, Owner, WorkerSockets } from './socket.js';
import { TraceNotes } from './trace-notes.js';

export interface SeatOptions {
  readonly name: WorkerName;
  readonly sockets: WorkerSockets;
  readonly store: DispatchStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly limits: DispatchLimits;
  /** Whether the worker is at the other end of a socket. */
  readonly admits: (socket: Socket) => boolean;
  /** Listens on a path with the services of this worker. */
  readonly listen: (path: string) => Promise<WorkerServer>;
  readonly decide: (handler: string) => RegistrationDecision;
  /** Its file binds a handler that another worker holds. */
  readonly onTake: (directive: DirectiveKey, from: WorkerName) => void;
  readonly onRegister: (directive: Directive) => void;
  readonly onUnregister: (directive: Directive) => void;
  readonly onUnhealthy: (reason: string) => void;
  readonly onOutcome: (key: MessageKey, outcome: Outcome) => void;
}

/** An event that a worker cannot take in this time is not told twice. */
const NOTIFY_TIMEOUT: Millis = 5000;

/** At a stream worker, whatever window it names. */
export const MOST_IN_FLIGHT = 1024;

const REFUSED: RegistrationResponse = { registered: false, address: '' };

export class Seat {
  readonly queue: WorkerQueue;
  /** The messages it has handled. */
  readonly meter = new Meter();
  /** Which traces it was given messages of. */
  readonly traces = new TraceNotes();
  readonly #scope = new AbortController();
  readonly #registrations: Registrations;
  #settings: DispatchSettings;
  #bound: Bound<WorkerServer> | undefined;
  #link: Link | undefined;
  /** Ends with the present incarnation of the worker. */
  #incarnation = new AbortController();
  /** What the present incarnation had to give up, and may still have in hand. */
  readonly #ceded = new Set<DirectiveKey>();
  /** Why the present incarnation is to be stopped, if it is. */
  #condemned: 'overdue' | 'unwell' | undefined;

  constructor(
    private readonly options: SeatOptions,
    settings: DispatchSettings,
  ) {
    this.#settings = settings;
    const { store, clock, random, log, limits } = options;
    this.#registrations = new Registrations(options);
    this.queue = new WorkerQueue({
      store,
      clock,
      random,
      log,
      maxAttempts: limits.maxAttempts,
      deadline: () => this.#settings.deadline,
      onDispatch: (record) => this.traces.note(record),
      onOutcome: options.onOutcome,
      onOverdue: (messageId) =>
        this.#condemn('overdue', `it did not answer for message ${messageId} before its deadline`),
      scope: this.#scope.signal,
    });
  }

  get name(): WorkerName {
    return this.options.name;
  }

  get sockets(): WorkerSockets {
    return this.options.sockets;
  }

  get settings(): DispatchSettings {
    return this.#settings;
  }

  /** The directives whose messages it may answer. */
  get handlers(): readonly DirectiveKey[] {
    const { keys } = this.#registrations;
    return this.#ceded.size === 0 ? keys : [...new Set([...keys, ...this.#ceded])];
  }

  /** Whether it has this directive registered. */
  holds(directive: DirectiveKey): boolean {
    return this.#registrations.get(directive) !== undefined;
  }

  /** Whether the worker's file binds this directive to it. */
  binds(directive: DirectiveKey): boolean {
    return this.#settings.handlers !== undefined && isAllowed(this.#settings.handlers, directive);
  }

  /** Listens on the worker's socket, as the given user's; again when the file has gone. */
  async open(settings: DispatchSettings, owner: Owner | undefined): Promise<void> {
    this.#settings = settings;
    for (const registration of this.#registrations.all) {
      if (registration.absence === undefined) this.#serve(registration);
    }
    const { sockets, listen } = this.options;
    if (this.#bound !== undefined && (await renewDispatcher(sockets, owner, this.#bound))) return;
    await this.#closeServer();
    this.#bound = await bindDispatcher(sockets, owner, listen);
  }

  /** Registers a handler for the worker's present incarnation, in place of what it registered before. */
  async register(request: RegistrationRequest): Promise<RegistrationResponse> {
    const { signal } = this.#incarnation;
    const { worker } = this.options.sockets;
    const granting = await this.#registrations.grant(request, 'unary', () => this.#connect(worker));
    // The process may have died meanwhile; its absence is counted by whoever saw that.
    if (granting.kind === 'refused' || signal.aborted || this.#scope.signal.aborted) return REFUSED;
    this.#forsakeOthers(this.#registrations.all.filter(({ transport }) => transport === 'unary'));
    this.#registered(granting.registration);
    this.queue.pump();
    return { registered: true, address: worker.announced };
  }

  /**
   * Registers the handlers of a stream, in place of all that the worker's present incarnation registered before, and
   * uses the stream from now on; unless none is granted.
   */
  async connect(requests: readonly RegistrationRequest[], link: Link): Promise<Registered[]> {
    const { signal } = this.#incarnation;
    const answers: Registered[] = [];
    const granted: Registration[] = [];
    for (const request of requests) {
      const granting = await this.#registrations.grant(request, 'stream', () => undefined);
      if (granting.kind === 'granted') granted.push(granting.registration);
      answers.push({
        registered: granting.kind === 'granted',
        reason: granting.kind === 'granted' ? '' : granting.reason,
      });
    }
    if (granted.length === 0) return answers;
    if (signal.aborted || this.#scope.signal.aborted) {
      return requests.map(() => ({ registered: false, reason: 'the process that asked is known to have ended' }));
    }
    this.#use(link);
    this.#forsakeOthers(granted);
    for (const registration of granted) this.#registered(registration);
    this.queue.linkReady();
    return answers;
  }

  #registered(registration: Registration): void {
    // It may have been taken away while it was written down.
    if (this.#registrations.get(registration.key) !== registration) return;
    const { name, log } = this.options;
    const { directive, features, pid, transport } = registration;
    this.#serve(registration);
    this.#registrations.record(pid);
    log.info('dispatcher.registered', `the worker ${name} handles ${directive}`, {
      directive,
      pid,
      features,
      transport,
    });
    this.options.onRegister(directive);
  }

  /** What the worker registered by the other kind of link, or in a stream before, is not its wish any more. */
  #forsakeOthers(wanted: readonly Registration[]): void {
    for (const registration of this.#registrations.all) {
      // One that is away may still come back within its grace.
      if (wanted.includes(registration) || registration.absence !== undefined) continue;
      this.queue.forsake(registration.key);
      this.#registrations.drop(registration);
    }
  }

  /** The worker's process has ended. */
  died(exit: ProcessExit): void {
    this.#incarnation.abort();
    this.#incarnation = new AbortController();
    const isExpected = exit.isStopped && this.#condemned === undefined;
    // One that was not well died of what it was doing; one stopped for a deadline, of that call and of no other.
    this.queue.died(exit.isStopped && this.#condemned !== 'unwell');
    this.#condemned = undefined;
    this.#link = undefined;
    this.#ceded.clear();
    for (const key of this.#registrations.keys) this.queue.forsake(key);
    this.#registrations.absent(isExpected || exit.isRemoved);
  }

  /** Asks the worker to give up a message that it has in hand; false when it cannot be told. */
  giveUp(key: MessageKey): boolean {
    return this.#link?.giveUp(key) ?? false;
  }

  /** Tells the worker of an event; one that cannot take it is left alone. */
  async notify(event: Event): Promise<void> {
    await this.#link?.notify(event, NOTIFY_TIMEOUT);
  }

  /** Gives a handler up; its calls in flight end by themselves, and their results come as ever. */
  cede(directive: DirectiveKey): void {
    const registration = this.#registrations.get(directive);
    if (registration === undefined) return;
    this.#ceded.add(directive);
    this.queue.forsake(directive);
    this.#registrations.drop(registration);
  }

  /** Lets the calls in flight end; gives the worker nothing more. */
  drain(): Promise<void> {
    return this.queue.drain();
  }

  /** Breaks off what is left and takes the socket away. Idempotent. */
  async close(): Promise<void> {
    this.queue.halt();
    this.#scope.abort();
    this.#incarnation.abort();
    this.#registrations.clear();
    this.#link?.close('the agent is stopping');
    this.#link = undefined;
    await this.#closeServer();
    await removeDirectory(this.options.sockets);
  }

  async #closeServer(): Promise<void> {
    const bound = this.#bound;
    this.#bound = undefined;
    await bound?.server.close();
  }

  /** Sees to it that there is a channel to the present incarnation. */
  async #connect(endpoint: Endpoint): Promise<void> {
    const present = this.#link;
    // A link that waits in back-off would find the worker later than a new one does.
    if (present?.transport === 'unary' && (present.isReady || !this.queue.isIdle)) return;
    const { signal } = this.#incarnation;
    await removeStaleSocket(endpoint);
    if (signal.aborted || this.#scope.signal.aborted) return;
    const { clock, random, limits, log, name } = this.options;
    const link = new WorkerLink({
      path: endpoint.path,
      clock,
      random,
      admits: this.options.admits,
      maxReceive: limits.resultSize + limits.metadataSize * 2,
      maxSend: () => this.#maxMessageSize(),
      onReady: () => {
        log.debug('dispatcher.connected', `the worker ${name} listens`);
        this.queue.linkReady();
      },
    });
    this.#use(link);
    link.open();
  }

  /** What is under way on the link before is broken off, as by a cut. */
  #use(link: Link): void {
    const before = this.#link;
    before?.close('another connection of the worker has taken its place');
    this.#link = link;
    this.queue.attach(link);
    if (before === undefined) this.#watchHealth(this.#incarnation.signal);
  }

  #watchHealth(signal: AbortSignal): void {
    const { clock, limits } = this.options;
    watchHealth(
      {
        clock,
        interval: limits.healthInterval,
        timeout: limits.healthTimeout,
        check: (timeout) => this.#link?.check(timeout) ?? Promise.resolve('unknown'),
        isIdle: () => this.queue.isIdle,
        onUnhealthy: (reason) => this.#condemn('unwell', reason),
      },
      signal,
    );
  }

  #condemn(cause: 'overdue' | 'unwell', reason: string): void {
    if (this.#condemned !== undefined) return;
    this.#condemned = cause;
    this.queue.condemn();
    this.options.log.warn('dispatcher.unhealthy', `the worker ${this.options.name} must be stopped: ${reason}`);
    this.options.onUnhealthy(reason);
  }

  #serve({ key, features, transport }: Registration): void {
    const { concurrency } = this.#settings;
    // Of a stream the window bounds it.
    const own = transport === 'stream' ? MOST_IN_FLIGHT : (countFeature(features, 'concurrency') ?? 1);
    this.queue.serve(key, concurrency ?? own);
  }

  #maxMessageSize(): number {
    const announced = this.#registrations.all.map((r) => countFeature(r.features, 'max-message-size') ?? 0);
    return this.#settings.maxMessageSize ?? Math.max(this.options.limits.workerMessageSize, ...announced);
  }
}
