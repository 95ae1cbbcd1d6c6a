/**
 * The agent's metrics in terms of its parts: what is counted as it happens, by the datastore's witness and by signals,
 * and what is looked up when somebody asks. Loaded only when `metrics-listen` is set.
 */
import { join } from 'node:path';
import type { BrokerView, HealthDesk, Progress } from './metrics/index.js';
import {
  collectProcess,
  freeBytes,
  LoopWatch,
  METRICS,
  MetricsPost,
  MOST_NAMES,
  Recorder,
  Registry,
  residentBytes,
  sizeOf,
} from './metrics/index.js';
import type { Settings } from './config/index.js';
import type { Connection } from './connection/index.js';
import type { Datastore } from './datastore/index.js';
import type { Log } from './log/log.js';
import { directiveKey, type DirectiveKey } from './message/index.js';
import type { DataProcessor } from './processor/index.js';
import type { MessageRouter } from './router/index.js';
import type { Clock } from './time.js';

export interface MetricsParts {
  readonly settings: Pick<Settings, 'metricsListen' | 'metricsHosts' | 'stateDir' | 'spoolLimit'>;
  readonly version: string;
  readonly wayProblem: (directory: string) => Promise<string | undefined>;
  readonly store: Datastore;
  readonly connection: Connection;
  readonly router: MessageRouter;
  readonly processor: DataProcessor;
  /** What is not open yet, or not any more. */
  readonly progress: () => Progress;
  readonly clock: Clock;
  readonly log: Log;
}

const INBOUND_STATES = ['accepted', 'fetching', 'ready', 'dispatching'] as const;
const OUTBOUND_STATES = ['queued', 'sending'] as const;
const WORKER_STATES = ['starting', 'running', 'stopping', 'backoff', 'waiting', 'stopped', 'refused'] as const;
const REFUSALS = ['malformed', 'too-large', 'unroutable'] as const;
/** In the journal's directory. */
const JOURNAL_FILES = ['data.mdb', 'wal-0', 'wal-1'];

export class AgentMetrics {
  readonly recorder: Recorder;
  readonly #registry = new Registry();
  readonly #loop: LoopWatch;
  readonly #post: MetricsPost | undefined;
  readonly #scope = new AbortController();

  constructor(private readonly parts: MetricsParts) {
    const { settings, store, clock, log, wayProblem } = parts;
    const registry = this.#registry;
    this.recorder = new Recorder({ registry, clock, labelOf: (directive) => labelOf(store, directive) });
    this.#loop = new LoopWatch(registry, clock);
    const desk: HealthDesk = {
      collect: () => this.#collect(),
      probe: () => store.probe(),
      progress: parts.progress,
      broker: () => brokerView(parts.connection),
    };
    const { metricsListen: address, metricsHosts: hosts } = settings;
    this.#post = address && new MetricsPost({ address, hosts, wayProblem, registry, desk, clock, log });
  }

  /** Listens, before anything else of the agent is open. Throws `metrics.listen_failed`. */
  async start(): Promise<void> {
    const { version, clock } = this.parts;
    const once = this.#registry;
    once.count(METRICS.build).with(version, process.versions.node).value = 1;
    once.count(METRICS.started).with().value = clock.now() / 1000;
    once.count(METRICS.spoolLimit).with().value = this.parts.settings.spoolLimit;
    this.#listenToSignals(this.#scope.signal);
    await this.#post?.start();
    this.#loop.start();
  }

  /** Idempotent. */
  async stop(): Promise<void> {
    this.#scope.abort();
    this.#loop.stop();
    await this.#post?.stop();
  }

  #listenToSignals(scope: AbortSignal): void {
    const { router, connection } = this.parts;
    const registry = this.#registry;
    const refused = registry.count(METRICS.messagesRefused);
    for (const reason of REFUSALS) refused.with(reason);
    router.malformed.connect(({ failure }) => refused.with(failure.code).add(), scope);
    const ups = registry.count(METRICS.connections).with();
    connection.up.connect(() => ups.add(), scope);
    const ends = registry.count(METRICS.connectionEnds);
    const failures = registry.count(METRICS.connectionFailures);
    ends.with('closed');
    failures.with('unreachable');
    connection.down.connect(({ wasUp, code }) => (wasUp ? ends : failures).with(code).add(), scope);
  }

  async #collect(): Promise<void> {
    this.#collectCounts();
    this.#loop.collect();
    // Before and behind the start of the store there is nothing to look up in it.
    if (this.parts.progress().isGood) {
      this.#collectQueues();
      await this.#collectWorkers();
    }
    await collectProcess(this.#registry);
    await this.#collectDisk();
  }

  #collectCounts(): void {
    const { router, connection, processor, progress } = this.parts;
    const set = (metric: Parameters<Registry['count']>[0], value: number, ...labels: readonly string[]): void => {
      this.#registry.count(metric).with(...labels).value = value;
    };
    const counts = router.counts;
    set(METRICS.messagesDuplicate, counts.duplicates);
    set(METRICS.messagesLeft, counts.dropped);
    set(METRICS.messagesHeld, counts.held);
    set(METRICS.messagesUnacknowledged, connection.unacknowledged);
    set(METRICS.resultsPublishing, counts.publishing);
    const { fetching, fetchesWaiting, posting, postsWaiting } = processor.gauges;
    set(METRICS.fetches, fetching, 'running');
    set(METRICS.fetches, fetchesWaiting, 'waiting');
    set(METRICS.posts, posting, 'running');
    set(METRICS.posts, postsWaiting, 'waiting');
    set(METRICS.connectionUp, connection.state.kind === 'up' ? 1 : 0);
    set(METRICS.ready, progress().isGood ? 1 : 0);
  }

  #collectQueues(): void {
    const { store, clock } = this.parts;
    const registry = this.#registry;
    const now = clock.now();
    const inbound = registry.count(METRICS.queueMessages);
    const outbound = registry.count(METRICS.outboxResults);
    inbound.clear();
    for (const label of this.recorder.labels) for (const state of INBOUND_STATES) inbound.with(label, state);
    outbound.clear();
    for (const state of OUTBOUND_STATES) outbound.with(state);
    let oldest = now;
    let oldestResult = now;
    for (const record of store.listing.inMemory()) {
      if (record.kind === 'inbound') {
        inbound.with(this.recorder.labelFor(record), record.state).add();
        oldest = Math.min(oldest, record.arrivedAt);
      } else {
        outbound.with(record.state).add();
        oldestResult = Math.min(oldestResult, record.arrivedAt);
      }
    }
    registry.count(METRICS.queueOldest).with().value = (now - oldest) / 1000;
    registry.count(METRICS.outboxOldest).with().value = (now - oldestResult) / 1000;
    registry.count(METRICS.pending).with().value = store.listing.pending;
    registry.count(METRICS.dead).with().value = store.listing.dead;
    registry.count(METRICS.spool).with().value = store.spoolBytes;
  }

  async #collectWorkers(): Promise<void> {
    const { store } = this.parts;
    const entries = store.processes.all().slice(0, MOST_NAMES);
    const memory = await Promise.all(
      entries.map(async ({ pid }) => (pid === undefined ? undefined : await residentBytes(pid))),
    );
    const registry = this.#registry;
    const states = registry.count(METRICS.workerState);
    const registered = registry.count(METRICS.workerRegistered);
    const restarts = registry.count(METRICS.workerRestarts);
    const started = registry.count(METRICS.workerStarted);
    const resident = registry.count(METRICS.workerMemory);
    // No await from here on: nobody sees them empty.
    for (const family of [states, registered, restarts, started, resident]) family.clear();
    for (const [index, { id, state, restarts: count, startedAt }] of entries.entries()) {
      for (const each of WORKER_STATES) states.with(id, each).add(each === state ? 1 : 0);
      registered.with(id).add(store.workers.get(id)?.state === 'registered' ? 1 : 0);
      restarts.with(id).add(count);
      if (startedAt !== undefined) started.with(id).add(startedAt / 1000);
      const bytes = memory[index];
      if (bytes !== undefined) resident.with(id).add(bytes);
    }
  }

  async #collectDisk(): Promise<void> {
    const { stateDir } = this.parts.settings;
    const sizes = await Promise.all(JOURNAL_FILES.map((name) => sizeOf(join(stateDir, 'journal', name))));
    const size = sizes.reduce<number>((sum, each) => sum + (each ?? 0), 0);
    const free = await freeBytes(stateDir);
    if (size > 0) this.#registry.count(METRICS.journalSize).with().value = size;
    if (free !== undefined) this.#registry.count(METRICS.diskFree).with().value = free;
  }
}

/** How a directive is written that somebody registered here; undefined for one that only a sender has named. */
function labelOf(store: Datastore, directive: DirectiveKey): string | undefined {
  if (!store.isKnown(directive)) return undefined;
  const handlers = store.workers.all().flatMap((worker) => worker.handlers);
  return handlers.find((handler) => directiveKey(handler.directive) === directive)?.directive ?? directive;
}

function brokerView({ state }: Connection): BrokerView {
  switch (state.kind) {
    case 'up':
      return { state: 'up', broker: state.session.broker, reason: '' };
    case 'connecting':
      return { state: 'connecting', broker: state.broker, reason: 'connecting' };
    case 'waiting':
      return { state: 'waiting', broker: '', reason: state.down.reason };
    case 'down':
      return { state: 'down', broker: '', reason: 'told to stay down; `ygg link up` brings it back' };
    case 'idle':
    case 'stopped':
      return { state: state.kind, broker: '', reason: `the connection is ${state.kind}` };
  }
}
