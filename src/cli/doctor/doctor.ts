/**
 * The examination as a whole: looks at everything, at once where that is possible, and lets each judge say what it
 * means. It changes nothing, takes nobody's place at the broker, and ends whatever is silent.
 */
import { join } from 'node:path';
import type { Credentials, Settings } from '../../config/index.js';
import { parseClientId } from '../../message/index.js';
import { createWayCheck } from '../../process/index.js';
import type { Millis } from '../../time.js';
import { VERSION } from '../../version.js';
import { readerFor, type ReadFile } from './account.js';
import { lookAtBroker, type BrokerLook } from './broker-look.js';
import { judgeClock, lookAtClock } from './clock.js';
import { judgeCredentials, lookAtCredentials, type CredentialsLook } from './credentials.js';
import { judgeDisk, lookAtDisk } from './disk.js';
import { checkOf, type Finding } from './finding.js';
import { judgeAgent } from './judge-agent.js';
import { judgeWay } from './judge-broker.js';
import { judgeConfig } from './judge-config.js';
import { judgeMqtt } from './judge-mqtt.js';
import { judgeUnit } from './judge-unit.js';
import { judgePlaces, lookAtPlaces } from './places.js';
import { judgeProcess, lookAtProcess } from './process-look.js';
import { findTarget, type Target } from './target.js';
import { lookAtUnit, type UnitLook } from './unit-look.js';
import { hasKoffi, judgeVersions } from './versions.js';
import { judgeWorkers, lookAtWorkers } from './workers.js';

export interface DoctorOptions {
  /** Flags of `yggd` that the operator gave. */
  readonly argv: readonly string[];
  readonly runtimeDir: string | undefined;
  /** For each step towards a broker. */
  readonly timeout: Millis;
  /** How many messages the broker's queue is tried with. */
  readonly backlog: number;
}

export interface Diagnosis {
  readonly findings: readonly Finding[];
  readonly target: Target;
  readonly unit: UnitLook;
  readonly clientId: string | undefined;
}

/** With the end of the scope all that still waits is given up, and what was seen until then is judged. */
export async function diagnose(options: DoctorOptions, scope: AbortSignal): Promise<Diagnosis> {
  const unit = await lookAtUnit(scope);
  const target = await findTarget({ argv: options.argv, runtimeDir: options.runtimeDir, unit });
  const { loaded, settings, agent, pid, self, user } = target;
  const isRunning = agent.kind === 'running';
  const process_ = pid === undefined ? undefined : await lookAtProcess(pid);
  const [clock, koffi, more] = await Promise.all([
    lookAtClock(settings?.stateDir, scope),
    hasKoffi(),
    settings === undefined ? undefined : withSettings(options, target, settings, scope),
  ]);
  const versions = {
    ...{ ygg: VERSION, node: process.versions.node, hasKoffi: koffi },
    agent: isRunning ? agent.status.version : undefined,
    isNodeGone: process_?.isNodeGone === true,
  };
  const findings: readonly Finding[] = [
    ...judgeConfig({
      problems: loaded.kind === 'invalid' ? loaded.problems : [],
      warnings: loaded.warnings,
      file: loaded.kind === 'ok' ? loaded.file : undefined,
      origin: target.origin,
      settings,
    }),
    ...judgeAgent(agent),
    ...(more?.findings ?? []),
    ...judgeClock(clock),
    ...judgeVersions(versions),
    ...judgeUnit(unit, isRunning),
    ...(agent.kind === 'not-running' ? [] : judgeProcess(process_)),
    ...judgeSelf(target),
  ];
  return { findings, target, unit, clientId: more?.clientId };

  function judgeSelf({ self: me, user: other }: Target): readonly Finding[] {
    if (self.uid === 0 || self.uid === user.uid) return [];
    return [
      checkOf('doctor.user').skipped(
        `${me.name} looked, and the agent runs as ${other.name}: what only that user may see was not looked at`,
        `run \`ygg doctor\` as root or as ${other.name} to see all`,
      ),
    ];
  }
}

async function withSettings(
  options: DoctorOptions,
  target: Target,
  settings: Settings,
  scope: AbortSignal,
): Promise<{ readonly findings: readonly Finding[]; readonly clientId: string | undefined }> {
  const { users, user, self, agent } = target;
  const wayProblem = createWayCheck(user.uid, users);
  const [credentials, places, workers, disk] = await Promise.all([
    lookAtCredentials(settings, user, self, wayProblem),
    lookAtPlaces(settings, user, wayProblem),
    lookAtWorkers(target, settings),
    lookAtDisk(settings),
  ]);
  const clientId = await clientIdOf(target, settings, credentials);
  const brokers = await lookAtBrokers(options, target, settings, credentials, clientId, scope);
  const now = Date.now();
  const context = {
    clientId,
    isAgentUp: agent.kind === 'running' && agent.status.link?.state === 'up',
    isAgentHere: agent.kind === 'running' ? true : agent.kind === 'not-running' ? false : undefined,
    settings: { retainStatus: settings.mqttRetainStatus, maxMessageSize: settings.maxMessageSize },
  };
  const findings = [
    ...judgeCredentials(credentials, user, self, now),
    ...brokers.flatMap((look) => [...judgeWay(look, now), ...judgeMqtt(look, context)]),
    ...judgePlaces(places, user, self, agent.kind === 'running'),
    ...judgeWorkers(workers, settings, process.arch),
    ...judgeDisk(disk, settings),
  ];
  return { findings, clientId };
}

/** As the daemon finds it, but none is made. */
async function clientIdOf(
  { agent, user, self }: Target,
  settings: Settings,
  { checked }: CredentialsLook,
): Promise<string | undefined> {
  if (agent.kind === 'running') return agent.status.clientId;
  const named = settings.clientId ?? (checked?.kind === 'ok' ? checked.credentials.commonName : undefined);
  const kept = named ?? (await textOf(readerFor(user, self), join(settings.stateDir, 'client-id'))).trim();
  return parseClientId(kept);
}

async function lookAtBrokers(
  { timeout, backlog }: DoctorOptions,
  { agent, user, self }: Target,
  settings: Settings,
  { files, checked }: CredentialsLook,
  clientId: string | undefined,
  scope: AbortSignal,
): Promise<readonly BrokerLook[]> {
  const read = readerFor(user, self);
  const embedded = settings.broker.length > 0 ? undefined : await embeddedBroker(agent, settings, read);
  const urls = embedded === undefined ? settings.broker : [embedded.url];
  const hasAll = checked?.kind === 'ok';
  const credentials = hasAll ? checked.credentials : await readableAuthorities(files, read);
  return Promise.all(
    urls.map((url) =>
      lookAtBroker(
        url,
        { ...{ settings, credentials, clientId, timeout, backlog }, login: embedded, isExamined: hasAll },
        scope,
      ),
    ),
  );
}

/** Enough to judge the broker's certificate where our own files cannot be read, or are wrong. */
async function readableAuthorities(files: CredentialsLook['files'], readFile: ReadFile): Promise<Credentials> {
  const authorities = files.filter(({ setting, certificates }) => setting === 'ca-root' && certificates.length > 0);
  const ca = await Promise.all(authorities.map(({ path }) => readFile(path).catch(() => undefined)));
  return {
    ...{ cert: undefined, key: undefined, password: undefined, proxyCredentials: undefined, commonName: undefined },
    ca: ca.filter((each) => each !== undefined),
  };
}

/** The broker that the agent itself runs, for a first try; its password is in the state directory. */
async function embeddedBroker(
  agent: Target['agent'],
  settings: Settings,
  readFile: ReadFile,
): Promise<{ readonly url: string; readonly username: string; readonly password: string } | undefined> {
  const url = agent.kind === 'running' ? agent.status.link?.broker : undefined;
  if (settings.embeddedBroker === undefined || url === undefined || url === '') return undefined;
  const text = await textOf(readFile, join(settings.stateDir, 'embedded-broker.json'));
  const kept = parsed(text);
  const [username, password] = [kept['username'], kept['password']];
  return typeof username === 'string' && typeof password === 'string' ? { url, username, password } : undefined;
}

/** Empty where there is none, or none to be read. */
function textOf(readFile: ReadFile, path: string): Promise<string> {
  return readFile(path).then(String, () => '');
}

function parsed(text: string): Readonly<Record<string, unknown>> {
  try {
    return JSON.parse(text) as Readonly<Record<string, unknown>>;
  } catch {
    // Somebody edited it.
    return {};
  }
}
