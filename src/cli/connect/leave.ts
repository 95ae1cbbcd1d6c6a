/**
 * `ygg disconnect`: what `ygg connect` did, backwards. Each step is told, and one that fails keeps no other from being
 * done; what is undone already is no failure.
 */
import { checkCredentials, problemsError, resolveClientId, type Settings } from '../../config/index.js';
import { AdminClient, adminSocket } from '../../admin/index.js';
import { AgentError, errorText } from '../../errors.js';
import { printable } from '../../message/index.js';
import { withBroker } from '../broker-command.js';
import type { Configuration } from './configuration.js';
import { remove } from './files.js';
import { NO_RECORD, readRecord, removeRecord, writeRecord } from './record.js';
import type { Registration } from './registration.js';
import { isWithoutSystemd, UNIT, type ServiceUnit } from './service-unit.js';
import type { Steps } from './steps.js';
import { whileTelling } from './waiting.js';

export interface LeaveOptions {
  readonly configuration: Configuration;
  readonly unit: () => Promise<ServiceUnit>;
  readonly registration: () => Promise<Registration>;
  /** Remove what was copied, and the settings that name it. */
  readonly isPurge: boolean;
  readonly steps: Steps;
}

/** Throws `connect.incomplete` when a step failed. */
export async function leave(options: LeaveOptions): Promise<void> {
  const { configuration, isPurge, steps } = options;
  const settings = await configuration.amended({}).then(
    (amended) => amended.settings,
    // Whatever is wrong with the file, the agent is stopped all the same.
    (error: unknown) => errorText(error),
  );
  await steps.attempt('agent', () => stopUnit(options, settings));
  await steps.attempt('status', () => clearStatus(configuration.file, settings, steps));
  await steps.attempt('registration', () => unregister(options));
  if (isPurge) await steps.attempt('files', () => purge(options));
  if (steps.failed.length > 0)
    throw new AgentError('connect.incomplete', `not everything could be undone: ${steps.failed.join(', ')}`);
}

async function stopUnit({ unit: reach, steps }: LeaveOptions, settings: Settings | string): Promise<void> {
  let unit;
  let state;
  try {
    unit = await reach();
    state = await unit.state();
  } catch (error) {
    if (!isWithoutSystemd(error)) throw error;
    if (typeof settings !== 'string' && (await isRunning(settings)))
      throw new AgentError(
        'connect.incomplete',
        'there is no systemd to stop the agent, and it runs: stop it by hand (SIGTERM)',
      );
    steps.tell('agent', 'there is no systemd, and no agent runs', 'unchanged');
    return;
  }
  if (['inactive', 'failed'].includes(state.active) || state.load !== 'loaded')
    steps.tell('agent', `${UNIT} does not run`, 'unchanged');
  else {
    const running = unit;
    await whileTelling(`waiting for ${UNIT}`, () => running.stop());
    steps.tell('agent', `${UNIT} is stopped`);
  }
  if (typeof settings !== 'string' && (await isRunning(settings)))
    steps.tell('agent', 'an agent runs all the same, not by systemd: stop it by hand (SIGTERM)', 'warning');
  if (!['enabled', 'enabled-runtime', 'linked'].includes(state.file))
    steps.tell('unit', `${UNIT} is not enabled`, 'unchanged');
  else {
    await unit.disable();
    steps.tell('unit', `${UNIT} is disabled: it does not start with the machine`);
  }
}

async function isRunning({ runtimeDir }: Settings): Promise<boolean> {
  try {
    using client = await AdminClient.connect(adminSocket(runtimeDir));
    return client instanceof AdminClient;
  } catch (error) {
    if (error instanceof AgentError && error.code === 'admin.not_running') return false;
    throw error;
  }
}

/** Takes the retained connection-status away, with the agent's own credentials: an empty one clears it [MQTT-3.3.1-6]. */
async function clearStatus(configFile: string, settings: Settings | string, steps: Steps): Promise<void> {
  if (typeof settings === 'string') {
    steps.tell('status', `no broker can be told: ${settings}`, 'unchanged');
    return;
  }
  const checked = await checkCredentials(settings);
  if (checked.kind === 'invalid') throw problemsError(checked.problems);
  const { commonName } = checked.credentials;
  const clientId = await keptClientId(settings, commonName);
  if (clientId === undefined) {
    steps.tell('status', 'the agent never ran: the broker knows nothing of it', 'unchanged');
    return;
  }
  await withBroker(
    { config: configFile },
    () => [],
    async (desk) => desk.publish(`${desk.prefix}/${clientId}/control/out`, Buffer.alloc(0), { retain: true }),
  );
  steps.tell('status', `the broker keeps no status of ${printable(clientId)} any more`);
}

async function keptClientId(settings: Settings, commonName: string | undefined): Promise<string | undefined> {
  const none = new Error('there is none');
  try {
    const makeId = (): string => {
      throw none;
    };
    return await resolveClientId({ configured: settings.clientId, commonName, stateDir: settings.stateDir, makeId });
  } catch (error) {
    if (error === none) return undefined;
    throw error;
  }
}

async function unregister({ configuration, registration: reach, steps }: LeaveOptions): Promise<void> {
  const record = await readRecord(configuration.directory);
  const { consumer, ...rest } = record;
  if (consumer === undefined) {
    steps.tell('registration', 'ygg connect did not register this machine', 'unchanged');
    return;
  }
  const registration = await reach();
  const now = await registration.consumer();
  if (now === consumer) {
    await registration.unregister();
    steps.tell('registration', `${printable(consumer)} is unregistered`);
  } else if (now === undefined) steps.tell('registration', 'this machine is not registered any more', 'unchanged');
  else
    steps.tell(
      'registration',
      `this machine was registered anew by somebody else, as ${printable(now)}: that stays`,
      'unchanged',
    );
  await writeRecord(configuration.directory, rest);
}

async function purge({ configuration, steps }: LeaveOptions): Promise<void> {
  const record = await readRecord(configuration.directory);
  const { consumer } = record;
  const written = Object.entries(record.settings).filter(([name]) => name !== 'broker');
  const isAsWritten = ([name, value]: readonly [string, unknown]): boolean =>
    JSON.stringify(configuration.value(name as 'cert-file')) === JSON.stringify(value);
  const taken = written.filter(isAsWritten).map(([name]) => name);
  await configuration.withdraw(taken);
  if (taken.length > 0) steps.tell('settings', `${configuration.file}: ${taken.join(', ')} are taken out`);
  const gone: string[] = [];
  for (const file of record.files) if (await remove(file)) gone.push(file);
  steps.tell(
    'files',
    gone.length === 0 ? 'there are none that ygg connect copied' : `removed: ${gone.join(', ')}`,
    gone.length === 0 ? 'unchanged' : 'done',
  );
  if (consumer === undefined) await removeRecord(configuration.directory);
  // The service could not be asked: the next run has to know that there is something to take back.
  else await writeRecord(configuration.directory, { ...NO_RECORD, consumer });
}
