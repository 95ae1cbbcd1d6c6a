/**
 * The settings a daemon runs with: where each comes from, what a reload takes over, and what of the configuration waits
 * for a restart.
 */
import type { Agent } from '../agent.js';
import type { ConfigDesk } from '../admin/index.js';
import {
  checkCredentials,
  describeProblem,
  diffSettings,
  loadSettings,
  SETTING_NAMES,
  shownValue,
  type Origins,
  type SettingName,
  type Settings,
} from '../config/index.js';
import type { ProgramLog } from '../log/index.js';

export interface LoadedConfig {
  readonly settings: Settings;
  readonly origins: Origins;
  readonly file: string | undefined;
}

type Reloaded = Awaited<ReturnType<ConfigDesk['reload']>>;

export class RunningConfig {
  #loaded: LoadedConfig;
  #needRestart: readonly SettingName[] = [];
  #isBrokerEmbedded = false;

  constructor(
    loaded: LoadedConfig,
    private readonly log: ProgramLog,
  ) {
    this.#loaded = loaded;
  }

  get settings(): Settings {
    return this.#loaded.settings;
  }

  /** The broker in the settings is the daemon's own: its address stands in no file. */
  useEmbeddedBroker(settings: Settings): void {
    this.#loaded = { ...this.#loaded, settings };
    this.#isBrokerEmbedded = true;
  }

  /** As an operator is shown it. */
  view(): ReturnType<ConfigDesk['running']> {
    const { settings, file } = this.#loaded;
    return {
      settings: SETTING_NAMES.map((name) => ({
        name,
        value: shownValue(settings, name) ?? '',
        ...this.#originOf(name),
        needsRestart: this.#needRestart.includes(name),
      })),
      file: file ?? '',
    };
  }

  /** Reads all anew and gives the agent what it can take over. Rejects when the agent could not. */
  async readAgain(agent: Pick<Agent, 'reload'>): Promise<Reloaded> {
    const { log } = this;
    const running = this.#loaded.settings;
    const loaded = await loadSettings();
    // The flags are those that the daemon was started with.
    if (loaded.kind !== 'ok' && loaded.kind !== 'invalid') return NOTHING;
    const warnings = loaded.warnings.map(describeProblem);
    if (loaded.kind === 'invalid') {
      const problems = loaded.problems.map(describeProblem);
      log.error('config.invalid', 'the new settings are wrong: nothing was reloaded', { problems });
      return { ...NOTHING, problems, warnings };
    }
    const settings = this.#isBrokerEmbedded ? withBrokerOf(running, loaded.settings) : loaded.settings;
    // From the files that are in use: other names of them need a restart, what stands in them does not.
    const checked = await checkCredentials(running);
    if (checked.kind === 'invalid') {
      const problems = checked.problems.map(describeProblem);
      log.error('config.credentials', 'the new credentials are wrong: nothing was reloaded', { problems });
      return { ...NOTHING, problems, warnings };
    }
    const { reloadable, needRestart } = diffSettings(running, settings);
    log.setLevel(settings.logLevel);
    const credentials = this.#isBrokerEmbedded ? undefined : checked.credentials;
    const reloaded = await agent.reload({ settings, credentials });
    this.#take({ ...loaded, settings }, needRestart);
    log.info('config.reloaded', 'reloaded', { changed: reloadable });
    if (needRestart.length > 0)
      log.warn('config.needs_restart', 'these settings need a restart', { settings: needRestart });
    return {
      problems: [],
      warnings: [...warnings, ...checked.warnings.map(describeProblem)],
      changed: [...reloadable],
      needsRestart: [...needRestart],
      workers: reloaded.workers.restarted,
      workerProblems: reloaded.workers.problems,
      credentials: typeof reloaded.credentials === 'string' ? reloaded.credentials : 'kept',
      credentialsProblem: typeof reloaded.credentials === 'string' ? '' : reloaded.credentials.kept,
    };
  }

  /** What takes no restart is in force, and comes from where it stands now. */
  #take({ settings, origins, file }: LoadedConfig, needRestart: readonly SettingName[]): void {
    const { logLevel, drainTimeout } = settings;
    const before = this.#loaded.origins;
    const now = SETTING_NAMES.flatMap((name) => {
      const origin = (needRestart.includes(name) ? before : origins).get(name);
      return origin === undefined ? [] : [[name, origin] as const];
    });
    this.#loaded = { settings: { ...this.settings, logLevel, drainTimeout }, origins: new Map(now), file };
    this.#needRestart = needRestart;
  }

  #originOf(name: SettingName): { readonly origin: string; readonly source: string; readonly line: number } {
    if (this.#isBrokerEmbedded && (name === 'broker' || name === 'username'))
      return { origin: 'embedded-broker', source: '', line: 0 };
    const origin = this.#loaded.origins.get(name);
    if (origin === undefined) return { origin: 'default', source: '', line: 0 };
    return { origin: origin.kind, source: origin.source, line: origin.line ?? 0 };
  }
}

const NOTHING: Reloaded = {
  problems: [],
  warnings: [],
  changed: [],
  needsRestart: [],
  workers: [],
  workerProblems: [],
  credentials: 'same',
  credentialsProblem: '',
};

/** The embedded broker's address is not in the file: it stays what it is. */
function withBrokerOf(running: Settings, loaded: Settings): Settings {
  return { ...loaded, broker: running.broker, username: running.username };
}
