/**
 * The composition root: the whole program can be read here. It builds the parts, connects their signals as in the
 * table of DESIGN section 2, starts them in order and stops them in reverse. It decides nothing.
 */
import { setMaxListeners } from 'node:events';
import { join } from 'node:path';
import { AdminPost } from './admin/index.js';
import { adminDesk, type AgentHost } from './agent-admin.js';
import { progressOf, startObservers, type Observers } from './agent-observers.js';
import {
  configForWorkers,
  connectionSettings,
  dispatchLimits,
  processorLimits,
  proxyOf,
  routerSettings,
  storeSettings,
  tlsOf,
  urlSettings,
} from './agent-settings.js';
import {
  isSameCredentials,
  loadWorkerSettings,
  parseTags,
  type Credentials,
  type Settings,
  type WorkerSettings,
} from './config/index.js';
import { Connection } from './connection/index.js';
import { LmdbJournal, type Datastore, type Journal, type Watch } from './datastore/index.js';
import { Dispatcher } from './dispatcher/index.js';
import { readCanonicalFacts, RecentFacts, systemSources, TagsFile, type Tags } from './facts/index.js';
import type { Log } from './log/log.js';
import type { Progress } from './metrics/index.js';
import type { ClientId } from './message/index.js';
import {
  createWayCheck,
  ProcessManager,
  Users,
  type Cgroups,
  type Marks,
  type ReloadedWorkers,
  type SettingsOutcome,
} from './process/index.js';
import { createUrlPolicy, DataProcessor } from './processor/index.js';
import { LocalCalls } from './local/index.js';
import { MessageRouter, subscriptionsOf } from './router/index.js';
import { TracedStore } from './traced-store.js';
import { connectTrace } from './agent-trace.js';
import { Trace } from './trace/index.js';
import { systemClock, type Clock, type Millis, type Random } from './time.js';

export interface AgentOptions {
  readonly settings: Settings;
  readonly credentials: Credentials;
  readonly clientId: ClientId;
  /** Told in connection-status, and in the User-Agent. */
  readonly version: string;
  /** PATH and the proxy variables, as workers get them. */
  readonly workerEnvironment: { readonly path: string; readonly proxy: Readonly<Record<string, string>> };
  readonly agentUser: { readonly uid: number; readonly gid: number };
  /** From `openCgroups`: one for each worker, where the service manager delegated them. */
  readonly cgroups?: Cgroups | undefined;
  /** `openMarks`, called before the first worker is started: what their processes carry, so that none can hide. */
  readonly marks?: (() => Promise<Marks | undefined>) | undefined;
  readonly log: Log;
  /** What its operator may ask of the program around it. */
  readonly host?: AgentHost;
  /** Default: LMDB in the state directory. */
  readonly journal?: Journal;
  readonly clock?: Clock;
  readonly random?: Random;
}

/** What a reload met with. */
export interface AgentReloaded {
  readonly credentials: 'same' | CredentialsRenewal;
  readonly workers: ReloadedWorkers;
}

/** `kept`: the new ones cannot be used, and why. */
export type CredentialsRenewal = 'renewed' | { readonly kept: string };

/** What may change while the agent runs. */
export interface AgentReload {
  readonly settings: Settings;
  /** Undefined: those in use stay. */
  readonly credentials: Credentials | undefined;
}

export class Agent {
  readonly store: Datastore;
  readonly connection: Connection;
  readonly router: MessageRouter;
  readonly processor: DataProcessor;
  readonly dispatcher: Dispatcher;
  readonly processes: ProcessManager<WorkerSettings>;
  readonly tags: TagsFile;
  readonly admin: AdminPost;
  /** Messages of this machine's operator. */
  readonly local: LocalCalls;
  readonly trace: Trace;
  readonly #log: Log;
  readonly #scope = new AbortController();
  /** Ends when the agent begins to stop: that its workers go one by one is no news for the fleet. */
  readonly #serving = new AbortController();
  /** Where those come who count or trace messages. */
  readonly #watch: Watch = {};
  /** As the fleet is told them. */
  readonly #facts: RecentFacts;
  readonly #wayProblem: (directory: string) => Promise<string | undefined>;
  /** What must be open before the agent is ready. */
  readonly #missing = new Set<'journal' | 'sockets' | 'workers'>(['journal', 'sockets', 'workers']);
  #observers: Observers | undefined;
  #settings: Settings;
  #credentials: Credentials;
  #starting: Promise<void> | undefined;
  #stopping: Promise<void> | undefined;

  /** Makes the parts and touches nothing. Throws `config.invalid` or `config.no_broker` for settings that cannot be. */
  constructor(private readonly options: AgentOptions) {
    const { settings, clientId, version, log, clock = systemClock, random = Math.random } = options;
    const shared = { clock, random };
    const users = new Users();
    const wayProblem = createWayCheck(options.agentUser.uid, users);
    const watch = this.#watch;
    this.#wayProblem = wayProblem;
    this.#log = log;
    this.#settings = settings;
    this.#credentials = options.credentials;
    const credentials = (): Credentials => this.#credentials;

    this.trace = new Trace({ clock, find: (key) => this.store.inbound(key) ?? this.store.outbound(key) });
    const store = {
      ...storeSettings(settings),
      wayProblem,
      watch,
      journal:
        options.journal ?? new LmdbJournal(join(settings.stateDir, 'journal'), log.child({ part: 'datastore' }), watch),
      clock,
      log: log.child({ part: 'datastore' }),
    };
    this.store = new TracedStore(store, this.trace);
    this.connection = new Connection({
      ...connectionSettings(settings, credentials),
      ...shared,
      clientId,
      subscriptions: subscriptionsOf(settings.topicPrefix, clientId),
      will: () => this.router.will(),
      log: log.child({ part: 'connection' }),
    });
    this.tags = new TagsFile({ path: join(settings.configDir, 'tags.toml'), parse: parseTags, clock, log });
    const sources = { sources: systemSources, clock, log, factsFile: settings.factsFile };
    const tags = (): Tags => this.tags.tags;
    this.#facts = new RecentFacts(sources);
    this.router = new MessageRouter({
      ...shared,
      connection: () => this.connection,
      store: this.store,
      clientId,
      topicPrefix: settings.topicPrefix,
      identity: { facts: () => this.#facts.read(), tags, version },
      settings: routerSettings(settings),
      log: log.child({ part: 'router' }),
    });
    this.processor = new DataProcessor({
      ...shared,
      store: this.store,
      policy: createUrlPolicy(urlSettings(settings)),
      version,
      tls: tlsOf(options.credentials),
      limits: processorLimits(settings),
      proxyFor: proxyOf(settings, credentials),
      proxyResolves: settings.proxyResolves,
      log: log.child({ part: 'processor' }),
    });
    this.dispatcher = new Dispatcher({
      ...shared,
      runtimeDir: settings.runtimeDir,
      wayProblem,
      store: this.store,
      isPeer: (name, peer) => this.processes.isMember(name, peer),
      isInstalled: (name) => !this.processes.isRemoved(name),
      agentConfig: () => configForWorkers(this.#settings, clientId),
      limits: dispatchLimits(settings),
      log: log.child({ part: 'dispatcher' }),
    });
    this.processes = new ProcessManager<WorkerSettings>({
      ...shared,
      workerDir: settings.workerDir,
      stateDir: settings.stateDir,
      runtimeDir: settings.runtimeDir,
      exclude: settings.excludeWorker,
      environment: {
        ...options.workerEnvironment,
        configDir: settings.configDir,
        logLevel: () => this.#settings.logLevel,
        clientId: () => clientId,
      },
      agent: options.agentUser,
      users,
      workerUser: settings.workerUser,
      settings: (name) => this.#workerSettings(name),
      prepare: (request) => this.dispatcher.prepare(request),
      processes: this.store.processes,
      cgroups: options.cgroups,
      marks: options.marks,
      log: log.child({ part: 'process' }),
    });
    this.local = new LocalCalls({
      store: this.store,
      maxMessageSize: settings.maxMessageSize,
      clock,
      log: log.child({ part: 'local' }),
    });
    this.admin = new AdminPost({
      runtimeDir: settings.runtimeDir,
      wayProblem,
      desk: adminDesk({
        ...{ store: this.store, connection: this.connection, router: this.router, host: options.host },
        identity: { facts: () => readCanonicalFacts(sources), tags },
        ...{ dispatcher: this.dispatcher, processes: this.processes, local: this.local, trace: this.trace },
        ...{ version, clientId, pid: process.pid, startedAt: clock.now(), spoolLimit: settings.spoolLimit },
      }),
      maxMessageSize: settings.maxMessageSize,
      log: log.child({ part: 'admin' }),
    });
    // One listener for each connected signal, and one for each timer that waits.
    setMaxListeners(0, this.#scope.signal);
    this.#connect(this.#scope.signal);
  }

  /** The table of DESIGN section 2. */
  #connect(scope: AbortSignal): void {
    const { store, router, processor, dispatcher, processes, tags, local } = this;
    // Before the parts: what one of them does on a signal is a later step.
    connectTrace(this, scope);

    router.dataRecv.connect((key) => processor.accept(key), scope);
    store.fed.connect((key) => processor.accept(key), scope);
    store.lapsed.connect((key) => processor.lapse(key), scope);
    processor.dataProcess.connect((key) => dispatcher.enqueue(key), scope);
    dispatcher.dataDispatch.connect((dispatched) => processor.dispatched(dispatched), scope);
    dispatcher.dataReturn.connect((key) => processor.returned(key), scope);
    store.laneDue.connect((lane) => processor.laneDue(lane), scope);
    processor.dataConsume.connect((key) => router.publish(key), scope);

    local.dataRecv.connect((key) => processor.accept(key), scope);
    processor.dataConsume.connect(() => local.answered(), scope);
    dispatcher.dataDispatch.connect(() => local.dispatched(), scope);

    processes.processSpawn.connect((spawned) => dispatcher.processSpawned(spawned), scope);
    processes.processDie.connect((exit) => dispatcher.processDied(exit), scope);
    processes.workerRemoved.connect((name) => dispatcher.forget(name), scope);
    dispatcher.workerUnhealthy.connect(({ name, reason }) => processes.unhealthy(name, reason), scope);
    dispatcher.workerRegister.connect(({ name, directive }) => {
      processes.registered(name);
      processor.workerRegistered(directive);
      router.workersChanged();
    }, scope);
    dispatcher.workerUnregister.connect(() => router.workersChanged(), this.#serving.signal);

    router.dataCancel.connect((cancel) => dispatcher.notifyCancel(cancel), scope);
    router.connectionLost.connect(() => dispatcher.notifyConnectionLost(), scope);
    router.connectionRestored.connect(() => dispatcher.notifyConnectionRestored(), scope);
    router.disconnectCommand.connect(() => dispatcher.notifyDisconnectCommand(), scope);
    tags.changed.connect(() => router.identityChanged(), scope);
  }

  /**
   * Opens the journal, then the sockets, begins to connect and starts the workers; resolves without waiting for
   * the broker. What the journal held goes on where it stood. Throws `state.*`, `runtime.*`; then nothing is left open.
   */
  async start(): Promise<void> {
    this.#starting ??= this.#start(this.#serving.signal);
    try {
      await this.#starting;
    } catch (error) {
      await this.stop(0);
      throw error;
    }
  }

  /** Ends between two steps when `stop` is called meanwhile. */
  async #start(scope: AbortSignal): Promise<void> {
    scope.throwIfAborted();
    this.#observers = await this.#observe();
    // The will needs them, and name servers take their time.
    void this.#facts.read();
    await this.store.open();
    this.#missing.delete('journal');
    await this.tags.start();
    await this.dispatcher.start(scope);
    await this.processor.start();
    await this.admin.start();
    this.#missing.delete('sockets');
    this.store.resume();
    this.local.start(this.#scope.signal);
    scope.throwIfAborted();
    // What comes for workers waits for them in the store.
    await this.router.start();
    await this.processes.start(scope);
    this.#missing.delete('workers');
    scope.throwIfAborted();
  }

  /**
   * Lets work in hand come to its end within `drain`, stops the workers, says goodbye to the broker, closes the
   * journal. Idempotent; works in the middle of a start. What is not done goes on after the next start.
   */
  stop(drain: Millis = this.#settings.drainTimeout): Promise<void> {
    this.#stopping ??= this.#stop(drain);
    return this.#stopping;
  }

  async #stop(drain: Millis): Promise<void> {
    this.#serving.abort(new Error('the agent was stopped while it started'));
    // A step under way is let through, so that nothing is opened behind our back; who called `start` hears the reason.
    await this.#starting?.catch(() => undefined);
    await this.admin.stop();
    await this.dispatcher.drain(drain);
    await this.processes.stop(drain);
    await this.dispatcher.stop(0);
    await this.processor.stop(drain);
    await this.router.stop();
    await this.tags.stop();
    this.#scope.abort();
    await this.store.close();
    await this.#observers?.stop();
  }

  /** First of all, so that whoever asks is told what is not open yet. */
  #observe(): Promise<Observers> {
    const { settings, version, log, clock = systemClock } = this.options;
    const { store, connection, router, processor } = this;
    const progress = (): Progress => progressOf(this.#missing, this.#serving.signal.aborted);
    return startObservers(
      {
        ...{ settings, version, clock, log: log.child({ part: 'metrics' }), wayProblem: this.#wayProblem },
        ...{ store, connection, router, processor, progress },
      },
      this.#watch,
    );
  }

  /**
   * Takes over what can be taken over without a restart: log level for workers to come, credentials (the connection is
   * made anew, its session kept), tags, workers' files; a connection that was told to stay down comes back.
   */
  async reload({ settings, credentials }: AgentReload): Promise<AgentReloaded> {
    this.#settings = { ...this.#settings, logLevel: settings.logLevel, drainTimeout: settings.drainTimeout };
    const isNew = credentials !== undefined && !isSameCredentials(credentials, this.#credentials);
    const renewal = isNew ? await this.renewCredentials(credentials) : 'same';
    await this.tags.refresh();
    const workers = await this.processes.reload();
    await this.router.linkUp();
    return { credentials: renewal, workers };
  }

  /** New certificates or passwords: the connection is made anew with them, its session kept. */
  async renewCredentials(credentials: Credentials): Promise<CredentialsRenewal> {
    const before = this.#credentials;
    this.#credentials = credentials;
    const renewed = await this.connection.renew();
    if (renewed.kind === 'renewed') {
      this.processor.reconfigure({ tls: tlsOf(credentials) });
      this.#log.info('credentials.renewed', 'new credentials are in use');
      return 'renewed';
    }
    this.#credentials = before;
    const { problem } = renewed;
    this.#log.error('credentials.kept', 'the new credentials cannot be used; the old ones stay', { problem });
    return { kept: problem };
  }

  /** Proves that the journal can be written; rejects when it cannot. */
  checkHealth(): Promise<void> {
    return this.store.probe();
  }

  async #workerSettings(
    name: Parameters<typeof loadWorkerSettings>[0]['name'],
  ): Promise<SettingsOutcome<WorkerSettings>> {
    const loaded = await loadWorkerSettings({ configDir: this.#settings.configDir, name });
    if (loaded.kind === 'ok') {
      for (const warning of loaded.warnings) this.#log.warn('worker.config', warning, { worker: name });
    }
    return loaded;
  }
}
