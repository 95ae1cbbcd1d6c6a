/**
 * What goes into a support bundle: each part a file of text. Secrets are masked where they stand, and then looked for
 * once more in the whole; what messages hold is never asked for.
 */
import { readdir, readFile } from 'node:fs/promises';
import { arch, cpus, freemem, loadavg, release, totalmem, uptime, version } from 'node:os';
import { join } from 'node:path';
import { AdminClient } from '../../admin/index.js';
import { loadWorkerSettings, propertyOf, SETTING_NAMES, settingOf, type Settings } from '../../config/index.js';
import { errnoOf, errorText } from '../../errors.js';
import { readCanonicalFacts, systemSources } from '../../facts/index.js';
import { silentLog } from '../../log/index.js';
import { parseWorkerName, urlFrom } from '../../message/index.js';
import { systemClock } from '../../time.js';
import { VERSION } from '../../version.js';
import { instant } from '../output.js';
import { statusView } from '../status-command.js';
import { bytesBelow } from './disk.js';
import { run } from './command.js';
import type { Diagnosis } from './doctor.js';
import { journalLines } from './journal-lines.js';
import { maskedUnit, REDACTED, type Redactor } from './redact.js';
import { reportJson, reportText } from './report.js';
import type { Target } from './target.js';

export interface Part {
  readonly name: string;
  /** What it holds, for the one who reads the list. */
  readonly what: string;
  readonly text: string;
}

const MOST_MESSAGES = 1_000;
const LOG_LINES = 5_000;
const COLUMNS = 100;

/** All parts, without secrets. */
export async function bundleParts(
  { findings, target, unit }: Diagnosis,
  redactor: Redactor,
  scope: AbortSignal,
): Promise<readonly Part[]> {
  const { settings } = target;
  const time = new Date().toISOString();
  const json = (value: unknown): string =>
    `${JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? Number(each) : each), 2)}\n`;
  const unitFiles = unit.kind === 'found' ? unit.files : [];
  const parts: Part[] = [
    {
      ...{ name: 'doctor.txt', what: 'what `ygg doctor` found' },
      text: reportText(findings, { isColoured: false, columns: COLUMNS }),
    },
    {
      ...{ name: 'doctor.json', what: 'the same as JSON' },
      text: json(reportJson(findings, { version: VERSION, time })),
    },
    { name: 'status.json', what: 'the agent’s status and its workers', text: json(statusOf(target)) },
    {
      ...{ name: 'messages.json', what: 'messages that wait, and dead ones: no content, no values of metadata' },
      text: json(await messagesOf(target)),
    },
    { name: 'config.json', what: 'the settings in force, secrets masked', text: json(configOf(target)) },
    {
      ...{ name: 'workers.json', what: 'the workers’ files, values of variables and arguments masked' },
      text: json(settings === undefined ? {} : await workersOf(settings)),
    },
    {
      ...{ name: 'unit.txt', what: 'the service unit and its drop-ins, values of variables masked' },
      text: unitFiles.map(({ path, text }) => `# ${path}\n${maskedUnit(text)}\n`).join('\n') || 'no unit\n',
    },
    {
      ...{ name: 'log.txt', what: 'the service’s log, without what workers wrote' },
      text: await logOf(scope),
    },
    { name: 'facts.json', what: 'the canonical facts', text: json(await factsOf(settings)) },
    {
      name: 'system.json',
      what: 'versions, kernel, memory, sizes of the state directory',
      text: json(await systemOf(target, time)),
    },
  ];
  return parts.map((part) => ({ ...part, text: redactor.text(part.text) }));
}

function statusOf({ agent }: Target): unknown {
  return agent.kind === 'running' ? statusView(agent.status) : { agent: agent.kind };
}

async function messagesOf({ agent }: Target): Promise<unknown> {
  if (agent.kind !== 'running') return { agent: agent.kind };
  const messages: unknown[] = [];
  try {
    using client = await AdminClient.connect(agent.socket);
    const filter = { state: '', directive: '', before: 0n, after: 0n, limit: MOST_MESSAGES, contentLimit: 0n };
    for await (const message of client.messages(filter)) {
      const { key, direction, state, messageId, responseTo, directive, metadata, contentSize } = message;
      const { arrivedAt, expiresAt, dueAt, endedAt, attempts, priority, worker, failureCode } = message;
      messages.push({
        ...{ key, direction, state, message_id: messageId, response_to: responseTo },
        // The place of a result may be an address with a token in it.
        directive: urlFrom(directive)?.origin ?? directive,
        metadata: Object.keys(metadata),
        ...{ content_size: contentSize, attempts, priority, worker, failure_code: failureCode },
        ...{ arrived_at: instant(arrivedAt), expires_at: instant(expiresAt) },
        ...{ due_at: instant(dueAt), ended_at: instant(endedAt) },
      });
    }
    return { most: MOST_MESSAGES, messages };
  } catch (error) {
    return { most: MOST_MESSAGES, messages, problem: errorText(error) };
  }
}

function configOf({ loaded, settings, origin, user, self }: Target): unknown {
  const values =
    settings === undefined
      ? []
      : SETTING_NAMES.map((name) => {
          const value: unknown = Reflect.get(settings, propertyOf(name));
          // Some brokers take a token as the user.
          const isMasked = settingOf(name).isSecret || name === 'username';
          return [name, isMasked ? masked(value) : value] as const;
        });
  return {
    file: loaded.kind === 'ok' ? (loaded.file ?? null) : null,
    ...{ origin, looked_as: self.name, agent_runs_as: user.name },
    settings: Object.fromEntries(values),
  };
}

/** Of an address, where it leads; of anything else, that it is set. */
function masked(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(masked);
  if (typeof value !== 'string' || value === '') return value ?? null;
  const url = urlFrom(value);
  return url === undefined || url.host === '' ? REDACTED : `${url.protocol}//${url.host}`;
}

async function workersOf(settings: Settings): Promise<unknown> {
  const files = await readdir(settings.workerDir).catch(() => []);
  const own = await readdir(join(settings.configDir, 'workers')).catch(() => []);
  const names = [...new Set([...files, ...own.map((file) => file.replace(/\.toml$/, ''))])].sort();
  const read = names.map(async (file) => {
    const name = parseWorkerName(file);
    if (name === undefined) return [file, 'no name for a worker'] as const;
    const found = await loadWorkerSettings({ configDir: settings.configDir, name });
    // What stands behind “not” repeats what somebody wrote.
    if (found.kind === 'invalid')
      return [file, { problems: found.problems.map((text) => text.replace(/, not [\s\S]*$/, ', not …')) }] as const;
    const { env, args, ...others } = found.settings;
    const variables = Object.keys(env).map((variable) => [variable, REDACTED]);
    return [
      file,
      { ...others, args: args.map(maskedArgument), env: Object.fromEntries(variables) as unknown },
    ] as const;
  });
  return Object.fromEntries(await Promise.all(read));
}

/** The name of a flag stays. */
function maskedArgument(argument: string): string {
  const flag = /^-{1,2}[A-Za-z][\w-]*/.exec(argument)?.[0];
  return flag === argument && argument.startsWith('--')
    ? argument
    : `${flag?.startsWith('--') === true ? `${flag}=` : ''}${REDACTED}`;
}

async function logOf(scope: AbortSignal): Promise<string> {
  const fields = 'MESSAGE,PRIORITY,SYSLOG_IDENTIFIER';
  const words = [
    '--unit=yggd.service',
    `--lines=${LOG_LINES}`,
    '--output=json',
    `--output-fields=${fields}`,
    '--no-pager',
    '--quiet',
  ];
  const ran = await run('journalctl', words, scope);
  if (ran.kind === 'missing') return 'there is no journalctl here\n';
  if (ran.kind === 'stopped') return 'journalctl took too long, or the log is too large\n';
  const { lines, ofWorkers } = journalLines(ran.stdout);
  if (lines.length === 0) return 'the journal holds nothing of yggd.service that this user may read\n';
  return `${lines.join('\n')}\n# ${ofWorkers} lines that workers wrote were left out\n`;
}

async function factsOf(settings: Settings | undefined): Promise<unknown> {
  return readCanonicalFacts({
    ...{ sources: systemSources, clock: systemClock, log: silentLog },
    factsFile: settings?.factsFile,
  });
}

async function systemOf({ settings, agent }: Target, time: string): Promise<unknown> {
  const osRelease = await readFile('/etc/os-release', 'utf8').catch(() => '');
  return {
    time,
    ygg: VERSION,
    agent: agent.kind === 'running' ? agent.status.version : null,
    versions: process.versions,
    ...{ kernel: release(), kernel_version: version(), architecture: arch(), cpus: cpus().length },
    os: Object.fromEntries(
      [...osRelease.matchAll(/^(ID|VERSION_ID|PRETTY_NAME)=(.*)$/gm)].map(([, name = '', value = '']) => [
        name.toLowerCase(),
        value.replace(/^"(.*)"$/, '$1'),
      ]),
    ),
    ...{ uptime_s: Math.round(uptime()), load: loadavg(), memory_bytes: totalmem(), memory_free_bytes: freemem() },
    state_bytes: settings === undefined ? null : await sizesIn(settings.stateDir),
  };
}

async function sizesIn(directory: string): Promise<unknown> {
  try {
    const entries = await readdir(directory, { withFileTypes: true });
    const sizes = entries
      .filter((entry) => entry.isDirectory())
      .map(async ({ name }) => [name, await bytesBelow(join(directory, name)).catch(() => null)] as const);
    return { all: await bytesBelow(directory), ...Object.fromEntries(await Promise.all(sizes)) };
  } catch (error) {
    return errnoOf(error) ?? errorText(error);
  }
}
