/**
 * Counts what becomes of messages and how long each stage takes, told by the datastore in the turn in which it happens.
 * It is on the way of every message: the series of a directive are looked up once, times stand in rings of numbers.
 */
import type { DirectiveKey, Failure, InboundRecord, OutboundRecord } from '../message/index.js';
import type { Clock, Millis } from '../time.js';
import { METRICS } from './catalogue.js';
import type { Count, Family, Histogram, Registry } from './instruments.js';
import { Marks } from './marks.js';
import { MOST_NAMES, Names, OTHER } from './names.js';
import type { InboundStep, OutboundStep } from './ports.js';

/** Messages whose times are known: beyond, only the wall time of arrival, which each carries. */
const RING = 8192;
/** Requests whose answers are waited for. */
const REQUESTS = 4096;
/** A longer id costs memory that its sender chooses: its answer is not measured. */
const LONGEST_ID = 64;

/** Ends that are worth an alarm: there from the start with 0, or the first of a kind would raise none. */
const BAD_ENDS = [
  ['expired', 'expired'],
  ['cancelled', 'cancelled'],
  ['dead', 'unroutable'],
  ['dead', 'worker-failed'],
  ['dead', 'too-large'],
  ['dead', 'fetch-failed'],
  ['dead', 'digest-mismatch'],
] as const;
const BAD_RESULTS = ['expired', 'unroutable', 'too-large', 'malformed', 'worker-failed'];

/** What a directive has of its own. */
interface Lane {
  readonly accepted: Count;
  readonly dispatched: Count;
  readonly retried: Count;
  readonly delivered: Count;
  readonly worker: Histogram;
  readonly label: string;
}

export interface RecorderOptions {
  readonly registry: Registry;
  readonly clock: Pick<Clock, 'now' | 'monotonic'>;
  /** How a directive that somebody registered here is written; undefined for those that only a sender has named. */
  readonly labelOf: (directive: DirectiveKey) => string | undefined;
}

export class Recorder {
  readonly #options: RecorderOptions;
  readonly #lanes = new Map<DirectiveKey, Lane>();
  readonly #others: Lane;
  readonly #workers = new Names();
  readonly #ofWorker = new Map<string, Count>();
  /** When the message arrived, or the request that a result answers. */
  readonly #arrived = new Marks(RING);
  /** When the record came into its present state. */
  readonly #since = new Marks(RING);
  /** Message id → its key, of the last requests. */
  readonly #requests = new Map<string, number>();
  /** Their ids, in a ring. */
  readonly #requestIds: string[] = [];
  #nextRequest = 0;

  readonly #ended: Family<Count>;
  readonly #resultsEnded: Family<Count>;
  readonly #sent: Count;
  readonly #resultsRetried: Count;
  readonly #journal: Histogram;
  readonly #queue: Histogram;
  readonly #outbox: Histogram;
  readonly #acknowledge: Histogram;
  readonly #post: Histogram;
  readonly #message: Histogram;
  readonly #answer: Histogram;
  readonly #commits: Count;
  readonly #commitFailures: Count;
  readonly #commitDuration: Histogram;
  readonly #batch: Histogram;

  constructor(options: RecorderOptions) {
    this.#options = options;
    const { registry } = options;
    const stage = registry.histogram(METRICS.stageDuration);
    this.#ended = registry.count(METRICS.messagesEnded);
    this.#resultsEnded = registry.count(METRICS.resultsEnded);
    this.#sent = this.#resultsEnded.with('sent', '');
    for (const reason of BAD_RESULTS) this.#resultsEnded.with('dead', reason);
    this.#resultsRetried = registry.count(METRICS.resultsRetried).with();
    this.#journal = stage.with('journal');
    this.#queue = stage.with('queue');
    this.#outbox = stage.with('outbox');
    this.#acknowledge = stage.with('acknowledge');
    this.#post = stage.with('post');
    this.#message = registry.histogram(METRICS.messageDuration).with();
    this.#answer = registry.histogram(METRICS.answerDuration).with();
    this.#commits = registry.count(METRICS.journalCommits).with();
    this.#commitFailures = registry.count(METRICS.journalFailures).with();
    this.#commitDuration = registry.histogram(METRICS.journalDuration).with();
    this.#batch = registry.histogram(METRICS.journalBatch).with();
    this.#others = this.#lane(OTHER);
  }

  inbound(record: InboundRecord, step: InboundStep, failure?: Failure): void {
    const { key } = record;
    const now = this.#options.clock.monotonic();
    switch (step) {
      case 'arriving':
        this.#arrived.set(key, now);
        this.#since.set(key, now);
        return;
      case 'accepted':
        this.#laneOf(record).accepted.add();
        this.#stage(this.#journal, key, now);
        this.#since.set(key, now);
        return;
      case 'dispatching':
        this.#laneOf(record).dispatched.add();
        this.#stage(this.#queue, key, now);
        this.#since.set(key, now);
        // One that an earlier run took in, or that waited on disk behind thousands.
        if (this.#arrived.get(key) === undefined) this.#arrived.set(key, now - this.#ageOf(record.arrivedAt));
        this.#expectAnswer(record.messageId, key);
        return;
      case 'retry': {
        const lane = this.#laneOf(record);
        lane.retried.add();
        if (record.state === 'dispatching') this.#stage(lane.worker, key, now);
        this.#since.set(key, now);
        return;
      }
      case 'delivered': {
        const lane = this.#laneOf(record);
        lane.delivered.add();
        this.#stage(lane.worker, key, now);
        this.#message.observe(this.#secondsSince(key, now, record.arrivedAt));
        return;
      }
      default: {
        const lane = this.#laneOf(record);
        if (record.state === 'dispatching') this.#stage(lane.worker, key, now);
        this.#ended.with(lane.label, step, failure?.code ?? '').add();
      }
    }
  }

  outbound(record: OutboundRecord, step: OutboundStep, failure?: Failure): void {
    const { key } = record;
    const now = this.#options.clock.monotonic();
    switch (step) {
      case 'queued': {
        this.#countOf(record.worker ?? 'agent').add();
        this.#since.set(key, now);
        const request = record.responseTo === '' ? undefined : this.#requests.get(record.responseTo);
        const arrived = request === undefined ? undefined : this.#arrived.get(request);
        if (arrived !== undefined) this.#arrived.set(key, arrived);
        return;
      }
      case 'sending':
        this.#stage(this.#outbox, key, now);
        this.#since.set(key, now);
        return;
      case 'retry':
        this.#resultsRetried.add();
        this.#since.set(key, now);
        return;
      case 'sent':
      case 'posted': {
        // An answer that an operator of this machine waits for goes nowhere.
        if (record.state === 'sending') this.#stage(step === 'sent' ? this.#acknowledge : this.#post, key, now);
        const arrived = this.#arrived.get(key);
        if (arrived !== undefined) this.#answer.observe((now - arrived) / 1000);
        if (step === 'sent') this.#sent.add();
        else this.#resultsEnded.with(step, '').add();
        return;
      }
      case 'dead':
        this.#resultsEnded.with(step, failure?.code ?? '').add();
    }
  }

  committed(changes: number, took: Millis, isDone: boolean): void {
    if (!isDone) {
      this.#commitFailures.add();
      return;
    }
    this.#commits.add();
    this.#commitDuration.observe(took / 1000);
    this.#batch.observe(changes);
  }

  #stage(stage: Histogram, key: number, now: Millis): void {
    const since = this.#since.get(key);
    if (since !== undefined) stage.observe((now - since) / 1000);
  }

  #secondsSince(key: number, now: Millis, arrivedAt: Millis): number {
    const arrived = this.#arrived.get(key);
    return (arrived === undefined ? this.#ageOf(arrivedAt) : now - arrived) / 1000;
  }

  /** By the wall clock, which may have gone back meanwhile. */
  #ageOf(arrivedAt: Millis): Millis {
    return Math.max(0, this.#options.clock.now() - arrivedAt);
  }

  #expectAnswer(messageId: string, key: number): void {
    if (messageId.length > LONGEST_ID) return;
    if (this.#requests.has(messageId)) return;
    this.#requests.set(messageId, key);
    // Not by asking the map for its first key: it looks past all that were deleted before.
    const oldest = this.#requestIds[this.#nextRequest];
    if (oldest !== undefined) this.#requests.delete(oldest);
    this.#requestIds[this.#nextRequest] = messageId;
    this.#nextRequest = (this.#nextRequest + 1) % REQUESTS;
  }

  #laneOf({ directiveKey }: InboundRecord): Lane {
    const known = this.#lanes.get(directiveKey);
    if (known !== undefined) return known;
    // Names that only a sender has made up share one lane, and are not kept.
    const label = this.#lanes.size < MOST_NAMES ? this.#options.labelOf(directiveKey) : undefined;
    if (label === undefined) return this.#others;
    const lane = this.#lane(label);
    this.#lanes.set(directiveKey, lane);
    return lane;
  }

  #lane(label: string): Lane {
    const { registry } = this.#options;
    for (const [state, reason] of BAD_ENDS) this.#ended.with(label, state, reason);
    return {
      accepted: registry.count(METRICS.messagesAccepted).with(label),
      dispatched: registry.count(METRICS.messagesDispatched).with(label),
      retried: registry.count(METRICS.messagesRetried).with(label),
      delivered: this.#ended.with(label, 'delivered', ''),
      worker: registry.histogram(METRICS.workerDuration).with(label),
      label,
    };
  }

  /** The label under which the directive of a message is counted. */
  labelFor(record: InboundRecord): string {
    return this.#laneOf(record).label;
  }

  /** All labels that directives are counted under. */
  get labels(): readonly string[] {
    return [OTHER, ...[...this.#lanes.values()].map(({ label }) => label)];
  }

  #countOf(worker: string): Count {
    const known = this.#ofWorker.get(worker);
    if (known !== undefined) return known;
    const label = this.#workers.of(worker);
    const count = this.#options.registry.count(METRICS.resultsAccepted).with(label);
    // Beyond the bound nothing is kept of a name.
    if (label === worker) this.#ofWorker.set(worker, count);
    return count;
  }
}
