/** The workers’ executables and files: whether each can be started, and why not. */
import { access, constants, open, readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { loadWorkerSettings, type Settings, type WorkerSettingsResult } from '../../config/index.js';
import { errnoOf, errorText } from '../../errors.js';
import { parseWorkerName } from '../../message/index.js';
import { resolveRunAs, scanWorkers, type Scan } from '../../process/index.js';
import { formatOf, HEAD_BYTES, interpretersOf, type Format } from './executable.js';
import { checkOf, type Finding } from './finding.js';
import type { Target } from './target.js';

export interface WorkersLook {
  readonly scan: Scan;
  readonly workers: readonly WorkerLook[];
  /** Names of `exclude-worker` for which there is an executable, and those for which there is none. */
  readonly excluded: readonly string[];
  readonly excludedInVain: readonly string[];
  /** Files of the configuration that belong to no executable. */
  readonly orphans: readonly string[];
}

export interface WorkerLook {
  readonly name: string;
  readonly path: string;
  /** Or why its first bytes cannot be read. */
  readonly format: Format | { readonly kind: 'hidden'; readonly reason: string };
  /** Of what it needs to start, what is not there. */
  readonly missing: readonly string[];
  readonly settings: WorkerSettingsResult;
  /** Why it cannot run as the user that is named for it. */
  readonly runAs: string | undefined;
}

/** Where programs are looked for by a daemon of systemd. */
const SEARCH_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export async function lookAtWorkers({ users, user }: Target, settings: Settings): Promise<WorkersLook> {
  const { workerDir, excludeWorker, configDir } = settings;
  const trust = { uid: user.uid, isPrivateGroup: (gid: number) => users.isPrivateGroup(gid, user.uid) };
  const scan = await scanWorkers(workerDir, new Set(excludeWorker), trust);
  const found = scan.kind === 'read' ? scan.candidates : [];
  const workers = await Promise.all(found.map(({ name, path }) => lookAtWorker(name, path)));
  const names = new Set(await readdir(workerDir).catch(() => []));
  const orphans = scan.kind === 'read' ? await orphansIn(join(configDir, 'workers'), names) : [];
  return {
    ...{ scan, workers },
    excluded: excludeWorker.filter((name) => names.has(name)),
    excludedInVain: scan.kind === 'read' ? excludeWorker.filter((name) => !names.has(name)) : [],
    orphans,
  };

  async function lookAtWorker(name: string, path: string): Promise<WorkerLook> {
    const format = await readFormat(path);
    const parsed = parseWorkerName(name);
    const own: WorkerSettingsResult =
      parsed === undefined
        ? { kind: 'invalid', problems: ['it is no name for a worker'] }
        : await loadWorkerSettings({ configDir, name: parsed });
    const runAs =
      own.kind === 'ok'
        ? await resolveRunAs(
            { user: own.settings.user, group: own.settings.group, workerUser: settings.workerUser, agent: user },
            users,
          )
        : undefined;
    const problem = runAs?.kind === 'invalid' ? runAs.problem : undefined;
    return { name, path, format, missing: await missingFor(format), settings: own, runAs: problem };
  }
}

/** Files that belong to none of these executables, neither by their own name nor by the `exec` of the original. */
async function orphansIn(directory: string, names: ReadonlySet<string>): Promise<readonly string[]> {
  const files = (await readdir(directory).catch(() => [])).filter((file) => file.endsWith('.toml'));
  const orphans: string[] = [];
  for (const file of files.sort()) {
    if (names.has(file.slice(0, -'.toml'.length))) continue;
    const text = await readFile(join(directory, file), 'utf8').catch(() => '');
    const program = /^\s*exec\s*=\s*["']([^"'\s]+)/m.exec(text)?.[1];
    if (program === undefined || !names.has(basename(program))) orphans.push(file);
  }
  return orphans;
}

async function readFormat(path: string): Promise<WorkerLook['format']> {
  try {
    await using file = await open(path, 'r');
    const { buffer, bytesRead } = await file.read(Buffer.alloc(HEAD_BYTES), 0, HEAD_BYTES, 0);
    return formatOf(buffer.subarray(0, bytesRead));
  } catch (error) {
    return { kind: 'hidden', reason: errnoOf(error) ?? errorText(error) };
  }
}

async function missingFor(format: WorkerLook['format']): Promise<readonly string[]> {
  if (format.kind === 'elf') {
    return format.loader === undefined || (await isExecutable(format.loader)) ? [] : [format.loader];
  }
  if (format.kind !== 'script') return [];
  const missing: string[] = [];
  for (const { program, isOnPath } of interpretersOf(format)) {
    const places = isOnPath ? SEARCH_PATH.split(':').map((directory) => join(directory, program)) : [program];
    const found = await Promise.all(places.map(isExecutable));
    if (!found.includes(true)) missing.push(program);
  }
  return missing;
}

/** One that this user may not reach is not missing. */
async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return true;
  } catch (error) {
    return errnoOf(error) === 'EACCES';
  }
}

export function judgeWorkers(look: WorkersLook, settings: Settings, architecture: string): readonly Finding[] {
  const all = checkOf('workers', settings.workerDir);
  const { scan } = look;
  if (scan.kind === 'missing') return [];
  if (scan.kind === 'unreadable') return [all.skipped(scan.problem, 'run as root, or as the user of the agent')];
  if (scan.kind === 'untrusted')
    return [
      all.failed(`no worker is started, since others could put anything there: ${scan.problem}`, 'do what it says'),
    ];
  const findings = [
    ...scan.refused.map(({ file, problem }) => checkOf('worker.file', file).failed(problem, 'do what it says')),
    ...look.workers.flatMap((worker) => judgeWorker(worker, architecture)),
    ...look.excluded.map((name) => checkOf('worker.excluded', name).ok('not started: it stands in `exclude-worker`')),
    ...look.excludedInVain.map((name) =>
      checkOf('worker.excluded', name).warning(
        '`exclude-worker` names it, but there is no such executable',
        'mend the name, or take it out',
      ),
    ),
    ...look.orphans.map((file) =>
      checkOf('worker.settings', join(settings.configDir, 'workers', file)).warning(
        'it belongs to no executable',
        `call it after the executable, as ${file.replace(/(-worker)?\.toml$/, '')}-worker.toml, or remove it`,
      ),
    ),
  ];
  if (scan.candidates.length + scan.refused.length > 0) return findings;
  const none = 'no worker is there: each message will be answered that nobody takes it';
  return [...findings, all.warning(none, 'put an executable there whose name ends in “worker”')];
}

function judgeWorker({ name, format, missing, settings, runAs }: WorkerLook, architecture: string): readonly Finding[] {
  const check = checkOf('worker.file', name);
  const own = checkOf('worker.settings', name);
  const findings: Finding[] = [];
  if (format.kind === 'unknown')
    findings.push(
      check.failed(`it cannot be started: ${format.problem}`, 'put the right file there, built or copied anew'),
    );
  if (format.kind === 'elf' && format.machine !== architecture)
    findings.push(
      check.failed(
        `it was built for ${format.machine}, and this machine is ${architecture}`,
        `build it for ${architecture}`,
      ),
    );
  else if (missing.length > 0)
    findings.push(
      check.failed(
        `it cannot be started: ${missing.join(' and ')} is not there`,
        format.kind === 'elf'
          ? 'install the C library it was linked with, or link it statically'
          : 'install the interpreter, or mend the first line',
      ),
    );
  if (settings.kind === 'invalid')
    for (const problem of settings.problems)
      findings.push(own.failed(problem, 'mend the file; the worker starts when it is right'));
  else for (const warning of settings.warnings) findings.push(own.warning(warning, 'mend the file'));
  if (runAs !== undefined) findings.push(own.failed(runAs, 'do what it says'));
  if (findings.length > 0) return findings;
  if (format.kind === 'hidden')
    return [
      check.skipped(`it cannot be read (${format.reason}): only its mode and its place were checked, and are right`),
    ];
  return [check.ok(wordsFor(format))];
}

function wordsFor(format: Format): string {
  if (format.kind === 'script') return `a script of ${[format.interpreter, format.argument].filter(Boolean).join(' ')}`;
  return format.kind === 'elf' ? `a program for ${format.machine}` : '';
}
