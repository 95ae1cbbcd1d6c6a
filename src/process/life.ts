/**
 * One life of a worker's process, from its settings to the moment when nothing of its tree is left. Each life is used
 * once; `run` resolves with how it ended, and until then the worker must not be started again.
 */
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import type { Clock, Millis } from '../time.js';
import type { Cgroups } from './cgroup.js';
import { workerEnvironment } from './environment.js';
import { launch, type WorkerChild } from './launch.js';
import type { MarkPlace, Marks } from './mark.js';
import type { ChildNote } from './note.js';
import { LineLimiter, LineSplitter } from './output.js';
import type { OutputRing } from './output-rings.js';
import type { EnvironmentBase, Prepare, ProcessSettings, ReadSettings } from './ports.js';
import type { Proc, ProcessIdentity } from './proc.js';
import type { RunAs } from './run-as.js';
import type { Candidate, LifeEnd, StopRequest } from './state.js';
import { aborted, endTree, enterCgroup, sweepTree, type Tree } from './tree.js';

/** What every life uses. */
export interface LifeTools<S extends ProcessSettings> {
  readonly settings: ReadSettings<S>;
  readonly prepare: Prepare<S>;
  /** What is wrong with the executable now, or undefined. */
  readonly problem: (candidate: Candidate) => Promise<string | undefined>;
  readonly runAs: (settings: S) => Promise<RunAs>;
  readonly environment: EnvironmentBase;
  readonly cgroups: Cgroups | undefined;
  readonly marks: Marks | undefined;
  readonly markPlace: MarkPlace;
  readonly proc: Proc;
  readonly bootId: string;
  readonly note: ChildNote;
  /** Where what a worker writes is kept for a while. */
  readonly output: (name: Candidate['name']) => OutputRing;
  readonly clock: Clock;
  readonly log: Log;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

interface Ready<S> {
  readonly kind: 'ready';
  readonly settings: S;
  readonly runAs: RunAs & { readonly kind: 'ok' };
  readonly address: string;
}

/** How long the last output may take once all its writers are dead. */
const OUTPUT_PATIENCE: Millis = 1000;

export class WorkerLife<S extends ProcessSettings> {
  /** As they were read for this life; undefined until then. */
  settings: S | undefined;
  /** Once it was spawned. */
  pid: number | undefined;
  /** Who it runs as; undefined: as the agent. */
  uid: number | undefined;
  /** What its processes carry, where they could be marked. */
  mark: number | undefined;
  /** Wall time. */
  spawnedAt: Millis | undefined;
  /** Of the process that was spawned, once it has died. */
  exit: Exit | undefined;
  /** Monotonic; told by whoever hears of it. */
  registeredAt: Millis | undefined;
  #request: StopRequest | undefined;
  readonly #stopAsked = new AbortController();
  readonly #killNow = new AbortController();
  readonly #ended = new AbortController();

  constructor(
    readonly candidate: Candidate,
    /** Failures in a row before it. */
    readonly failures: number,
    private readonly tools: LifeTools<S>,
    /** Called in the turn of the spawn, before the process can have spoken. */
    private readonly onSpawned: () => void,
  ) {}

  /** Lives. Never rejects. */
  async run(): Promise<LifeEnd> {
    try {
      return await this.#live();
    } catch (error) {
      return { kind: 'failed', reason: `cannot start ${this.candidate.path}: ${errorText(error)}` };
    } finally {
      this.#ended.abort();
    }
  }

  /** Asks for its end: SIGTERM, `stop-timeout`, SIGKILL. The first request counts. */
  stop(request: StopRequest): void {
    if (this.#request !== undefined) return;
    this.#request = request;
    this.#stopAsked.abort();
    if (this.settings !== undefined) this.killWithin(this.settings.stopTimeout);
  }

  /** Lets what still runs after this time be killed. */
  killWithin(span: Millis): void {
    this.tools.clock.after(span, () => this.#killNow.abort(), this.#ended.signal);
  }

  async #live(): Promise<LifeEnd> {
    const setup = await this.#setUp();
    if (setup.kind !== 'ready') return setup;
    const { clock, cgroups, environment, marks, markPlace } = this.tools;
    const mark = marks === undefined ? undefined : markPlace.next();
    this.mark = mark;
    const { path, name, identity } = this.candidate;
    const cgroup = await cgroups?.create(name, setup.settings);
    this.uid = setup.runAs.uid;
    if (cgroup === undefined) this.#tellNoLimits(setup.settings);
    const launched = await launch(
      {
        path,
        identity,
        args: setup.settings.args,
        environment: workerEnvironment(environment, setup.address, setup.settings.env),
        uid: setup.runAs.uid,
        gid: setup.runAs.gid,
        stamp: marks === undefined || mark === undefined ? undefined : (spawn) => marks.stamp(mark, spawn),
      },
      clock,
      this.#stopAsked.signal,
    );
    if (launched.kind !== 'spawned') {
      await cgroup?.remove();
      return launched;
    }
    return this.#attend(launched.child, launched.pid, { address: setup.address, mark, cgroup });
  }

  /** All that comes before the spawn. */
  async #setUp(): Promise<LifeEnd | Ready<S>> {
    const { name } = this.candidate;
    const outcome = await this.tools.settings(name);
    if (outcome.kind === 'invalid') return { kind: 'invalid', problems: outcome.problems };
    const { settings } = outcome;
    this.settings = settings;
    const runAs = await this.tools.runAs(settings);
    if (runAs.kind === 'invalid') return { kind: 'invalid', problems: [runAs.problem] };
    if (this.#request !== undefined) return { kind: 'cancelled' };
    const { address } = await this.tools.prepare({ name, settings, uid: runAs.uid, gid: runAs.gid });
    const problem = await this.tools.problem(this.candidate);
    if (problem !== undefined) return { kind: 'failed', reason: problem };
    return { kind: 'ready', settings, runAs, address };
  }

  /** From the spawn to the end of the last process. */
  async #attend(child: WorkerChild, pid: number, signs: Pick<Tree, 'address' | 'mark' | 'cgroup'>): Promise<LifeEnd> {
    const { clock, proc, note, bootId, log } = this.tools;
    const { name, path } = this.candidate;
    // Not yet collected, so it is there even when it has died already.
    const leader: ProcessIdentity = { pid, startTime: proc.stat(pid)?.startTime ?? '' };
    const exited = new Promise<void>((resolve) => {
      child.once('exit', (code, signal) => {
        this.exit = { code, signal };
        resolve();
      });
    });
    const closed = once(child, 'close', { signal: this.#ended.signal }).catch(() => undefined);
    child.on('error', (error) => log.debug('worker.error', errorText(error), { worker: name }));
    this.#logOutput(child, pid);
    const tree: Tree = { leader, ...signs, exited };
    this.pid = pid;
    this.spawnedAt = clock.now();
    this.onSpawned();
    const noted = note.add(bootId, { ...leader, name, executable: path });

    await enterCgroup(tree, { proc, clock });
    await Promise.race([exited, aborted(this.#stopAsked.signal)]);
    // A death by itself and a request in the same moment: what died first counts.
    const request = this.exit === undefined ? this.#request : undefined;
    const left = await (request === undefined
      ? sweepTree(tree, { proc, clock })
      : endTree(tree, this.#killNow.signal, { proc, clock }));
    if (left.length > 0) {
      const pids = left.map((process) => process.pid).join(', ');
      log.error('worker.left_behind', `processes of worker ${name} cannot be ended: ${pids}; end them by hand`, {
        worker: name,
      });
    }
    clock.after(OUTPUT_PATIENCE, () => this.#ended.abort(), this.#ended.signal);
    await closed;
    child.stdout.destroy();
    child.stderr.destroy();
    await noted;
    await note.remove(bootId, pid);
    const reason = describeExit(this.exit);
    return request === undefined
      ? { kind: 'died', reason }
      : { kind: 'stopped', cause: request.cause, reason: request.detail };
  }

  #tellNoLimits({ memoryMax, cpuMax }: S): void {
    const { name } = this.candidate;
    const asked = [memoryMax === undefined ? [] : 'memory-max', cpuMax === undefined ? [] : 'cpu-max'].flat();
    if (asked.length === 0) return;
    const text =
      `worker ${name} runs without the ${asked.join(' and ')} of its file: that needs a cgroup (v2) that is ` +
      "the agent's own, as Delegate=yes in its unit gives it";
    this.tools.log.warn('cgroup.no_limit', text, { worker: name });
  }

  #logOutput(child: WorkerChild, pid: number): void {
    const { clock } = this.tools;
    const kept = this.tools.output(this.candidate.name);
    const log = this.tools.log.child({ worker: this.candidate.name });
    const limiter = new LineLimiter(clock);
    const tellDropped = (): void => {
      const dropped = limiter.takeDropped();
      if (dropped > 0) log.warn('worker.output_dropped', `${dropped} lines of output left out: too many at once`);
    };
    const follow = (stream: Readable, name: 'stdout' | 'stderr'): void => {
      const lines = new LineSplitter((line, text) => {
        kept.push({ at: clock.now(), pid, stream: name, text });
        if (!limiter.admit()) return;
        tellDropped();
        log.info('worker.output', line, { stream: name });
      });
      stream.on('data', (chunk: Buffer) => lines.write(chunk));
      stream.once('close', () => {
        lines.end();
        tellDropped();
      });
      // A pipe that breaks has nothing more to say; the exit tells the rest.
      stream.on('error', () => stream.destroy());
    };
    follow(child.stdout, 'stdout');
    follow(child.stderr, 'stderr');
  }
}

function describeExit(exit: Exit | undefined): string {
  if (exit === undefined) return 'it could not be killed';
  return exit.signal === null ? `it ended with exit code ${exit.code ?? 0}` : `it was ended by ${exit.signal}`;
}
