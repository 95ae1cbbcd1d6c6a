/**
 * Runs the workers: what stands in the worker directory is started, kept running, replaced and stopped. The planner
 * decides, this executes; one life for each name at a time, so that no worker ever runs twice. It opens no socket and
 * speaks to no worker: the dispatcher does, and tells it through `registered` and `unhealthy`.
 */
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { Log } from '../log/log.js';
import type { WorkerName } from '../message/index.js';
import { Signal } from '../signal/index.js';
import type { Clock, Millis, Random } from '../time.js';
import type { Cgroups } from './cgroup.js';
import { RESCAN_INTERVAL, WorkerDirectory } from './directory.js';
import { WorkerLife, type LifeTools } from './life.js';
import { MarkPlace, type Marks } from './mark.js';
import { ChildNote } from './note.js';
import { endOrphans, ORPHAN_GRACE } from './orphans.js';
import { nextWake, plan, type Step } from './plan.js';
import type { EnvironmentBase, Prepare, ProcessCollection, ProcessSettings, ReadSettings } from './ports.js';
import { Proc } from './proc.js';
import { resolveRunAs } from './run-as.js';
import { problemNow } from './scan.js';
import { stateAfter, type Candidate, type LifeEnd, type StopRequest, type WorkerState } from './state.js';
import { StatusBoard } from './status-board.js';
import type { Trust } from './trust.js';
import { Users } from './users.js';

export interface ProcessSpawn {
  readonly name: WorkerName;
  readonly pid: number;
}

export interface ProcessDie {
  readonly name: WorkerName;
  readonly pid: number;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** We ended it. */
  readonly isStopped: boolean;
  /** Its executable is gone from the directory. */
  readonly isRemoved: boolean;
}

export interface ProcessManagerOptions<S extends ProcessSettings> {
  readonly workerDir: string;
  /** Holds the note of the running children. */
  readonly stateDir: string;
  /** All sockets of workers are below it: that is how their processes are known again. */
  readonly runtimeDir: string;
  /** Names of executables to leave alone. */
  readonly exclude: readonly string[];
  readonly environment: EnvironmentBase;
  /** Who the agent runs as. */
  readonly agent: { readonly uid: number; readonly gid: number };
  /** The setting `worker-user`. */
  readonly workerUser?: string | undefined;
  readonly settings: ReadSettings<S>;
  readonly prepare: Prepare<S>;
  readonly processes: ProcessCollection;
  /** From `openCgroups`; undefined where there are none. */
  readonly cgroups?: Cgroups | undefined;
  /** From `openMarks`; undefined where there are none. */
  readonly marks?: Marks | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly proc?: Proc;
  readonly users?: Users;
  readonly rescanInterval?: Millis;
  readonly orphanGrace?: Millis;
}

export class ProcessManager<S extends ProcessSettings> {
  /** In the turn of the spawn. */
  readonly processSpawn = new Signal<ProcessSpawn>('process-spawn');
  /** When nothing of the process's tree is left. */
  readonly processDie = new Signal<ProcessDie>('process-die');
  /** An executable is gone from the directory, after the end of its process if it had one. */
  readonly workerRemoved = new Signal<WorkerName>('worker-removed');

  readonly #observed = new Map<WorkerName, WorkerState>();
  readonly #lives = new Map<WorkerName, WorkerLife<S>>();
  readonly #endings = new Set<Promise<void>>();
  readonly #scope = new AbortController();
  readonly #board: StatusBoard;
  readonly #directory: WorkerDirectory;
  readonly #note: ChildNote;
  readonly #proc: Proc;
  readonly #trust: Trust;
  #tools: LifeTools<S> | undefined;
  #starting: Promise<void> | undefined;
  #stopping: Promise<void> | undefined;
  #alarm = new AbortController();
  #stopWithin: Millis | undefined;

  constructor(private readonly options: ProcessManagerOptions<S>) {
    const users = options.users ?? new Users();
    const { agent, clock, log } = options;
    this.#proc = options.proc ?? new Proc();
    this.#trust = { uid: agent.uid, isPrivateGroup: (gid) => users.isPrivateGroup(gid, agent.uid) };
    this.#board = new StatusBoard(options.processes, (name) => this.workerRemoved.emit(name));
    this.#note = new ChildNote(join(options.stateDir, 'children.json'), log);
    this.#directory = new WorkerDirectory({
      workerDir: options.workerDir,
      exclude: new Set(options.exclude),
      trust: this.#trust,
      clock,
      log,
      rescanInterval: options.rescanInterval ?? RESCAN_INTERVAL,
      onLook: () => {
        this.#evaluate();
        this.#retryMended().catch((error: unknown) =>
          log.warn('worker.config_unreadable', 'the files of workers that wait cannot be read', { error }),
        );
      },
    });
  }

  /**
   * Ends the orphans of an earlier agent, looks at the directory once and sets the first spawns going. Rejects when
   * `stop` is called (or `scope` ends) meanwhile.
   */
  start(scope: AbortSignal): Promise<void> {
    this.#starting ??= this.#start(AbortSignal.any([scope, this.#scope.signal]));
    return this.#starting;
  }

  /** Stops all workers at once, each within its own stop-timeout and `within` at most. May be called again, to hurry. */
  stop(within: Millis): Promise<void> {
    this.#stopWithin = Math.min(within, this.#stopWithin ?? Infinity);
    for (const life of this.#lives.values()) life.killWithin(within);
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  /** Whether this executable is known to be gone from the worker directory. */
  isRemoved(name: WorkerName): boolean {
    return this.#directory.isRemoved(name);
  }

  /** The worker has registered: the start-timeout no longer counts. */
  registered(name: WorkerName): void {
    const state = this.#observed.get(name);
    const life = this.#lives.get(name);
    if (state?.kind !== 'starting' || state.pid === undefined || life === undefined) return;
    const { identity, failures, request, pid } = state;
    const since = this.options.clock.monotonic();
    life.registeredAt = since;
    this.#observed.set(name, { kind: 'running', since, identity, failures, request, pid });
    this.#evaluate();
  }

  /** Stops the worker's tree and starts it again after a back-off. `reason` completes "worker X was stopped: …". */
  unhealthy(name: WorkerName, reason: string): void {
    this.#ask(name, { cause: 'unhealthy', detail: reason });
  }

  /**
   * Whether a process is the worker's: of its user, and the one that was spawned, in its session or below it, or with
   * the mark of its life: one that left the session and whose parents are dead has nothing else left.
   */
  isMember(name: WorkerName, { pid, uid }: { readonly pid: number; readonly uid: number }): boolean {
    const life = this.#lives.get(name);
    // Once the leader has died its number may be another's.
    if (life?.pid === undefined || life.exit !== undefined) return false;
    if (uid !== (life.uid ?? this.options.agent.uid)) return false;
    return this.#proc.isBelow(pid, life.pid) || (life.mark !== undefined && this.#proc.mark(pid) === life.mark);
  }

  /** Starts the worker afresh, whatever state it is in. False when there is none of this name. */
  restart(name: WorkerName): boolean {
    if (!this.#observed.has(name)) return false;
    if (!this.#ask(name, { cause: 'restart', detail: 'a restart was asked for' })) this.#retry(name);
    return true;
  }

  /**
   * Reads the file of one worker, or all, again: one that waits is tried now, one that runs is restarted if its
   * settings have changed. With wrong settings what runs goes on as it is.
   */
  async reload(name?: WorkerName): Promise<void> {
    const names = name === undefined ? [...this.#observed.keys()] : [name];
    await Promise.all(names.map((each) => this.#reload(each)));
  }

  async #start(scope: AbortSignal): Promise<void> {
    const { options } = this;
    const { clock, log, agent, workerUser } = options;
    const proc = this.#proc;
    const users = options.users ?? new Users();
    const bootId = await proc.bootId();
    const markPlace = new MarkPlace(options.runtimeDir);
    const note = await this.#note.read();
    const grace = options.orphanGrace ?? ORPHAN_GRACE;
    const { runtimeDir } = options;
    await endOrphans({ note, bootId, runtimeDir, marks: markPlace, proc, clock, log, grace }, scope);
    await options.cgroups?.sweep();
    scope.throwIfAborted();
    if (agent.uid === 0 && workerUser === undefined) {
      const text =
        'workers run as root unless their file names a user; to change that, set worker-user = "NAME" in config.toml';
      log.warn('process.workers_as_root', text);
    }
    this.#tools = {
      settings: options.settings,
      prepare: options.prepare,
      problem: (candidate) => problemNow(candidate, options.workerDir, this.#trust),
      runAs: ({ user, group }) => resolveRunAs({ user, group, workerUser, agent }, users),
      environment: options.environment,
      cgroups: options.cgroups,
      marks: options.marks,
      markPlace,
      proc,
      bootId,
      note: this.#note,
      clock,
      log,
    };
    await this.#directory.start(scope);
    scope.throwIfAborted();
  }

  async #stop(): Promise<void> {
    this.#scope.abort(new Error('the process manager was stopped while it started'));
    // Whoever called `start` hears of its failure; here it only has to be over.
    await this.#starting?.catch(() => undefined);
    this.#evaluate();
    while (this.#endings.size > 0) await Promise.all(this.#endings);
    this.#alarm.abort();
    await this.#note.flush();
    await this.#directory.stop();
  }

  get #desired(): ReadonlyMap<WorkerName, Candidate> {
    return this.#scope.signal.aborted ? new Map<WorkerName, Candidate>() : this.#directory.wanted;
  }

  /** Brings what is nearer to what should be; harmless to call at any time. */
  #evaluate(): void {
    const now = this.options.clock.monotonic();
    for (const step of plan(this.#desired, this.#observed, now)) this.#execute(step, now);
    this.#alarm.abort();
    const wake = nextWake(this.#observed);
    if (wake !== undefined) {
      this.#alarm = new AbortController();
      this.options.clock.after(wake - now, () => this.#evaluate(), this.#alarm.signal);
    }
    this.#board.show(this.#observed, this.#lives, this.#directory);
  }

  #execute(step: Step, now: Millis): void {
    switch (step.kind) {
      case 'start':
        this.#begin(step.candidate, step.failures, now);
        return;
      case 'stop': {
        const life = this.#lives.get(step.name);
        const identity = this.#observed.get(step.name)?.identity ?? '';
        this.#observed.set(step.name, { kind: 'stopping', identity, pid: life?.pid, detail: step.request.detail });
        life?.stop(step.request);
        if (this.#stopWithin !== undefined) life?.killWithin(this.#stopWithin);
        return;
      }
      case 'forget':
        this.#observed.delete(step.name);
    }
  }

  #begin(candidate: Candidate, failures: number, now: Millis): void {
    const tools = this.#tools;
    if (tools === undefined) return;
    const { name, identity, path } = candidate;
    const life = new WorkerLife(candidate, failures, tools, () => this.#spawned(life));
    this.#lives.set(name, life);
    const state = { since: now, identity, failures, request: undefined, pid: undefined, registerBy: undefined };
    this.#observed.set(name, { kind: 'starting', ...state });
    this.options.log.debug('worker.starting', `starting worker ${name}`, { worker: name, executable: path });
    const ending = life.run().then((end) => this.#ended(life, end));
    this.#endings.add(ending);
    void ending.finally(() => this.#endings.delete(ending));
  }

  #spawned(life: WorkerLife<S>): void {
    const { name } = life.candidate;
    const { pid, settings } = life;
    if (pid === undefined || settings === undefined) return;
    const state = this.#observed.get(name);
    if (state?.kind === 'starting') {
      const since = this.options.clock.monotonic();
      this.#observed.set(name, { ...state, since, pid, registerBy: since + settings.startTimeout });
    }
    this.#board.countSpawn(name);
    this.options.log.info('worker.started', `worker ${name} was started`, { worker: name, pid });
    this.processSpawn.emit({ name, pid });
    this.#evaluate();
  }

  #ended(life: WorkerLife<S>, end: LifeEnd): void {
    const { clock, random } = this.options;
    const { candidate, failures, registeredAt, pid, exit } = life;
    const { name, identity } = candidate;
    const restart = life.settings?.restart ?? 'always';
    const now = clock.monotonic();
    const next = stateAfter(end, { identity, failures, registeredAt, restart }, now, random);
    this.#lives.delete(name);
    if (next === undefined) this.#observed.delete(name);
    else this.#observed.set(name, next);
    this.#tell(name, end, next, now);
    if (pid !== undefined) {
      const isRemoved = this.#directory.isRemoved(name);
      const { code, signal } = exit ?? { code: null, signal: null };
      this.processDie.emit({ name, pid, code, signal, isStopped: end.kind === 'stopped', isRemoved });
    }
    this.#evaluate();
  }

  #tell(name: WorkerName, end: LifeEnd, next: WorkerState | undefined, now: Millis): void {
    const { log } = this.options;
    const fields = { worker: name };
    const goesOn =
      next?.kind === 'backoff'
        ? `; it is started again in ${((next.until - now) / 1000).toFixed(1)} s`
        : next?.kind === 'stopped'
          ? '; it stays stopped (restart = "never" in its file)'
          : '';
    switch (end.kind) {
      case 'cancelled':
        return;
      case 'invalid': {
        const text = `worker ${name} waits until its file is mended: ${end.problems.join('; ')}`;
        log.error('worker.config_invalid', text, fields);
        return;
      }
      case 'failed':
        log.error('worker.start_failed', `${end.reason}${goesOn}`, fields);
        return;
      case 'died':
        log.warn('worker.died', `worker ${name} died: ${end.reason}${goesOn}`, fields);
        return;
      case 'stopped': {
        const text = `worker ${name} was stopped: ${end.reason}${goesOn}`;
        if (next === undefined) log.info('worker.stopped', text, fields);
        else log.warn('worker.stopped', text, fields);
      }
    }
  }

  /** Asks for the stop of a worker that lives; false when it does not. */
  #ask(name: WorkerName, request: StopRequest): boolean {
    const state = this.#observed.get(name);
    if (state?.kind === 'stopping') return true;
    if (state?.kind !== 'starting' && state?.kind !== 'running') return false;
    this.#observed.set(name, { ...state, request });
    this.#evaluate();
    return true;
  }

  /** Starts those that waited for their file to be mended, once it is; nobody needs to send a SIGHUP. */
  async #retryMended(): Promise<void> {
    for (const [name, state] of this.#observed) {
      if (state.kind !== 'waiting') continue;
      const outcome = await this.options.settings(name);
      const runAs = outcome.kind === 'ok' ? await this.#tools?.runAs(outcome.settings) : undefined;
      if (runAs?.kind === 'ok' && this.#observed.get(name) === state) this.#retry(name);
    }
  }

  /** Lets a worker that does not live be started at once. */
  #retry(name: WorkerName): void {
    this.#observed.delete(name);
    this.#evaluate();
  }

  async #reload(name: WorkerName): Promise<void> {
    const { settings, log } = this.options;
    const before = this.#observed.get(name);
    if (before?.kind === 'waiting' || before?.kind === 'backoff') {
      this.#retry(name);
      return;
    }
    const life = this.#lives.get(name);
    if (life?.settings === undefined) return;
    const outcome = await settings(name);
    if (this.#lives.get(name) !== life) return;
    if (outcome.kind === 'invalid') {
      const text = `worker ${name} goes on with the settings it has, since its file is wrong: ${outcome.problems.join('; ')}`;
      log.error('worker.config_invalid', text, { worker: name });
    } else if (!isDeepStrictEqual(outcome.settings, life.settings)) {
      this.#ask(name, { cause: 'reconfigured', detail: 'its file has changed' });
    }
  }
}
