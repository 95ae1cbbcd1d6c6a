/**
 * The daemon around an agent: its log, its identity, an embedded broker where one is wanted, the signals of the
 * process, and word to the service manager. Runs until SIGTERM or SIGINT; a second one ends it at once.
 */
import { join } from 'node:path';
import { Agent } from '../agent.js';
import type { AgentHost } from '../agent-admin.js';
import {
  CredentialWatch,
  resolveClientId,
  Secret,
  type Credentials,
  type Settings,
  type Surroundings,
} from '../config/index.js';
import { makePrivateDirectory } from '../datastore/index.js';
import { createLog, recentLines, type ProgramLog } from '../log/index.js';
import { createWayCheck, openCgroups, openMarks, Users } from '../process/index.js';
import type { RingReader } from '../signal/index.js';
import { systemClock, type Millis } from '../time.js';
import { VERSION } from '../version.js';
import { openFileRelease, releaseStartPages } from './idle-pages.js';
import { MemoryRelief, openCollector, openTrim } from './memory-relief.js';
import { createNotifier, type Notifier } from './notify.js';
import type { BrokerAddress, EmbeddedBroker } from '../broker/index.js';
import { exampleCommands } from './examples.js';
import { RunningConfig, type LoadedConfig } from './running-config.js';

export interface DaemonOptions extends LoadedConfig {
  readonly surroundings: Surroundings;
  readonly credentials: Credentials;
}

/** What the agent runs with, and where the embedded broker is, if there is one. */
interface Placed {
  readonly settings: Settings;
  readonly credentials: Credentials;
  readonly address: BrokerAddress | undefined;
}

/** Below the state directory: the file in which LMDB keeps the journal's tables. */
const TABLES = 'journal/data.mdb';
/** Exit code of a daemon that was told twice to end (128 + SIGTERM). */
const EXIT_KILLED = 143;

/** By then a start is over, with its workers. */
const STARTED_AFTER: Millis = 5_000;

/** Runs until a signal ends it; the exit code. Throws AgentError when the agent cannot start. */
export async function runDaemon(options: DaemonOptions): Promise<number> {
  const { settings, surroundings } = options;
  const { journalStream, isColourless } = surroundings;
  const recent = recentLines();
  const { logLevel: level, logFormat: format } = settings;
  const log = createLog({ level, format, journalStream, isColourless, recent });
  const daemon = new Daemon(options, log, recent);
  try {
    return await daemon.run();
  } finally {
    log.flush();
  }
}

class Daemon {
  readonly #scope = new AbortController();
  /** Keeps the event loop alive: all other timers let it end. */
  readonly #alive = setInterval(() => undefined, 2 ** 30);
  #broker: EmbeddedBroker | undefined;
  readonly #config: RunningConfig;
  #reloading: Promise<unknown> = Promise.resolve();
  #isStopping = false;

  constructor(
    private readonly options: DaemonOptions,
    private readonly log: ProgramLog,
    private readonly recent: RingReader<string>,
  ) {
    this.#config = new RunningConfig(options, log);
  }

  async run(): Promise<number> {
    const { log } = this;
    const notifier = await createNotifier(process.env, { clock: systemClock, log, pid: process.pid });
    // From here on a signal is an orderly end, also in the middle of the start.
    const ended = this.#untilSignal();
    try {
      const starting = this.#start(notifier);
      // An operator may ask for a reload as soon as the agent listens.
      this.#reloading = starting;
      // A SIGHUP kills who does not listen; one in the middle of the start waits for its end. What fails stands in the log.
      this.#onHangUp(() => void starting.then(({ agent }) => this.#reload(agent, notifier)).catch(() => undefined));
      const { agent, watch } = await starting;
      await ended;
      this.#isStopping = true;
      notifier.stopping();
      watch.stop();
      log.info('agent.stopping', 'told to stop: work in hand is brought to its end');
      await agent.stop(this.#config.settings.drainTimeout);
      log.info('agent.stopped', 'stopped');
      return 0;
    } finally {
      await this.#broker?.stop();
      this.#scope.abort();
      notifier.close();
      clearInterval(this.#alive);
    }
  }

  async #start(notifier: Notifier): Promise<{ agent: Agent; watch: CredentialWatch }> {
    const { log } = this;
    const { surroundings } = this.options;
    const agentUser = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
    // Before anything is read from it or written to it: the broker's password and the client id come before the journal.
    await makePrivateDirectory(this.options.settings.stateDir, createWayCheck(agentUser.uid, new Users()));
    const { settings, credentials, address } = await this.#withBroker(this.options);
    const clientId = await resolveClientId({
      configured: settings.clientId,
      commonName: credentials.commonName,
      stateDir: settings.stateDir,
    });
    const agent: Agent = new Agent({
      settings,
      credentials,
      clientId,
      version: VERSION,
      workerEnvironment: { path: surroundings.path, proxy: surroundings.proxyVariables },
      agentUser,
      cgroups: await openCgroups({ log }),
      marks: () => openMarks(log),
      log,
      host: {
        log: recentLog(this.recent, log),
        config: { running: () => this.#config.view(), reload: () => this.#reload(agent, notifier) },
      },
    });
    log.info('agent.starting', `yggd ${VERSION} starts`, { clientId, stateDir: settings.stateDir });
    this.#tellStatus(agent, notifier);
    await agent.start();
    log.info('agent.ready', 'ready: the journal and the sockets are open, the worker directory was read', { clientId });
    notifier.ready();
    await this.#relieve(agent);
    // The password is in them: never into a log.
    if (address !== undefined && process.stdout.isTTY) {
      const { topicPrefix, workerDir } = settings;
      process.stdout.write(exampleCommands({ address, topicPrefix, clientId, workerDir, ygg: 'ygg' }));
    }
    notifier.watchdog(async () => {
      await agent.checkHealth();
      return true;
    }, this.#scope.signal);
    const watch = new CredentialWatch({ settings, clock: systemClock, log });
    watch.changed.connect((fresh) => agent.renewCredentials(fresh), this.#scope.signal);
    await watch.start(this.#scope.signal);
    return { agent, watch };
  }

  /** Starts the embedded broker where it is wanted; the agent then connects to it with its password. */
  async #withBroker({ settings, credentials }: DaemonOptions): Promise<Placed> {
    if (settings.embeddedBroker === undefined) return { settings, credentials, address: undefined };
    const { EmbeddedBroker } = await import('../broker/index.js');
    this.#broker = new EmbeddedBroker({ stateDir: settings.stateDir, port: settings.embeddedBroker, log: this.log });
    const address = await this.#broker.start(this.#scope.signal);
    const placed = { ...settings, broker: [address.url], username: address.username };
    this.#config.useEmbeddedBroker(placed);
    return {
      settings: placed,
      credentials: { ...credentials, password: new Secret(address.password) },
      address,
    };
  }

  #tellStatus(agent: Agent, notifier: Notifier): void {
    agent.connection.up.connect(({ broker }) => notifier.status(`connected to ${broker}`), this.#scope.signal);
    agent.connection.down.connect(({ reason }) => notifier.status(reason), this.#scope.signal);
  }

  /** Memory that the start took is given back when it is over, and what messages took when they are done. */
  async #relieve(agent: Agent): Promise<void> {
    systemClock.after(STARTED_AFTER, () => void releaseStartPages(), this.#scope.signal);
    const trim = await openTrim();
    const release = await openFileRelease(join(this.options.settings.stateDir, TABLES));
    if (trim === undefined) return;
    const relief = new MemoryRelief(
      {
        clock: systemClock,
        resident: () => process.memoryUsage.rss(),
        // A context of its own each time: it is seldom needed, and would be kept for ever.
        collect: () => openCollector()?.(),
        trim: () => {
          trim();
          release?.();
        },
      },
      this.#scope.signal,
    );
    agent.router.dataRecv.connect(() => relief.touch(), this.#scope.signal);
    agent.dispatcher.dataReturn.connect(() => relief.touch(), this.#scope.signal);
  }

  #untilSignal(): Promise<void> {
    return new Promise((resolve) => {
      let isAsked = false;
      const onSignal = (): void => {
        if (isAsked) {
          this.log.warn(
            'agent.killed',
            'told to stop again: ending now; what was not done goes on after the next start',
          );
          this.log.flush();
          process.exit(EXIT_KILLED);
        }
        isAsked = true;
        resolve();
      };
      const off = (): void => {
        process.off('SIGTERM', onSignal);
        process.off('SIGINT', onSignal);
      };
      process.on('SIGTERM', onSignal);
      process.on('SIGINT', onSignal);
      this.#scope.signal.addEventListener('abort', off, { once: true });
    });
  }

  /** Until the daemon has ended: a SIGHUP that comes while it stops has no effect, and must not kill it either. */
  #onHangUp(reload: () => void): void {
    const listener = (): void => {
      if (!this.#isStopping) reload();
    };
    process.on('SIGHUP', listener);
    this.#scope.signal.addEventListener('abort', () => process.off('SIGHUP', listener), { once: true });
  }

  /** SIGHUP, and what an operator asks for: one reload after the other. Rejects when it failed, which stands in the log. */
  #reload(agent: Agent, notifier: Notifier): ReturnType<RunningConfig['readAgain']> {
    const before = this.#reloading.catch(() => undefined);
    const reloading = before.then(async () => {
      notifier.reloading();
      try {
        return await this.#config.readAgain(agent);
      } catch (error) {
        this.log.error('config.reload_failed', 'the reload failed; what was running goes on as it was', { error });
        throw error;
      } finally {
        notifier.ready();
      }
    });
    this.#reloading = reloading;
    return reloading;
  }
}

/** The log as the operator's service reads it. */
function recentLog(lines: RingReader<string>, log: ProgramLog): AgentHost['log'] {
  return {
    lines,
    get level() {
      return log.level;
    },
  };
}
