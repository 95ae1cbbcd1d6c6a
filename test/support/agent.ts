/** An agent of a test's own, used as a library: in this process, over a journal in memory unless told otherwise. */
import { join } from 'node:path';
import { Agent, type AgentOptions } from '../../src/agent.js';
import { checkCredentials, loadSettings, type Settings } from '../../src/config/index.js';
import { MemoryJournal } from '../../src/datastore/index.js';
import { silentLog } from '../../src/log/log.js';
import { parseClientId } from '../../src/message/index.js';

/** Settings whose directories are `configs`, `states`, `run` and `workers` below `base`. */
export async function settingsFor(base: string, argv: readonly string[]): Promise<Settings> {
  const directories = ['config', 'state', 'worker'].map((name) => `--${name}-dir=${join(base, `${name}s`)}`);
  const loaded = await loadSettings({ argv: [...directories, `--runtime-dir=${join(base, 'run')}`, ...argv], env: {} });
  if (loaded.kind !== 'ok') throw new Error(JSON.stringify(loaded));
  return loaded.settings;
}

/** An agent that was not started. */
export async function makeAgent(
  base: string,
  argv: readonly string[],
  options: Partial<AgentOptions> = {},
): Promise<Agent> {
  const settings = await settingsFor(base, argv);
  const checked = await checkCredentials(settings);
  const clientId = parseClientId('library');
  if (checked.kind !== 'ok' || clientId === undefined) throw new Error('the settings are wrong');
  return new Agent({
    settings,
    credentials: checked.credentials,
    clientId,
    version: '0.0.0-test',
    workerEnvironment: { path: process.env['PATH'] ?? '', proxy: {} },
    agentUser: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
    log: silentLog,
    journal: new MemoryJournal(),
    ...options,
  });
}
