/**
 * Gets detached content (CONTRACT 1.7): the body of the URL that stands in a message's content. Many messages at once,
 * bounded in all and for each host; each has a job with a scope of its own, which ends when the message does. A fetch
 * that failed is counted in the journal and waits there, holding nothing here. A fault of our own disk counts nothing.
 */
import { crashPoint } from '../crash-point.js';
import type { InboundRecord, MessageKey, Content, Failure } from '../message/index.js';
import { contentSize, readAttributes } from '../message/index.js';
import type { Log } from '../log/log.js';
import { abortReason, type Clock, type Millis, type Random } from '../time.js';
import { BodyTooLarge, receiveBody, StorageFault, type ReceivedBody } from './body.js';
import { RefusedTarget } from './connector.js';
import { describeError } from './describe-error.js';
import { discardBody, type HttpClient, type HttpResponse } from './http-client.js';
import type { InboundStore } from './ports.js';
import { fetchVerdict, parseRetryAfter, retryDelay } from './retry.js';
import { createSharedScope } from './scope.js';
import type { ProcessorLimits } from './settings.js';
import { Slots } from './slots.js';
import { describeUrl, hostnameOf, parseHttpUrl, withDataHost } from './url-policy.js';
import { startWatch, type Watch } from './watch.js';

export interface FetcherOptions {
  readonly store: InboundStore;
  readonly client: HttpClient;
  readonly limits: ProcessorLimits;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** The body is in the journal and the message is ready. */
  readonly onFetched: (key: MessageKey) => void;
  /** The fetch will not come to anything: the message is to be ended. */
  readonly onGivenUp: (key: MessageKey, failure: Failure) => Promise<void>;
  /** To be looked at again: it was due anew before its job had ended, or a fault of the disk interrupted it. */
  readonly onAgain: (key: MessageKey) => void;
}

type FetchOutcome =
  | { readonly kind: 'fetched'; readonly content: Content }
  | { readonly kind: 'final'; readonly failure: Failure }
  | { readonly kind: 'retry'; readonly reason: string; readonly retryAfter: Millis | undefined };

/** The message has ended while its content came, or its worker wants no content any more. */
class NotWanted extends Error {}

interface Job {
  readonly scope: AbortController;
  done: Promise<void>;
  /** The message was due again before the job had ended. */
  isDueAgain: boolean;
}

export class Fetcher {
  readonly #jobs = new Map<MessageKey, Job>();
  readonly #slots: Slots;
  readonly #stopping = createSharedScope();

  constructor(private readonly options: FetcherOptions) {
    const { fetchConcurrency, fetchesPerHost } = options.limits;
    this.#slots = new Slots(fetchConcurrency, fetchesPerHost);
  }

  /** Fetches that run, and that wait for a place. */
  get gauges(): { readonly running: number; readonly waiting: number } {
    return { running: this.#slots.running, waiting: this.#slots.waiting };
  }

  /** True when a job of this message is under way; it is looked at again should the job leave it as it was. */
  recall(key: MessageKey): boolean {
    const job = this.#jobs.get(key);
    if (job !== undefined) job.isDueAgain = true;
    return job !== undefined;
  }

  /** Begins a fetch unless one is under way. */
  begin(key: MessageKey): void {
    if (this.#stopping.signal.aborted || this.#jobs.has(key)) return;
    const job: Job = { scope: new AbortController(), done: Promise.resolve(), isDueAgain: false };
    this.#jobs.set(key, job);
    job.done = this.#run(key, job.scope.signal).finally(() => {
      this.#jobs.delete(key);
      const isLeft = this.options.store.inbound(key)?.state === 'accepted';
      if (job.isDueAgain && isLeft && !this.#stopping.signal.aborted) this.options.onAgain(key);
    });
  }

  /** Ends the fetches of messages whose worker wants the URL itself; they are looked at again. */
  abandonAll(isMeant: (record: InboundRecord) => boolean): void {
    const { store } = this.options;
    for (const [key, job] of this.#jobs) {
      const record = store.inbound(key);
      if (record === undefined || record.isFetched || !isMeant(record)) continue;
      store.unfetch(key);
      job.isDueAgain = true;
      job.scope.abort(new NotWanted());
    }
  }

  /** Breaks off the fetch of a message that has ended. */
  cancel(key: MessageKey): void {
    this.#jobs.get(key)?.scope.abort(new NotWanted());
  }

  /** Breaks off all fetches; their messages stay as they were and are fetched after the next start. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const jobs = [...this.#jobs.values()];
    for (const { scope } of jobs) scope.abort(new NotWanted());
    await Promise.all(jobs.map(({ done }) => done));
  }

  async #run(key: MessageKey, scope: AbortSignal): Promise<void> {
    const { store, log } = this.options;
    try {
      const record = store.inbound(key);
      if (record === undefined) return;
      const url = await this.#contentUrl(record);
      if (url === undefined) {
        const text = `a worker with detached content needs a JSON string that holds an http or https URL`;
        await this.options.onGivenUp(key, { code: 'malformed', text });
        return;
      }
      await this.#slots.run(hostnameOf(url), () => this.#fetchAndRecord(key, url, scope), scope);
    } catch (error) {
      if (scope.aborted) return;
      log.error('fetch.interrupted', 'A fetch was interrupted by a fault of this machine and is tried again.', {
        key,
        error: describeError(error),
      });
      const { clock, limits } = this.options;
      clock.after(limits.faultDelay, () => this.options.onAgain(key), this.#stopping.signal);
    }
  }

  /** The URL to get, with `data-host` applied. */
  async #contentUrl(record: InboundRecord): Promise<URL | undefined> {
    if (contentSize(record.content) > MAX_URL_CONTENT) return undefined;
    const bytes = await this.options.store.readContent(record.content);
    const text = jsonString(bytes);
    const url = text === undefined ? undefined : parseHttpUrl(text.trim());
    return url && withDataHost(this.options.client.policy, url);
  }

  async #fetchAndRecord(key: MessageKey, url: URL, scope: AbortSignal): Promise<void> {
    const { store, clock, limits, log } = this.options;
    const record = store.inbound(key);
    if (record === undefined || scope.aborted) return;
    if (record.state !== 'fetching' && !store.markFetching(key)) {
      // Someone was faster: a message that is ready goes as it is, lest it wait for nobody.
      if (record.state === 'ready') this.options.onFetched(key);
      return;
    }
    const outcome = await this.#fetch(record, url, scope);
    if (hasEnded(scope) || store.inbound(key) === undefined) {
      if (outcome.kind === 'fetched') await this.#discard(outcome.content);
      return;
    }
    switch (outcome.kind) {
      case 'fetched':
        FAULT: crashPoint('fetch.body-written');
        await this.#record(key, outcome.content);
        return;
      case 'final':
        await this.options.onGivenUp(key, outcome.failure);
        return;
      case 'retry': {
        const failures = record.fetches + 1;
        if (failures >= limits.maxFetches) {
          const text = `${describeUrl(url)} could not be fetched in ${failures} tries: ${outcome.reason}`;
          await this.options.onGivenUp(key, { code: 'fetch-failed', text });
          return;
        }
        const delay = retryDelay(record.fetches, outcome.retryAfter, this.options.random);
        log.debug('fetch.retry', 'A fetch failed and is tried again.', { key, delay, reason: outcome.reason });
        await store.fetchFailed(key, clock.now() + delay);
      }
    }
  }

  async #record(key: MessageKey, content: Content): Promise<void> {
    try {
      await this.options.store.fetched(key, content);
    } catch (error) {
      await this.#discard(content);
      throw error;
    }
    FAULT: crashPoint('fetch.recorded');
    this.options.onFetched(key);
  }

  async #discard(content: Content): Promise<void> {
    // What cannot be removed now is removed at the next start: no record names it.
    if (content.kind === 'file') await this.options.store.discardContentFile(content.path).catch(() => undefined);
  }

  /** Throws StorageFault, and whatever once the scope has ended; every other failure is an outcome. */
  async #fetch(record: InboundRecord, url: URL, scope: AbortSignal): Promise<FetchOutcome> {
    const { clock, limits, client } = this.options;
    using watch = startWatch(clock, { stall: limits.stallTimeout, total: limits.transferTimeout }, scope);
    try {
      const response = await client.get(url, watch.signal);
      watch.progress();
      const verdict = fetchVerdict(response.status);
      if (verdict === 'ok') return judgeBody(record, url, await this.#body(record, response, watch));
      const text = `${describeUrl(url)} answered with status ${response.status}`;
      const retryAfter = parseRetryAfter(response.headers['retry-after'], clock.now());
      await discardBody(response);
      return verdict === 'final'
        ? { kind: 'final', failure: { code: 'fetch-failed', text } }
        : { kind: 'retry', reason: text, retryAfter };
    } catch (error) {
      if (error instanceof StorageFault || scope.aborted) throw error;
      if (error instanceof RefusedTarget) {
        return { kind: 'final', failure: { code: 'fetch-failed', text: error.message } };
      }
      if (error instanceof BodyTooLarge) {
        const text = `the body of ${describeUrl(url)} is too large: ${error.message}`;
        return { kind: 'final', failure: { code: 'too-large', text } };
      }
      // The watch ends a transfer with its own reason, which the stream may have wrapped.
      const cause = watch.signal.aborted ? abortReason(watch.signal) : error;
      return { kind: 'retry', reason: describeError(cause), retryAfter: undefined };
    }
  }

  #body(record: InboundRecord, response: HttpResponse, watch: Watch): Promise<ReceivedBody> {
    const { store, limits } = this.options;
    return receiveBody(response.body, {
      encoding: response.headers['content-encoding'],
      announced: response.headers['content-length'],
      limit: limits.contentLimit,
      files: store,
      onChunk: () => {
        watch.progress();
        if (store.inbound(record.key) === undefined) throw new NotWanted();
      },
    });
  }
}

/** Asked anew after an await, which the compiler cannot know. */
function hasEnded(scope: AbortSignal): boolean {
  return scope.aborted;
}

/** Longest content that is looked at for a URL. */
const MAX_URL_CONTENT = 32 * 1024;

function judgeBody(record: InboundRecord, url: URL, body: ReceivedBody): FetchOutcome & { kind: 'fetched' | 'final' } {
  const { digest } = readAttributes(record.metadata, record.arrivedAt);
  if (digest === undefined || digest === body.digest) return { kind: 'fetched', content: body.content };
  const text = `the body of ${describeUrl(url)} has the SHA-256 ${body.digest}, not the one of content-digest`;
  return { kind: 'final', failure: { code: 'digest-mismatch', text } };
}

function jsonString(bytes: Buffer): string | undefined {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'));
    return typeof value === 'string' ? value : undefined;
  } catch {
    // Not JSON, as zero bytes are not: then it holds no URL.
    return undefined;
  }
}
