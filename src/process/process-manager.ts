/**
 * Runs the workers: what stands in the worker directory is started, kept running, replaced and stopped. The planner
 * decides, this executes; one life for each name at a time, so that no worker ever runs twice. It opens no socket and
 * speaks to no worker: the dispatcher does, and tells it through `registered` and `unhealthy`.
 */
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { WorkerName } from '../message/index.js';
import { Signal } from '../signal/index.js';
import type { Millis } from '../time.js';
import { RESCAN_INTERVAL, WorkerDirectory } from './directory.js';
import { Holds } from './holds.js';
import { WorkerLife, type LifeTools } from './life.js';
import { MarkPlace } from './mark.js';
import { ChildNote } from './note.js';
import type { Held, ProcessDie, ProcessManagerOptions, ProcessSpawn, ReloadedWorkers } from './options.js';
import { endOrphans, ORPHAN_GRACE } from './orphans.js';
import { OutputRings, type OutputRing } from './output-rings.js';
import { nextWake, plan, type Step } from './plan.js';
import type { ProcessSettings } from './ports.js';
import { Proc } from './proc.js';
import { resolveRunAs } from './run-as.js';
import { problemNow } from './scan.js';
import { stateAfter, type Candidate, type LifeEnd, type StopRequest, type WorkerState } from './state.js';
import { StatusBoard } from './status-board.js';
import { tellEnd } from './tell-end.js';
import type { Trust } from './trust.js';
import { Users } from './users.js';

export class ProcessManager<S extends ProcessSettings> {
  /** In the turn of the spawn. */
  readonly processSpawn = new Signal<ProcessSpawn>('process-spawn');
  /** When nothing of the process's tree is left. */
  readonly processDie = new Signal<ProcessDie>('process-die');
  /** An executable is gone from the directory, after the end of its process if it had one. */
  readonly workerRemoved = new Signal<WorkerName>('worker-removed');

  readonly #observed = new Map<WorkerName, WorkerState>();
  readonly #lives = new Map<WorkerName, WorkerLife<S>>();
  readonly #endings = new Map<WorkerName, Promise<void>>();
  readonly #scope = new AbortController();
  readonly #board: StatusBoard;
  readonly #directory: WorkerDirectory;
  readonly #note: ChildNote;
  readonly #holds: Holds;
  readonly #outputs = new OutputRings();
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
    this.#board = new StatusBoard(options.processes, (name) => {
      this.#outputs.forget(name);
      this.workerRemoved.emit(name);
    });
    this.#holds = new Holds(join(options.stateDir, 'stopped-workers.json'), log);
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

  /** Whether the worker was stopped by hand. */
  isHeld(name: WorkerName): boolean {
    return this.#holds.has(name);
  }

  /** What the worker wrote; undefined when there is none of this name. */
  output(name: WorkerName): OutputRing | undefined {
    return this.#isKnown(name) ? this.#outputs.of(name) : undefined;
  }

  /**
   * Stops the worker and keeps it stopped until `release`, also over a restart of the agent; undefined when there is none
   * of this name. Resolves when nothing of it runs, with what kept the stop from being written down, if anything did.
   */
  async hold(name: WorkerName): Promise<Held | undefined> {
    if (!this.#isKnown(name)) return undefined;
    const wasHeld = this.isHeld(name);
    const noted = this.#holds.add(name, this.options.clock.now());
    this.#evaluate();
    await this.#endings.get(name);
    return { wasHeld, problem: await noted };
  }

  /**
   * Lets a worker that was stopped by hand run again, and one that waits for its next try be tried now; undefined when
   * there is nothing to start. With what kept that from being written down, if anything did.
   */
  async release(name: WorkerName): Promise<Held | undefined> {
    const wasHeld = this.isHeld(name);
    if (!wasHeld && !this.#isKnown(name)) return undefined;
    const noted = wasHeld ? this.#holds.remove(name) : undefined;
    const kind = this.#observed.get(name)?.kind;
    if (kind === 'stopped' || kind === 'backoff' || kind === 'waiting') this.#retry(name);
    return { wasHeld, problem: await noted };
  }

  /**
   * Reads the file of one worker, or all, again: one that waits is tried now, one that runs is restarted if its
   * settings have changed. With wrong settings what runs goes on as it is.
   */
  async reload(name?: WorkerName): Promise<ReloadedWorkers> {
    const names = name === undefined ? [...this.#observed.keys()] : [name];
    const reloaded: ReloadedWorkers = { restarted: [], problems: [] };
    await Promise.all(names.map((each) => this.#reload(each, reloaded)));
    return reloaded;
  }

  async #start(scope: AbortSignal): Promise<void> {
    const { options } = this;
    const { clock, log, agent, workerUser } = options;
    const proc = this.#proc;
    const users = options.users ?? new Users();
    const bootId = await proc.bootId();
    const markPlace = new MarkPlace(options.runtimeDir);
    const note = await this.#note.read();
    await this.#holds.read();
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
      marks: await options.marks?.(),
      markPlace,
      proc,
      bootId,
      note: this.#note,
      output: (name) => this.#outputs.of(name),
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
    while (this.#endings.size > 0) await Promise.all(this.#endings.values());
    this.#alarm.abort();
    await this.#note.flush();
    await this.#directory.stop();
  }

  get #desired(): ReadonlyMap<WorkerName, Candidate> {
    return this.#scope.signal.aborted ? new Map<WorkerName, Candidate>() : this.#holds.mark(this.#directory.wanted);
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
      case 'hold': {
        const { name, identity } = step.candidate;
        this.#observed.set(name, { kind: 'stopped', identity, detail: step.detail });
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
    this.#endings.set(name, ending);
    void ending.finally(() => {
      // The next life may have begun by then.
      if (this.#endings.get(name) === ending) this.#endings.delete(name);
    });
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
    tellEnd(this.options.log, { name, end, next, now });
    if (pid !== undefined) {
      const isRemoved = this.#directory.isRemoved(name);
      const { code, signal } = exit ?? { code: null, signal: null };
      this.processDie.emit({ name, pid, code, signal, isStopped: end.kind === 'stopped', isRemoved });
    }
    this.#evaluate();
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

  #isKnown(name: WorkerName): boolean {
    return this.#observed.has(name) || this.#directory.refused.some((refused) => refused.name === name);
  }

  /** Lets a worker that does not live be started at once. */
  #retry(name: WorkerName): void {
    this.#observed.delete(name);
    this.#evaluate();
  }

  async #reload(name: WorkerName, { restarted, problems }: ReloadedWorkers): Promise<void> {
    const { settings, log } = this.options;
    const before = this.#observed.get(name);
    if (before?.kind === 'waiting' || before?.kind === 'backoff') {
      this.#retry(name);
      restarted.push(name);
      return;
    }
    const life = this.#lives.get(name);
    if (life?.settings === undefined) return;
    const outcome = await settings(name);
    if (this.#lives.get(name) !== life) return;
    if (outcome.kind === 'invalid') {
      const text = `worker ${name} goes on with the settings it has, since its file is wrong: ${outcome.problems.join('; ')}`;
      log.error('worker.config_invalid', text, { worker: name });
      problems.push(text);
    } else if (!isDeepStrictEqual(outcome.settings, life.settings)) {
      this.#ask(name, { cause: 'reconfigured', detail: 'its file has changed' });
      restarted.push(name);
    }
  }
}
