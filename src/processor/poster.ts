/**
 * POSTs results to the URLs their directives name (CONTRACT 1.11, 1.12). A lane is one (worker, URL): its results go in
 * order, one in flight, and a head that failed keeps its lane waiting and no other. Lanes share a bounded number of
 * places, a host some of them, and a lane gives its place back after each POST. A POST of unknown outcome is repeated
 * with the same Idempotency-Key.
 */
import { Readable } from 'node:stream';
import { crashPoint } from '../crash-point.js';
import { isDamaged } from '../errors.js';
import { contentSize, type Failure, type OutboundRecord } from '../message/index.js';
import type { Log } from '../log/log.js';
import { abortReason, type Clock, type Millis, type Random } from '../time.js';
import { RefusedTarget } from './connector.js';
import { describeError } from './describe-error.js';
import { headersFromMetadata, idempotencyKey } from './headers.js';
import { discardBody, type HttpClient } from './http-client.js';
import type { OutboundStore } from './ports.js';
import { parseRetryAfter, postVerdict, retryDelay } from './retry.js';
import { createSharedScope } from './scope.js';
import type { ProcessorLimits } from './settings.js';
import { Slots } from './slots.js';
import { describeUrl, hostnameOf, parseHttpUrl, withDataHost } from './url-policy.js';
import { startWatch } from './watch.js';

export interface PosterOptions {
  readonly store: OutboundStore;
  readonly client: HttpClient;
  readonly limits: ProcessorLimits;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

type PostOutcome =
  | { readonly kind: 'posted' }
  | { readonly kind: 'final'; readonly failure: Failure }
  | { readonly kind: 'retry'; readonly reason: string; readonly retryAfter: Millis | undefined };

export class Poster {
  readonly #lanes = new Map<string, Promise<void>>();
  readonly #slots: Slots;
  /** Ends the waiting for places and for a fault to pass; POSTs in flight go on. */
  readonly #draining = createSharedScope();
  /** Breaks off POSTs in flight. */
  readonly #stopping = createSharedScope();

  constructor(private readonly options: PosterOptions) {
    this.#slots = new Slots(options.limits.postConcurrency, options.limits.postsPerHost);
  }

  /** POSTs that run, and lanes that wait for a place. */
  get gauges(): { readonly running: number; readonly waiting: number } {
    return { running: this.#slots.running, waiting: this.#slots.waiting };
  }

  /** Works off what is due in the lane, unless that is being done already. */
  pump(lane: string): void {
    if (this.#lanes.has(lane) || this.#draining.signal.aborted) return;
    this.#lanes.set(lane, this.#drain(lane));
  }

  /** Lets the POSTs in flight end within `grace`, then breaks them off; they are tried again after the next start. */
  async stop(grace: Millis): Promise<void> {
    this.#draining.abort();
    const done = Promise.all(this.#lanes.values());
    const timer = new AbortController();
    if (grace <= 0) this.#stopping.abort();
    else this.options.clock.after(grace, () => this.#stopping.abort(), timer.signal);
    await done;
    timer.abort();
  }

  async #drain(lane: string): Promise<void> {
    const { store, log, clock, limits } = this.options;
    // The lane must be in the map before it can leave it.
    await Promise.resolve();
    try {
      for (;;) {
        const head = this.#draining.signal.aborted ? undefined : store.nextOutbound(lane);
        if (head === undefined) break;
        const url = this.#urlOf(head);
        if (url === undefined) {
          const text = `the directive of the result is no http or https URL`;
          await store.endOutbound(head.key, 'dead', { code: 'unroutable', text });
        } else {
          await this.#slots.run(hostnameOf(url), () => this.#postHead(lane, url), this.#draining.signal);
        }
      }
      // No await since the lane was found empty: what comes now pumps it anew.
      this.#lanes.delete(lane);
    } catch (error) {
      this.#lanes.delete(lane);
      if (this.#draining.signal.aborted) return;
      log.error('post.interrupted', 'A fault of this machine interrupted the results to a URL; they are tried again.', {
        lane,
        error: describeError(error),
      });
      clock.after(limits.faultDelay, () => this.pump(lane), this.#draining.signal);
    }
  }

  #urlOf(record: OutboundRecord): URL | undefined {
    const { destination } = record;
    const url = destination.kind === 'url' ? parseHttpUrl(destination.url) : undefined;
    return url && withDataHost(this.options.client.policy, url);
  }

  async #postHead(lane: string, url: URL): Promise<void> {
    const { store, clock, limits, log } = this.options;
    // It may have ended while the lane waited for its place.
    const record = store.nextOutbound(lane);
    if (record === undefined || this.#draining.signal.aborted) return;
    if (this.#isTooOld(record)) {
      await this.#giveUp(record, tooOld(url, undefined));
      return;
    }
    store.markSending(record.key);
    FAULT: crashPoint('post.before-request');
    const outcome = await this.#post(record, url);
    if (outcome === undefined) {
      store.unsend(record.key);
      return;
    }
    switch (outcome.kind) {
      case 'posted':
        FAULT: crashPoint('post.answered');
        await store.endOutbound(record.key, 'posted');
        FAULT: crashPoint('post.recorded');
        return;
      case 'final':
        log.warn('post.refused', 'A result could not be posted and is kept as dead.', {
          key: record.key,
          reason: outcome.failure.text,
        });
        await store.endOutbound(record.key, 'dead', outcome.failure);
        return;
      case 'retry': {
        if (this.#isTooOld(record)) {
          await this.#giveUp(record, tooOld(url, outcome.reason));
          return;
        }
        const delay = retryDelay(record.attempts, outcome.retryAfter, this.options.random);
        const dueAt = Math.min(clock.now() + delay, record.arrivedAt + limits.resultLifetime);
        log.debug('post.retry', 'A POST failed and is tried again.', {
          key: record.key,
          delay,
          reason: outcome.reason,
        });
        await store.retryOutbound(record.key, dueAt);
      }
    }
  }

  async #giveUp({ key }: OutboundRecord, failure: Failure): Promise<void> {
    this.options.log.warn('result.dead', `a result is given up: ${failure.text}`, { key });
    await this.options.store.endOutbound(key, 'dead', failure);
  }

  #isTooOld(record: OutboundRecord): boolean {
    return this.options.clock.now() >= record.arrivedAt + this.options.limits.resultLifetime;
  }

  /** Undefined when the stop broke it off. */
  async #post(record: OutboundRecord, url: URL): Promise<PostOutcome | undefined> {
    const { clock, limits, client } = this.options;
    const content = await this.#read(record);
    if (!Buffer.isBuffer(content)) return content;
    using watch = startWatch(
      clock,
      { stall: limits.stallTimeout, total: limits.transferTimeout },
      this.#stopping.signal,
    );
    const body = bodyOf(content, () => watch.progress());
    try {
      const response = await client.post(url, this.#headersOf(record), body, watch.signal);
      watch.progress();
      const verdict = postVerdict(response.status);
      const retryAfter = parseRetryAfter(response.headers['retry-after'], clock.now());
      await discardBody(response);
      if (verdict === 'ok') return { kind: 'posted' };
      const reason = `${describeUrl(url)} answered with status ${response.status}`;
      return verdict === 'final'
        ? { kind: 'final', failure: { code: 'unroutable', text: reason } }
        : { kind: 'retry', reason, retryAfter };
    } catch (error) {
      if (this.#stopping.signal.aborted) return undefined;
      if (error instanceof RefusedTarget) {
        return { kind: 'final', failure: { code: 'unroutable', text: error.message } };
      }
      const cause = watch.signal.aborted ? abortReason(watch.signal) : error;
      return { kind: 'retry', reason: describeError(cause), retryAfter: undefined };
    } finally {
      // A request that was refused before it began has not opened it.
      if (!Buffer.isBuffer(body)) body.destroy();
    }
  }

  /** The bytes of the result, or what becomes of it without them. */
  async #read({ content }: OutboundRecord): Promise<Buffer | PostOutcome> {
    try {
      return await this.options.store.readContent(content);
    } catch (error) {
      const reason = `its content cannot be read: ${describeError(error)}`;
      return isDamaged(error)
        ? { kind: 'final', failure: { code: 'malformed', text: reason } }
        : { kind: 'retry', reason, retryAfter: undefined };
    }
  }

  #headersOf(record: OutboundRecord): Readonly<Record<string, string>> {
    const { headers, dropped } = headersFromMetadata(record.metadata);
    if (dropped.length > 0) {
      this.options.log.warn('post.header_dropped', 'Metadata of a result cannot be HTTP headers and is left out.', {
        key: record.key,
        names: dropped,
      });
    }
    return {
      ...headers,
      'content-length': String(contentSize(record.content)),
      'idempotency-key': idempotencyKey(record.messageId),
    };
  }
}

/** Few bytes as they are, many as a stream that tells of its progress. */
function bodyOf(content: Buffer, onChunk: () => void): Buffer | Readable {
  if (content.length <= CHUNK) return content;
  // undici reads no faster than the socket takes it.
  return Readable.from(chunksOf(content, onChunk), { objectMode: false });
}

const CHUNK = 64 * 1024;

function* chunksOf(bytes: Buffer, onChunk: () => void): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += CHUNK) {
    onChunk();
    yield bytes.subarray(at, at + CHUNK);
  }
}

function tooOld(url: URL, lastReason: string | undefined): Failure {
  const last = lastReason === undefined ? '' : `: ${lastReason}`;
  return { code: 'expired', text: `the result could not be posted to ${describeUrl(url)} in its lifetime${last}` };
}
