/**
 * The state that router, processor, dispatcher and process manager share. What is alive stands in LokiJS collections
 * in memory, bounded; the journal on disk is the only thing that survives. This is the face of the module: each call
 * goes to the queue or the collection that knows about it.
 */
import { setMaxListeners } from 'node:events';
import { join } from 'node:path';
import { crashPoint } from '../crash-point.js';
import {
  type Content,
  type DeadRecord,
  type DirectiveKey,
  type Failure,
  type FileContent,
  type InboundEnd,
  type InboundRecord,
  type LiveRecord,
  type MessageKey,
  type OutboundEnd,
  type OutboundRecord,
  type WorkerName,
} from '../message/index.js';
import type { Signal } from '../signal/index.js';
import { Alarms } from './alarms.js';
import { ContentFiles, type ContentReader } from './content-files.js';
import type { ContentWriter } from './content-writer.js';
import { DeadLetters } from './dead-letters.js';
import type { ProcessEntry, Refused, WorkerEntry } from './entries.js';
import { bringUpToDate } from './format.js';
import type { HotKind } from './hot-contents.js';
import { InboundQueue } from './inbound-queue.js';
import type {
  AcceptOptions,
  Acceptance,
  Cancellation,
  Completion,
  Ending,
  NewInbound,
  NextOptions,
} from './inbound-types.js';
import { Ledger } from './ledger.js';
import { LiveCollection, liveDatabase } from './live-collection.js';
import { LiveMessages } from './live-messages.js';
import { makePrivateDirectory } from './directories.js';
import { Listing } from './listing.js';
import type { DatastoreOptions } from './options.js';
import { OutboundQueue } from './outbound-queue.js';
import type { NewOutbound, ResultAcceptance } from './outbound-record.js';
import { RecentIds } from './recent-ids.js';
import { Replays } from './replay.js';
import type { Replay } from './replay-outcome.js';
import { SmallFacts } from './small-facts.js';
import { StateLock } from './state-lock.js';
import type { TornRecord } from './torn-records.js';
import { Upkeep } from './upkeep.js';

export class Datastore {
  readonly #database = liveDatabase();
  readonly #messages = new LiveMessages(this.#database);
  readonly workers = new LiveCollection<WorkerName, WorkerEntry>(this.#database, 'workers', (entry) => entry.id);
  readonly processes = new LiveCollection<WorkerName, ProcessEntry>(this.#database, 'processes', (entry) => entry.id);
  /** What an operator may look through: all messages there are. */
  readonly listing: Listing;
  readonly #lock: StateLock;
  readonly #files: ContentFiles;
  readonly #ledger: Ledger;
  readonly #facts: SmallFacts;
  readonly #dead: DeadLetters;
  readonly #alarms: Alarms;
  readonly #inbound: InboundQueue;
  readonly #outbound: OutboundQueue;
  readonly #replays: Replays;
  readonly #upkeep: Upkeep;
  #scope: AbortController | undefined;

  constructor(private readonly options: DatastoreOptions) {
    const { stateDir, journal, clock, log, lifetimes, window } = options;
    this.#lock = new StateLock(stateDir);
    this.#files = new ContentFiles(join(stateDir, 'content'), clock);
    this.#ledger = new Ledger(journal, this.#files, clock, log, options.spool, options.watch);
    this.#facts = new SmallFacts(this.#ledger);
    this.#dead = new DeadLetters(this.#ledger, options.dead, log);
    this.#alarms = new Alarms(this.#ledger, {
      ring: (recordKey) => this.#inbound.rang(recordKey),
      wake: (recordKey) => this.#inbound.wake(recordKey),
    });
    const ids = new RecentIds(this.#ledger, options.dedupe);
    this.#outbound = new OutboundQueue(this.#ledger, this.#messages, ids, this.#dead, lifetimes.result, window);
    this.#inbound = new InboundQueue({
      ledger: this.#ledger,
      live: this.#messages,
      ids,
      dead: this.#dead,
      facts: this.#facts,
      outbound: this.#outbound,
      alarms: this.#alarms,
      lifetimes,
      ...(window && { limits: window }),
    });
    this.#upkeep = new Upkeep(clock, log, [() => this.#facts.expire(), () => this.#dead.expire(), () => ids.expire()]);
    this.listing = new Listing(this.#ledger, this.#messages, { ids, facts: this.#facts, outbound: this.#outbound });
    this.#replays = new Replays(this.#files, this.#dead, this.#inbound, this.#outbound);
  }

  /**
   * Takes the state directory, opens the journal and makes the head of each queue live; `resume` then tells of them.
   * Throws AgentError state.in_use, state.unwritable, state.untrusted, state.corrupt or state.version.
   */
  async open(): Promise<void> {
    if (this.#scope !== undefined) return;
    const scope = new AbortController();
    // One listener for each lane that waits to be sent again.
    setMaxListeners(0, scope.signal);
    this.#scope = scope;
    const { journal, stateDir } = this.options;
    try {
      await makePrivateDirectory(stateDir, this.options.wayProblem);
      await this.#lock.acquire();
      await journal.open();
      FAULT: crashPoint('start.journal-open');
      await bringUpToDate({ journal, stateDir, log: this.options.log });
      scope.signal.throwIfAborted();
      await this.#files.sums.open(journal, this.options.log);
      await this.#files.open(scope.signal);
      const { deadBytes, damaged } = await this.#ledger.open(scope.signal);
      this.#facts.open();
      this.#dead.open(deadBytes);
      this.#outbound.open(scope.signal);
      this.#inbound.open(scope.signal);
      for (const record of damaged) await this.#giveUp(record);
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  /** Without its content nobody can be given it: that is its end, and it is told. */
  async #giveUp(record: LiveRecord): Promise<void> {
    const { key, messageId } = record;
    const text = 'its content file is missing or has another size: the disk has lost it';
    this.options.log.error('content.lost', 'a message is given up: its content cannot be read', { key, messageId });
    if (this.#messages.get(key) === undefined) this.#messages.put(record);
    try {
      if (record.kind === 'inbound') await this.#inbound.end(key, 'dead', { code: 'worker-failed', text });
      else await this.#outbound.end(key, 'dead', { code: 'worker-failed', text });
    } catch (error) {
      this.options.log.error('journal.write_failed', 'the end of a message could not be recorded yet', { key, error });
    }
  }

  /** Announces through `fed` and `lapsed` what the journal held, once those who listen are there. */
  resume(): void {
    if (this.#scope === undefined) return;
    this.#inbound.resume();
    this.#alarms.start(this.#scope.signal);
    this.#upkeep.start(this.#scope.signal);
  }

  /** Waits for commits under way. Idempotent, also in the middle of `open`. */
  async close(): Promise<void> {
    this.#scope?.abort();
    this.#scope = undefined;
    await this.#ledger.flush();
    await this.options.journal.close();
    await this.#lock.release();
    this.#messages.clear();
    this.workers.clear();
    this.processes.clear();
  }

  /** Proves that the journal can be written, by a small commit. Throws AgentError journal.write_failed. */
  probe(): Promise<void> {
    const now = Buffer.from(String(this.options.clock.now()));
    return this.#ledger.commit([{ table: 'facts', key: 'probe', value: now }]);
  }

  // Inbound: CONTRACT section 1, "From the broker to a worker".

  /** A record became live, or is due again. */
  get fed(): Signal<MessageKey> {
    return this.#inbound.fed;
  }

  /** The time of a record is over. */
  get lapsed(): Signal<MessageKey> {
    return this.#inbound.lapsed;
  }

  /** The intake was full and has room again. */
  get room(): Signal<undefined> {
    return this.#ledger.room;
  }

  accept(message: NewInbound, options?: AcceptOptions): Acceptance {
    return this.#inbound.accept(message, options);
  }

  /** Records a message refused at the door as dead; the key of the error answer, where its ids could be read. */
  bury(refused: Refused): Promise<MessageKey | undefined> {
    return this.#inbound.bury(refused);
  }

  inbound(key: MessageKey): InboundRecord | undefined {
    return this.#inbound.get(key);
  }

  waiting(directive: DirectiveKey): readonly MessageKey[] {
    return this.#inbound.waiting(directive);
  }

  markReady(key: MessageKey): boolean {
    return this.#inbound.markReady(key);
  }

  markFetching(key: MessageKey): boolean {
    return this.#inbound.markFetching(key);
  }

  unfetch(key: MessageKey): boolean {
    return this.#inbound.unfetch(key);
  }

  fetchFailed(key: MessageKey, dueAt: number): Promise<void> {
    return this.#inbound.fetchFailed(key, dueAt);
  }

  fetched(key: MessageKey, content: Content): Promise<void> {
    return this.#inbound.fetched(key, content);
  }

  nextReady(directive: DirectiveKey, options?: NextOptions): InboundRecord | undefined {
    return this.#inbound.next(directive, options);
  }

  markDispatching(key: MessageKey): void {
    this.#inbound.markDispatching(key);
  }

  requeue(key: MessageKey): void {
    this.#inbound.requeue(key);
  }

  failedAttempt(key: MessageKey, dueAt: number): Promise<void> {
    return this.#inbound.failedAttempt(key, dueAt);
  }

  delivered(key: MessageKey): Promise<boolean> {
    return this.#inbound.delivered(key);
  }

  /** A message is delivered and these are its results: all of it durable in one commit, or none. */
  complete(key: MessageKey, results: readonly NewOutbound[]): Completion {
    return this.#inbound.complete(key, results);
  }

  /** Resolves when the journal knows how a message has ended: a commit that failed is tried again until it is through. */
  recorded(key: MessageKey): Promise<void> {
    return this.#inbound.recorded(key);
  }

  end(key: MessageKey, end: Exclude<InboundEnd, 'delivered'>, failure: Failure): Promise<Ending> {
    return this.#inbound.end(key, end, failure);
  }

  cancel(directive: DirectiveKey, messageId: string): Promise<Cancellation> {
    return this.#inbound.cancel(directive, messageId);
  }

  // Content too large for a record.

  /** A file that is written bit by bit. Of a given kind, what is written all at once is kept for its first reader. */
  newContentFile(kind?: HotKind): ContentWriter {
    return this.#files.create(kind);
  }

  /** Takes one away that is finished and that no record names. */
  discardContentFile(path: string): Promise<void> {
    this.#ledger.release({ kind: 'file', path, size: 0 });
    return Promise.resolve();
  }

  readContent(content: Content): Promise<Buffer> {
    return this.#files.read(content);
  }

  /** Opens a content file to be read bit by bit: AgentError `content.damaged` comes before the last bit of it. */
  openContent(content: FileContent): Promise<ContentReader> {
    return this.#files.openRead(content);
  }

  /** Keeps room in the spool for a result that is on its way, until what it gives is called. Undefined: there is none. */
  reserve(bytes: number): (() => void) | undefined {
    return this.#ledger.reserve(bytes);
  }

  // Outbound: CONTRACT section 1, "From a worker to the broker or a URL".

  /** A lane that waited has its head due. */
  get laneDue(): Signal<string> {
    return this.#outbound.laneDue;
  }

  acceptResult(result: NewOutbound): ResultAcceptance {
    return this.#outbound.arrivals.accept(result, (handler, id) => this.#inbound.replyTopicOf(handler, id));
  }

  outbound(key: MessageKey): OutboundRecord | undefined {
    return this.#outbound.get(key);
  }

  laneOf(record: OutboundRecord): string {
    return this.#outbound.laneOf(record);
  }

  backlogLanes(): readonly string[] {
    return this.#outbound.backlogLanes();
  }

  nextOutbound(lane: string): OutboundRecord | undefined {
    return this.#outbound.next(lane);
  }

  markSending(key: MessageKey): void {
    this.#outbound.markSending(key);
  }

  unsend(key: MessageKey): void {
    this.#outbound.unsend(key);
  }

  retryOutbound(key: MessageKey, dueAt: number): Promise<void> {
    return this.#outbound.retry(key, dueAt);
  }

  endOutbound(key: MessageKey, end: OutboundEnd, failure?: Failure): Promise<boolean> {
    return this.#outbound.end(key, end, failure);
  }

  // Small durable facts.

  ownerOf(directive: DirectiveKey): WorkerName | undefined {
    return this.#facts.ownerOf(directive);
  }

  isKnown(directive: DirectiveKey): boolean {
    return this.#facts.isKnown(directive);
  }

  claim(directive: DirectiveKey, worker: WorkerName): Promise<void> {
    return this.#facts.claim(directive, worker);
  }

  releaseOwner(worker: WorkerName, directive?: DirectiveKey): Promise<void> {
    return this.#facts.releaseOwner(worker, directive);
  }

  reserveSent(now: number): Promise<number> {
    return this.#facts.reserveSent(now);
  }

  recordCommand(messageId: string): Promise<void> {
    return this.#facts.recordCommand(messageId);
  }

  isCommandRecorded(messageId: string): boolean {
    return this.#facts.isCommandRecorded(messageId);
  }

  // What an operator may look at.

  /** Messages that were given up, in the order of arrival. */
  deadLetters(): Iterable<DeadRecord> {
    return this.#dead.all();
  }

  /** Gives a dead message another chance. Rejects with journal.write_failed when it stays as it was. */
  replay(key: MessageKey): Promise<Replay> {
    return this.#replays.replay(key);
  }

  /** What could not be read of the journal, by the time it was found. */
  tornRecords(): Iterable<TornRecord> {
    return this.#ledger.torn.all();
  }

  get liveMessages(): number {
    return this.#messages.size;
  }

  /** Bytes that live messages take on disk. */
  get spoolBytes(): number {
    return this.#ledger.bytes;
  }
}
