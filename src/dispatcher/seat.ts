/**
 * The place one worker has at the dispatcher: its socket and server, what it has registered, the link to its present
 * incarnation, and its queue. Who calls is known by the socket; the pid a worker claims is only logged.
 */
import type { Socket } from 'node:net';
import type { RegistrationRequest, RegistrationResponse, Event } from '../../protocol/generated/yggdrasil.js';
import type { Directive, DirectiveKey, MessageKey, WorkerName } from '../message/ids.js';
import type { Metadata } from '../message/envelope.js';
import type { Log } from '../log/log.js';
import type { Clock, Millis, Random } from '../time.js';
import { claimedPid, countFeature, featuresFrom } from './codec.js';
import { watchHealth } from './health.js';
import { WorkerLink } from './link.js';
import { isAllowed, type RegistrationDecision } from './plan.js';
import type { DispatchLimits, DispatchSettings, DispatchStore, Outcome, ProcessExit } from './ports.js';
import { WorkerQueue } from './queue.js';
import type { WorkerServer } from './service.js';
import { bindDispatcher, removeDirectory, removeStaleSocket, renewDispatcher } from './socket.js';
import type { Bound, Endpoint, Owner, WorkerSockets } from './socket.js';

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

interface Registration {
  readonly directive: Directive;
  readonly features: Metadata;
  readonly detachedContent: boolean;
  /** Set while the worker is gone: ends when it has registered again. */
  absence: AbortController | undefined;
}

/** An event that a worker cannot take in this time is not told twice. */
const NOTIFY_TIMEOUT: Millis = 5000;

/** Of one incarnation. */
const MOST_REFUSALS_TOLD = 20;

const REFUSED: RegistrationResponse = { registered: false, address: '' };

export class Seat {
  readonly queue: WorkerQueue;
  readonly #scope = new AbortController();
  readonly #registrations = new Map<DirectiveKey, Registration>();
  #settings: DispatchSettings;
  #bound: Bound<WorkerServer> | undefined;
  #link: WorkerLink | undefined;
  /** Ends with the present incarnation of the worker. */
  #incarnation = new AbortController();
  /** Why the present incarnation is to be stopped, if it is. */
  #condemned: 'overdue' | 'unwell' | undefined;
  /** Why the present incarnation was refused, as far as that was told: a worker asks again and again. */
  readonly #refusals = new Set<string>();

  constructor(
    private readonly options: SeatOptions,
    settings: DispatchSettings,
  ) {
    this.#settings = settings;
    const { store, clock, random, log, limits } = options;
    this.queue = new WorkerQueue({
      store,
      clock,
      random,
      log,
      maxAttempts: limits.maxAttempts,
      maxMessageSize: () => this.#maxMessageSize(),
      deadline: () => this.#settings.deadline,
      onOutcome: options.onOutcome,
      onOverdue: (messageId) =>
        this.#condemn('overdue', `it did not answer for message ${messageId} before its deadline`),
      scope: this.#scope.signal,
    });
  }

  get sockets(): WorkerSockets {
    return this.options.sockets;
  }

  get settings(): DispatchSettings {
    return this.#settings;
  }

  get handlers(): DirectiveKey[] {
    return [...this.#registrations.keys()];
  }

  /** Whether it has this directive registered. */
  holds(directive: DirectiveKey): boolean {
    return this.#registrations.has(directive);
  }

  /** Whether the worker's file binds this directive to it. */
  binds(directive: DirectiveKey): boolean {
    return this.#settings.handlers !== undefined && isAllowed(this.#settings.handlers, directive);
  }

  /** Listens on the worker's socket, as the given user's; again when the file has gone. */
  async open(settings: DispatchSettings, owner: Owner | undefined): Promise<void> {
    this.#settings = settings;
    for (const [key, { features, absence }] of this.#registrations) {
      if (absence === undefined) this.queue.serve(key, this.#concurrency(features));
    }
    const { sockets, listen } = this.options;
    if (this.#bound !== undefined && (await renewDispatcher(sockets, owner, this.#bound))) return;
    await this.#closeServer();
    this.#bound = await bindDispatcher(sockets, owner, listen);
  }

  /** Registers a handler for the worker's present incarnation, in place of what it registered before. */
  async register(request: RegistrationRequest): Promise<RegistrationResponse> {
    const { name, store, log, limits, sockets } = this.options;
    const features = featuresFrom(request, limits.metadataSize);
    const decision: RegistrationDecision =
      features === undefined
        ? { kind: 'refused', reason: `its features are larger than ${limits.metadataSize} bytes` }
        : this.options.decide(request.handler);
    const pid = claimedPid(request);
    if (decision.kind === 'refused' || features === undefined) {
      this.#tellRefused(decision.kind === 'refused' ? decision.reason : '', pid);
      return REFUSED;
    }
    const { directive, directiveKey, takenFrom } = decision;
    if (takenFrom !== undefined) this.options.onTake(directiveKey, takenFrom);
    const before = this.#registrations.get(directiveKey);
    before?.absence?.abort();
    // Held before the first await: of two workers that ask at once, one gets it.
    this.#registrations.set(directiveKey, {
      directive,
      features,
      detachedContent: request.detachedContent,
      absence: undefined,
    });
    const { signal } = this.#incarnation;
    try {
      if (decision.isNewOwner) await store.claim(directiveKey, name);
      await this.#connect(sockets.worker);
    } catch (error) {
      if (before === undefined) this.#registrations.delete(directiveKey);
      throw error;
    }
    // The process may have died meanwhile; its absence is counted by whoever saw that.
    if (signal.aborted || this.#scope.signal.aborted) return REFUSED;
    this.queue.serve(directiveKey, this.#concurrency(features));
    this.#record(pid);
    log.info('dispatcher.registered', `the worker ${name} handles ${directive}`, { directive, pid, features });
    this.options.onRegister(directive);
    this.queue.pump();
    return { registered: true, address: sockets.worker.announced };
  }

  /** One line for each reason, however often the worker asks. */
  #tellRefused(reason: string, pid: number | undefined): void {
    const { name, log } = this.options;
    const isNews = !this.#refusals.has(reason) && this.#refusals.size < MOST_REFUSALS_TOLD;
    if (isNews) this.#refusals.add(reason);
    const level = isNews ? 'warn' : 'debug';
    log[level]('dispatcher.registration_refused', `the worker ${name} may not register: ${reason}`, { pid });
  }

  /** The worker's process has ended. */
  died(exit: ProcessExit): void {
    this.#incarnation.abort();
    this.#incarnation = new AbortController();
    this.#refusals.clear();
    const isExpected = exit.isStopped && this.#condemned === undefined;
    // One that was not well died of what it was doing; one stopped for a deadline, of that call and of no other.
    this.queue.died(exit.isStopped && this.#condemned !== 'unwell');
    this.#condemned = undefined;
    this.#link = undefined;
    for (const [key, registration] of this.#registrations) {
      this.queue.forsake(key);
      if (isExpected || exit.isRemoved) this.#drop(key, registration);
      else this.#dropLater(key, registration);
    }
  }

  /** Tells the worker of an event; one that cannot take it is left alone. */
  async notify(event: Event): Promise<void> {
    await this.#link?.notify(event, NOTIFY_TIMEOUT);
  }

  /** Gives a handler up to the worker whose file binds it; its calls in flight end by themselves. */
  cede(directive: DirectiveKey, to: WorkerName): void {
    const registration = this.#registrations.get(directive);
    if (registration === undefined) return;
    const { name, log } = this.options;
    log.warn('dispatcher.handler_ceded', `the handler ${directive} goes from ${name} to ${to}, whose file binds it`);
    this.queue.forsake(directive);
    this.#drop(directive, registration);
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
    for (const { absence } of this.#registrations.values()) absence?.abort();
    this.#registrations.clear();
    this.#link?.close();
    this.#link = undefined;
    await this.#closeServer();
    await removeDirectory(this.options.sockets);
  }

  async #closeServer(): Promise<void> {
    const bound = this.#bound;
    this.#bound = undefined;
    await bound?.server.close();
  }

  /** Sees to it that there is a link to the present incarnation. */
  async #connect(endpoint: Endpoint): Promise<void> {
    // A link that waits in back-off would find the worker later than a new one does.
    if (this.#link !== undefined && (this.#link.isReady || !this.queue.isIdle)) return;
    const { signal } = this.#incarnation;
    await removeStaleSocket(endpoint);
    if (signal.aborted || this.#scope.signal.aborted) return;
    this.#link?.close();
    const { clock, limits, log, name } = this.options;
    const link = new WorkerLink({
      path: endpoint.path,
      clock,
      admits: this.options.admits,
      maxReceive: limits.resultSize + limits.metadataSize * 2,
      onReady: () => {
        log.debug('dispatcher.connected', `the worker ${name} listens`);
        this.queue.linkReady();
      },
    });
    const isFirst = this.#link === undefined;
    this.#link = link;
    this.queue.attach(link);
    link.open();
    if (isFirst) this.#watchHealth(signal);
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

  /** A crash loop must not flood the broker with statuses: the handler goes only when it stays away. */
  #dropLater(key: DirectiveKey, registration: Registration): void {
    if (registration.absence !== undefined) return;
    const absence = new AbortController();
    registration.absence = absence;
    this.options.clock.after(this.options.limits.absenceGrace, () => this.#drop(key, registration), absence.signal);
  }

  #drop(key: DirectiveKey, registration: Registration): void {
    registration.absence?.abort();
    this.#registrations.delete(key);
    this.#record(undefined);
    this.options.onUnregister(registration.directive);
  }

  #record(pid: number | undefined): void {
    const { store, name } = this.options;
    const handlers = [...this.#registrations.values()].map(({ directive, features, detachedContent }) => ({
      directive,
      features,
      detachedContent,
    }));
    store.workers.put({ id: name, pid, handlers, state: handlers.length > 0 ? 'registered' : 'gone' });
  }

  #concurrency(features: Metadata): number {
    return this.#settings.concurrency ?? countFeature(features, 'concurrency') ?? 1;
  }

  #maxMessageSize(): number {
    const announced = [...this.#registrations.values()].map((r) => countFeature(r.features, 'max-message-size') ?? 0);
    return this.#settings.maxMessageSize ?? Math.max(this.options.limits.workerMessageSize, ...announced);
  }
}
