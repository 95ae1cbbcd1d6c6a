/**
 * Follows the worker directory: chokidar says when to look, and every few seconds it is looked at anyway, since a
 * directory that was removed and made again (or missed the limit of inotify watches) sends no event. A new or changed
 * file counts only when it has been left alone for a while, so that a slow copy is not started half.
 */
import { watch, type FSWatcher } from 'chokidar';
import { errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import type { WorkerName } from '../message/index.js';
import { untilBeat, type Clock, type Millis } from '../time.js';
import { isWorkerFile, scanWorkers, type FoundCandidate, type Refused, type Scan } from './scan.js';
import type { Candidate } from './state.js';
import type { Trust } from './trust.js';

/** How long a file must be left alone. */
export const SETTLE: Millis = 300;

/** How often to look without being told: what inotify cannot see, such as files on a network. Each look wakes the machine. */
export const RESCAN_INTERVAL: Millis = 10_000;

export interface DirectoryOptions {
  readonly workerDir: string;
  readonly exclude: ReadonlySet<string>;
  readonly trust: Trust;
  readonly clock: Clock;
  readonly log: Log;
  readonly rescanInterval: Millis;
  /** Called after each look. */
  readonly onLook: () => void;
}

interface Sighting {
  readonly identity: string;
  readonly since: Millis;
  readonly isSettled: boolean;
}

export class WorkerDirectory {
  /** What may run. */
  #wanted: ReadonlyMap<WorkerName, Candidate> = new Map();
  #refused: readonly Refused[] = [];
  /** Names that are there, whether they may run or not; undefined when nobody knows. */
  #present: ReadonlySet<WorkerName> | undefined;
  readonly #sightings = new Map<WorkerName, Sighting>();
  readonly #said = new Map<string, string>();
  #watcher: FSWatcher | undefined;
  #watched = '';
  #looking: Promise<void> | undefined;
  #isLookDue = false;
  #isLookSet = false;

  constructor(private readonly options: DirectoryOptions) {}

  get wanted(): ReadonlyMap<WorkerName, Candidate> {
    return this.#wanted;
  }

  get refused(): readonly Refused[] {
    return this.#refused;
  }

  /** Whether the executable is known to be gone; one that is refused, or in a directory that cannot be read, is not. */
  isRemoved(name: WorkerName): boolean {
    return this.#present !== undefined && !this.#present.has(name);
  }

  /** Looks once, then follows the directory until the scope ends. */
  async start(scope: AbortSignal): Promise<void> {
    await this.look(scope);
    const { clock, rescanInterval } = this.options;
    const again = (): void => {
      void this.look(scope);
      clock.after(untilBeat(clock, rescanInterval), again, scope);
    };
    clock.after(untilBeat(clock, rescanInterval), again, scope);
  }

  /** Closes the watcher. The scope of `start` must have ended. */
  async stop(): Promise<void> {
    await this.#looking;
    await this.#unwatch();
  }

  /** Looks now, or once more after the look under way: the answer is never older than the call. */
  look(scope: AbortSignal): Promise<void> {
    if (scope.aborted) return Promise.resolve();
    this.#isLookDue = true;
    this.#looking ??= this.#lookWhileDue(scope);
    return this.#looking;
  }

  async #lookWhileDue(scope: AbortSignal): Promise<void> {
    const { workerDir, exclude, trust } = this.options;
    const isOver = (): boolean => scope.aborted;
    while (this.#isLookDue && !isOver()) {
      this.#isLookDue = false;
      const scan = await scanWorkers(workerDir, exclude, trust);
      if (isOver()) break;
      await this.#follow(scan, scope);
      this.#take(scan, scope);
      this.options.onLook();
    }
    // In the same turn as the last check above, or a call in between would be lost.
    this.#looking = undefined;
  }

  #take(scan: Scan, scope: AbortSignal): void {
    this.#report(scan);
    switch (scan.kind) {
      case 'unreadable':
        // What runs goes on: an I/O error is no wish of the operator.
        return;
      case 'missing':
        this.#wanted = new Map();
        this.#refused = [];
        this.#present = new Set();
        return;
      case 'untrusted':
        this.#wanted = new Map();
        this.#refused = [...scan.names].map((name) => ({ file: name, name, problem: scan.problem }));
        this.#present = scan.names;
        return;
      case 'read':
        this.#wanted = this.#settled(scan.candidates, scope);
        this.#refused = scan.refused;
        this.#present = new Set([
          ...scan.candidates.map(({ name }) => name),
          ...scan.refused.flatMap(({ name }) => name ?? []),
        ]);
    }
  }

  /** Those that have been left alone; of one that is being changed, the version before, until it is complete. */
  #settled(candidates: readonly FoundCandidate[], scope: AbortSignal): Map<WorkerName, Candidate> {
    const { clock } = this.options;
    const wanted = new Map<WorkerName, Candidate>();
    let isUnsettled = false;
    for (const candidate of candidates) {
      const seen = this.#sightings.get(candidate.name);
      const since = seen?.identity === candidate.identity ? seen.since : clock.monotonic();
      // Either its own time stamp says so, or we have watched it: stamps lie after a step of the clock.
      const isSettled =
        (seen?.identity === candidate.identity && seen.isSettled) ||
        clock.now() - candidate.changedAt >= SETTLE ||
        clock.monotonic() - since >= SETTLE;
      this.#sightings.set(candidate.name, { identity: candidate.identity, since, isSettled });
      const version = isSettled ? candidate : this.#wanted.get(candidate.name);
      if (version !== undefined) wanted.set(candidate.name, version);
      isUnsettled ||= !isSettled;
    }
    const names = new Set(candidates.map(({ name }) => name));
    for (const name of this.#sightings.keys()) if (!names.has(name)) this.#sightings.delete(name);
    if (isUnsettled) this.#lookWhenSettled(scope);
    return wanted;
  }

  #lookWhenSettled(scope: AbortSignal): void {
    if (this.#isLookSet) return;
    this.#isLookSet = true;
    const look = (): void => {
      this.#isLookSet = false;
      void this.look(scope);
    };
    this.options.clock.after(SETTLE, look, scope);
  }

  /** Each message once, until what it says changes. */
  #report(scan: Scan): void {
    const { log, workerDir } = this.options;
    const now = new Map<string, string>();
    if (scan.kind === 'missing') {
      now.set('', `the worker directory ${workerDir} does not exist; waiting for it`);
    } else if (scan.kind === 'read') {
      for (const { file, problem } of scan.refused) now.set(file, `${problem}; until then it is not run`);
    } else {
      now.set(
        '',
        scan.kind === 'untrusted' ? `${scan.problem}; until then no worker of ${workerDir} is run` : scan.problem,
      );
    }
    for (const [file, text] of now) {
      if (this.#said.get(file) === text) continue;
      if (file !== '') log.warn('worker.refused', text, { worker: file });
      else log.warn(`worker_dir.${scan.kind}`, text, { directory: workerDir });
    }
    if (this.#said.has('') && !now.has('')) {
      log.info('worker_dir.found', `the worker directory ${workerDir} can be used now`, { directory: workerDir });
    }
    this.#said.clear();
    for (const [file, text] of now) this.#said.set(file, text);
  }

  /** Watches the directory that was found; a new one of the same path is watched anew. */
  async #follow(scan: Scan, scope: AbortSignal): Promise<void> {
    if (scan.kind !== 'read' && scan.kind !== 'missing') return;
    const id = scan.kind === 'read' ? scan.directoryId : '';
    if (id === this.#watched) return;
    this.#watched = id;
    await this.#unwatch();
    if (scan.kind !== 'read') return;
    const { directory } = scan;
    const look = (): void => void this.look(scope);
    let isBroken = false;
    this.#watcher = watch(directory, {
      depth: 0,
      followSymlinks: false,
      awaitWriteFinish: { stabilityThreshold: SETTLE, pollInterval: 100 },
      ignored: (path) => path !== directory && !isWorkerFile(path.slice(directory.length + 1)),
    })
      .on('all', look)
      // What changed between the look and now has no event of its own.
      .on('ready', look)
      .on('error', (error) => {
        if (isBroken) return;
        isBroken = true;
        const text = `cannot watch ${directory}: ${errorText(error)}; it is looked at every few seconds instead`;
        this.options.log.warn('worker_dir.watch_failed', text, { directory });
      });
  }

  async #unwatch(): Promise<void> {
    const watcher = this.#watcher;
    this.#watcher = undefined;
    await watcher?.close();
  }
}
