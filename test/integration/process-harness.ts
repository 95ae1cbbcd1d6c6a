/** A process manager over a directory of its own, with real children, and what a test wants to know of it. */
import { setMaxListeners } from 'node:events';
import { chmod, mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseWorkerName, type WorkerName } from '../../src/message/index.js';
import {
  ProcessManager,
  type ProcessDie,
  type ProcessEntry,
  type ProcessManagerOptions,
  type ProcessSettings,
  type ProcessSpawn,
  type SettingsOutcome,
} from '../../src/process/index.js';
import { Proc } from '../../src/process/proc.js';
import { Signal } from '../../src/signal/index.js';
import { systemClock } from '../../src/time.js';
import { recordingLog, type RecordingLog } from '../support/log.js';
import { tempDir } from '../support/temp.js';

export const proc = new Proc();

export function name(text: string): WorkerName {
  const parsed = parseWorkerName(text);
  if (parsed === undefined) throw new Error(`${text} is no worker name`);
  return parsed;
}

export const SETTINGS: ProcessSettings = {
  env: {},
  args: [],
  startTimeout: 30_000,
  stopTimeout: 10_000,
  restart: 'always',
};

/** Says `ready`, then does nothing until it is ended. */
export const IDLE = '#!/bin/sh\necho ready\nexec sleep 1000\n';

export interface Harness extends AsyncDisposable {
  readonly root: string;
  readonly workerDir: string;
  readonly stateDir: string;
  readonly runtimeDir: string;
  readonly manager: ProcessManager<ProcessSettings>;
  readonly log: RecordingLog;
  /** What the worker files say; SETTINGS where nothing is set. */
  readonly files: Map<string, SettingsOutcome<ProcessSettings>>;
  readonly entries: Map<WorkerName, ProcessEntry>;
  readonly shown: Signal<ProcessEntry>;
  readonly spawns: ProcessSpawn[];
  readonly dies: ProcessDie[];
  readonly scope: AbortSignal;
  start(): Promise<void>;
  /** Writes an executable beside the directory and moves it in. */
  install(worker: string, script?: string, mode?: number): Promise<void>;
  /** The first line of output (past or future) of this worker that says so. */
  says(worker: string, text: string): Promise<void>;
  /** Resolves when the worker's entry is (or becomes) so. */
  entry(worker: string, accept: (entry: ProcessEntry) => boolean): Promise<ProcessEntry>;
}

export async function harness(
  overrides: Partial<ProcessManagerOptions<ProcessSettings>> & { workerDirExists?: boolean } = {},
): Promise<Harness> {
  const temp = await tempDir();
  const { workerDirExists = true, ...given } = overrides;
  const workerDir = join(temp.path, 'libexec');
  const stateDir = given.stateDir ?? join(temp.path, 'state');
  const runtimeDir = given.runtimeDir ?? join(temp.path, 'run');
  if (workerDirExists) await mkdir(workerDir, { mode: 0o755 });
  await mkdir(stateDir, { recursive: true, mode: 0o700 });
  const end = new AbortController();
  const scope = end.signal;
  // A test may wait for many things at once.
  setMaxListeners(0, scope);
  const log = recordingLog();
  const files = new Map<string, SettingsOutcome<ProcessSettings>>();
  const entries = new Map<WorkerName, ProcessEntry>();
  const shown = new Signal<ProcessEntry>('shown');
  const manager = new ProcessManager<ProcessSettings>({
    workerDir,
    stateDir,
    runtimeDir,
    exclude: [],
    environment: {
      path: process.env['PATH'] ?? '/usr/bin:/bin',
      configDir: '/etc/yggdrasil',
      logLevel: () => 'debug',
      clientId: () => 'test-client',
      proxy: {},
    },
    agent: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
    settings: (worker) => Promise.resolve(files.get(worker) ?? { kind: 'ok', settings: SETTINGS }),
    prepare: ({ name: worker }) => Promise.resolve({ address: `unix:${runtimeDir}/w/${worker}/d.sock` }),
    processes: {
      put: (entry) => {
        entries.set(entry.id, entry);
        shown.emit(entry);
      },
      remove: (id) => entries.delete(id),
    },
    clock: systemClock,
    random: () => 0,
    log,
    rescanInterval: 200,
    ...given,
  });
  const spawns: ProcessSpawn[] = [];
  const dies: ProcessDie[] = [];
  manager.processSpawn.connect((spawn) => spawns.push(spawn), scope);
  manager.processDie.connect((die) => dies.push(die), scope);
  // The clock's timers keep no process alive, and between two children nothing else would.
  const keepAlive = setInterval(() => undefined, 60_000);
  return {
    root: temp.path,
    workerDir,
    stateDir,
    runtimeDir,
    manager,
    log,
    files,
    entries,
    shown,
    spawns,
    dies,
    scope,
    start: () => manager.start(scope),
    async install(worker, script = IDLE, mode = 0o755) {
      const draft = join(temp.path, `${worker}.draft`);
      await writeFile(draft, script);
      await chmod(draft, mode);
      await rename(draft, join(workerDir, worker));
    },
    async says(worker, text) {
      const isIt = (line: { event: string; text: string; fields: Readonly<Record<string, unknown>> }): boolean =>
        line.event === 'worker.output' && line.fields['worker'] === worker && line.text === text;
      if (!log.lines.some(isIt)) await log.written.next(scope, isIt);
    },
    async entry(worker, accept) {
      const now = entries.get(name(worker));
      return now !== undefined && accept(now)
        ? now
        : await shown.next(scope, (entry) => entry.id === worker && accept(entry));
    },
    async [Symbol.asyncDispose]() {
      await manager.stop(0);
      end.abort();
      clearInterval(keepAlive);
      await temp[Symbol.asyncDispose]();
    },
  };
}

/** Whether a process of this pid runs (a zombie does not). */
export function runs(pid: number): boolean {
  const stat = proc.stat(pid);
  return stat !== undefined && stat.state !== 'Z' && stat.state !== 'X';
}

/** Processes that carry this socket address. */
export async function carriers(address: string): Promise<number[]> {
  const found: number[] = [];
  for (const { pid } of await proc.all()) {
    if ((await proc.variable(pid, 'YGG_SOCKET_ADDR')) === address) found.push(pid);
  }
  return found;
}
