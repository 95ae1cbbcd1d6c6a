/**
 * Stands between the router and the dispatcher (DESIGN section 2, steps 3 and 6). Inbound: holds a message until its
 * worker is known, fetches its detached content, ends it when its time is over. Outbound: sends a result to its URL,
 * or on to the router. All state is the datastore's; what is here are the exchanges under way.
 */
import {
  directiveKey,
  type Directive,
  type DirectiveKey,
  type Failure,
  type InboundRecord,
  type MessageKey,
} from '../message/index.js';
import { Signal } from '../signal/index.js';
import { silentLog, type Log } from '../log/log.js';
import { systemClock, type Clock, type Millis, type Random } from '../time.js';
import { systemResolver } from './connector.js';
import { describeError } from './describe-error.js';
import { Fetcher } from './fetcher.js';
import { HttpClient } from './http-client.js';
import { findHandler, hasExpired, lapseOf, nextInboundStep, type HandlerView } from './plan.js';
import type { Dispatched, ProcessorStore, ProxyFor, Resolver, TlsMaterial } from './ports.js';
import { Poster } from './poster.js';
import { DEFAULT_LIMITS, type ProcessorLimits } from './settings.js';
import type { UrlPolicy } from './url-policy.js';

export interface DataProcessorOptions {
  readonly store: ProcessorStore;
  /** Made by `createUrlPolicy`. */
  readonly policy: UrlPolicy;
  /** The agent's version, for the User-Agent. */
  readonly version: string;
  readonly tls?: TlsMaterial;
  readonly limits?: Partial<ProcessorLimits>;
  readonly proxyFor?: ProxyFor;
  readonly proxyResolves?: boolean;
  readonly log?: Log;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly resolve?: Resolver;
}

/** What is under way now, for metrics. */
export interface ProcessorGauges {
  readonly fetching: number;
  readonly fetchesWaiting: number;
  readonly posting: number;
  readonly postsWaiting: number;
}

export class DataProcessor {
  /** A message is ready for its worker. */
  readonly dataProcess: Signal<MessageKey>;
  /** A result, or an error answer, is in the outbox for the broker. */
  readonly dataConsume: Signal<MessageKey>;
  readonly #store: ProcessorStore;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #client: HttpClient;
  readonly #fetcher: Fetcher;
  readonly #poster: Poster;
  readonly #ending = new Set<Promise<void>>();
  /** What was looked up since a worker last changed: it is asked for with every message. */
  readonly #handlers = new Map<DirectiveKey, HandlerView>();
  readonly #scope = new AbortController();
  #isStopped = false;

  constructor(options: DataProcessorOptions) {
    const { store, log = silentLog, clock = systemClock, random = Math.random } = options;
    const limits = { ...DEFAULT_LIMITS, ...options.limits };
    const sink = (error: unknown, signal: string): void => {
      log.error('processor.handler_failed', 'A part that listens to the processor failed.', {
        signal,
        error: describeError(error),
      });
    };
    this.dataProcess = new Signal('data-process', sink);
    this.dataConsume = new Signal('data-consume', sink);
    this.#store = store;
    store.workers.changed.connect(() => this.#handlers.clear(), this.#scope.signal);
    this.#log = log;
    this.#clock = clock;
    this.#client = new HttpClient({
      policy: options.policy,
      tls: options.tls ?? { ca: [] },
      clock,
      connectTimeout: limits.connectTimeout,
      resolve: options.resolve ?? systemResolver,
      proxyFor: options.proxyFor ?? (() => undefined),
      proxyResolves: options.proxyResolves ?? false,
      userAgent: `yggd/${options.version}`,
    });
    const shared = { store, client: this.#client, limits, clock, random, log };
    this.#poster = new Poster(shared);
    this.#fetcher = new Fetcher({
      ...shared,
      onFetched: (key) => this.dataProcess.emit(key),
      onGivenUp: (key, failure) => this.#end(key, 'dead', failure),
      onAgain: (key) => this.accept(key),
    });
  }

  get gauges(): ProcessorGauges {
    const { running: fetching, waiting: fetchesWaiting } = this.#fetcher.gauges;
    const { running: posting, waiting: postsWaiting } = this.#poster.gauges;
    return { fetching, fetchesWaiting, posting, postsWaiting };
  }

  /** Goes on with the results that an earlier run left for URLs. Inbound messages come by `accept`. */
  start(): Promise<void> {
    this.resume();
    return Promise.resolve();
  }

  /**
   * Takes on nothing more, breaks off fetches, lets POSTs in flight end within `grace`, and closes all sockets. What
   * was broken off goes on after the next start. Idempotent; without a start it has nothing to do.
   */
  async stop(grace: Millis = 0): Promise<void> {
    this.#isStopped = true;
    this.#scope.abort();
    await Promise.all([this.#fetcher.stop(), this.#poster.stop(grace)]);
    await Promise.all(this.#ending);
    await this.#client.close();
  }

  /** A message is new in the journal, came back into memory, or is due again. */
  accept(key: MessageKey): void {
    const record = this.#isStopped || this.#fetcher.recall(key) ? undefined : this.#store.inbound(key);
    if (record === undefined) return;
    this.#act(record, this.#handlerOf(record.directiveKey));
  }

  /** A worker registered for this directive, perhaps again and with other wishes: what waited for it goes on. */
  workerRegistered(directive: Directive): void {
    if (this.#isStopped) return;
    const key = directiveKey(directive);
    const handler = this.#handlerOf(key);
    if (handler === undefined) return;
    if (!handler.wantsDetached) this.#fetcher.abandonAll((record) => record.directiveKey === key);
    for (const waiting of this.#store.waiting(key)) this.accept(waiting);
    if (handler.wantsDetached) this.#fetchWhatIsReady(directive);
  }

  /** The lifetime of a message is over. Results look after theirs when their turn comes. */
  lapse(key: MessageKey): void {
    const record = this.#isStopped ? undefined : this.#store.inbound(key);
    if (record !== undefined) this.#lapseInbound(record);
  }

  /** A message ended by other hands, such as a cancel: a fetch for it is broken off. */
  cancelled(key: MessageKey): void {
    if (this.#store.inbound(key) === undefined) this.#fetcher.cancel(key);
  }

  /** A worker handed over a result, and it is in the journal. */
  returned(key: MessageKey): void {
    if (this.#isStopped) return;
    const record = this.#store.outbound(key);
    if (record?.destination.kind === 'url') this.#poster.pump(this.#store.laneOf(record));
    else this.dataConsume.emit(key);
    // It is not in memory: then its lane may have been idle until now.
    if (record === undefined) this.resume();
  }

  /** The dispatcher is done with a message for now. */
  dispatched({ key, outcome }: Dispatched): void {
    if (outcome.answer !== undefined) this.dataConsume.emit(outcome.answer);
    const record = this.#isStopped ? undefined : this.#store.inbound(key);
    if (record !== undefined && record.state !== 'dispatching' && hasExpired(record, this.#clock.now())) {
      this.#lapseInbound(record);
    }
  }

  /** The back-off of a lane's head is over. */
  laneDue(lane: string): void {
    if (!this.#isStopped && isUrlLane(lane)) this.#poster.pump(lane);
  }

  /** Pumps every lane of a URL that holds results. */
  resume(): void {
    for (const lane of this.#store.backlogLanes()) this.laneDue(lane);
  }

  /** New URL settings or certificates. Throws when they cannot be used, and then the old ones hold. */
  reconfigure(change: { readonly policy?: UrlPolicy; readonly tls?: TlsMaterial }): void {
    this.#client.reconfigure(change);
  }

  #handlerOf(directive: DirectiveKey): HandlerView | undefined {
    const known = this.#handlers.get(directive);
    if (known !== undefined) return known;
    const handler = findHandler(this.#store.workers.all(), directive);
    // Of what nobody handles nothing is kept: the names of directives are the sender's choice.
    if (handler !== undefined) this.#handlers.set(directive, handler);
    return handler;
  }

  #act(record: InboundRecord, handler: HandlerView | undefined): void {
    // Only what can expire asks for the time: to look at the clock costs more than all else here.
    const step = nextInboundStep(record, handler, record.expiresAt === undefined ? 0 : this.#clock.now());
    switch (step.kind) {
      case 'expire':
        this.#lapseInbound(record);
        return;
      case 'fetch':
        this.#fetcher.begin(record.key);
        return;
      case 'process':
        if (step.isReady || this.#store.markReady(record.key)) this.dataProcess.emit(record.key);
        return;
      case 'wait':
      case 'leave':
        return;
    }
  }

  /** Messages that were made ready for a worker which wanted the URL itself, before one that wants the body. */
  #fetchWhatIsReady(directive: Directive): void {
    const key = directiveKey(directive);
    for (;;) {
      const record = this.#store.nextReady(key, { only: ({ isFetched }) => !isFetched });
      if (record === undefined || !this.#store.markFetching(record.key)) return;
      this.#fetcher.begin(record.key);
    }
  }

  #lapseInbound(record: InboundRecord): void {
    // A call in flight is not broken off; `dispatched` looks again when it has ended.
    if (record.state === 'dispatching') return;
    this.#fetcher.cancel(record.key);
    const { end, failure } = lapseOf(record, this.#store.isKnown(record.directiveKey), this.#clock.now());
    this.#track(this.#end(record.key, end, failure));
  }

  async #end(key: MessageKey, end: 'expired' | 'dead', failure: Failure): Promise<void> {
    const ended = await this.#store.end(key, end, failure);
    if (ended.kind === 'already-ended') return;
    this.#log.warn('message.given_up', 'A message was given up; its record says why.', {
      key,
      end,
      code: failure.code,
      reason: failure.text,
    });
    if (ended.answer !== undefined) this.dataConsume.emit(ended.answer);
  }

  #track(work: Promise<unknown>): void {
    const done = work
      .then(
        () => undefined,
        (error: unknown) => {
          this.#log.error('processor.end_failed', 'A message could not be ended in the journal.', {
            error: describeError(error),
          });
        },
      )
      .finally(() => this.#ending.delete(done));
    this.#ending.add(done);
  }
}

/** Lanes of URLs carry this mark; all others are the router's. */
function isUrlLane(lane: string): boolean {
  return lane.startsWith('url:');
}
