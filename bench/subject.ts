/**
 * What is measured, running: the agent with its workers, or a limit in its place. To the rows they look alike: the
 * processes to watch, the directives to send to, and a driver that is connected.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Mosquitto } from '../test/support/mosquitto.js';
import { tempDir } from '../test/support/temp.js';
import { Home, ROOT, Yggd } from '../test/support/yggd.js';
import { startChild } from './child.js';
import { Driver } from './driver.js';
import { programPath } from './programs.js';
import type { Transport } from './rows.js';
import { Stack } from './stack.js';
import { descendantsOf, memoryOf } from './usage.js';

/** What all subjects of a run share. */
export interface Ground {
  readonly broker: Mosquitto;
  /** The directory of the bundled programs. */
  readonly programs: string;
  /** Where the agent writes its profile, if it is to. */
  readonly profile: string | undefined;
  readonly scope: AbortSignal;
}

export interface Running {
  readonly driver: Driver;
  readonly directives: readonly string[];
  readonly agent: number;
  readonly workers: readonly number[];
  readonly broker: number;
  /** Of the agent, before the first message. */
  readonly idleRss: number;
  /** Why the agent is dead, if it is. */
  readonly problem: () => string | undefined;
}

export interface Subject extends Running, AsyncDisposable {}

/** A worker of the benchmark: an executable in the worker directory. */
export interface WorkerSetup {
  readonly directive: string;
  readonly transport: Transport;
  readonly concurrency: number;
  /** `count` reads the whole content and answers with its size; it takes detached content. */
  readonly answers: 'echo' | 'count';
}

/** How an agent is started. */
export interface AgentSetup {
  readonly workers: readonly WorkerSetup[];
  /** More flags. */
  readonly args?: readonly string[];
  /** The door to the broker, if not its own. */
  readonly door?: string;
}

/** So many echo workers: echo0, echo1, … */
export function echoWorkers(count: number, transport: Transport, concurrency: number): WorkerSetup[] {
  return Array.from({ length: count }, (_, index) => {
    return { directive: `echo${index}`, transport, concurrency, answers: 'echo' };
  });
}

/** Where an agent is at home and what it is called, over all its starts. */
export interface Station extends AsyncDisposable {
  readonly home: Home;
  readonly clientId: string;
  readonly driver: Driver;
}

/** A station of its own: what is left of another in the broker does not reach it. */
export async function makeStation({ broker, scope }: Ground): Promise<Station> {
  const stack = new Stack();
  try {
    const clientId = `bench-${randomBytes(3).toString('hex')}`;
    const topics = `yggdrasil/${clientId}`;
    const driver = stack.use(await Driver.connect({ port: broker.port, topics, answers: 'response_to' }, scope));
    const home = stack.use(await Home.make());
    return { home, clientId, driver, [Symbol.asyncDispose]: () => stack[Symbol.asyncDispose]() };
  } catch (error) {
    await stack[Symbol.asyncDispose]();
    throw error;
  }
}

/** Starts an agent at a station of its own, and resolves when the fleet was told of all its workers. */
export async function startAgent(ground: Ground, setup: AgentSetup): Promise<Subject> {
  const stack = new Stack();
  try {
    const station = stack.use(await makeStation(ground));
    const launched = await launchAgent(ground, station, setup);
    stack.use(launched.yggd);
    const directives = setup.workers.map(({ directive }) => directive);
    return {
      ...subjectOf(ground, station, launched, directives),
      [Symbol.asyncDispose]: () => stack[Symbol.asyncDispose](),
    };
  } catch (error) {
    await stack[Symbol.asyncDispose]();
    throw error;
  }
}

/** An agent that was launched, to be measured; whoever launched it ends it. */
export function subjectOf(
  { broker }: Ground,
  { driver }: Station,
  { yggd, workers }: Launched,
  directives: readonly string[],
): Running {
  const idleRss = memoryOf(yggd.pid).rss;
  return { driver, directives, agent: yggd.pid, workers, broker: broker.pid, idleRss, problem: () => problemOf(yggd) };
}

/** An agent that runs, and how long it took, in milliseconds after its process was started. */
export interface Launched {
  readonly yggd: Yggd;
  readonly workers: readonly number[];
  readonly onlineMs: number;
  readonly workersMs: number;
}

/** Starts the agent in these directories; the caller ends it. */
export async function launchAgent(
  { broker, programs, profile, scope }: Ground,
  { home, clientId, driver }: Station,
  { workers, args = [], door = broker.url }: AgentSetup,
): Promise<Launched> {
  for (const { directive, answers, concurrency, transport } of workers) {
    const words = [process.execPath, programPath(programs, 'echo-worker'), directive, concurrency, transport, answers];
    await home.addProgram(`${directive}-worker`, `#!/bin/sh\nexec ${words.join(' ')}\n`);
  }
  const waiting = new AbortController();
  const from = AbortSignal.any([scope, waiting.signal]);
  const began = performance.now();
  const told = (what: (text: string) => boolean): Promise<number> => {
    const time = driver.control
      .next(from, ({ text, retain }) => !retain && what(text))
      .then(() => performance.now() - began);
    time.catch(() => undefined); // It is waited for below.
    return time;
  };
  const isOnline = told((text) => text.includes('"state":"online"'));
  const areThere = told((text) => workers.every(({ directive }) => text.includes(`"${directive}":`)));
  const how = profile === undefined ? {} : { program: await home.addDraft('profiled', profiled(profile)) };
  const yggd = Yggd.spawn({ home, args: [`--client-id=${clientId}`, `--broker=${door}`, ...args], ...how });
  try {
    const ended = yggd.ended.then(() => Promise.reject(new Error(problemOf(yggd))));
    const [onlineMs, workersMs] = await Promise.race([Promise.all([isOnline, areThere]), ended]);
    return { yggd, workers: descendantsOf(yggd.pid), onlineMs, workersMs };
  } catch (error) {
    await yggd[Symbol.asyncDispose]();
    throw error;
  } finally {
    waiting.abort(new Error('the agent did not start'));
  }
}

export type LimitKind = 'limit-echo' | 'limit-grpc';

/** Starts what stands in the agent's place for a limit. */
export async function startLimit(ground: Ground, kind: LimitKind): Promise<Subject> {
  const stack = new Stack();
  const { broker, programs, scope } = ground;
  try {
    const topics = 'bench/limit';
    const driver = stack.use(await Driver.connect({ port: broker.port, topics, answers: 'message_id' }, scope));
    const home = stack.use(await tempDir());
    const [agentSocket, workerSocket] = [join(home.path, 'agent.sock'), join(home.path, 'worker.sock')];
    const workers =
      kind === 'limit-echo'
        ? []
        : [stack.use(await startChild(programPath(programs, 'limit-worker'), [workerSocket, agentSocket], scope)).pid];
    const agent = stack.use(
      await startChild(programPath(programs, kind), [String(broker.port), topics, agentSocket, workerSocket], scope),
    );
    return {
      driver,
      directives: ['echo'],
      agent: agent.pid,
      workers,
      broker: broker.pid,
      idleRss: memoryOf(agent.pid).rss,
      problem: () => undefined,
      [Symbol.asyncDispose]: () => stack[Symbol.asyncDispose](),
    };
  } catch (error) {
    await stack[Symbol.asyncDispose]();
    throw error;
  }
}

/** Why the agent is dead, if it is. */
export function problemOf({ child, log, other }: Yggd): string | undefined {
  if (child.exitCode === null && child.signalCode === null) return undefined;
  const lines = [...log.map((entry) => JSON.stringify(entry)), ...other];
  return `the agent ended with ${child.exitCode ?? String(child.signalCode)}:\n${lines.slice(-20).join('\n')}`;
}

function profiled(directory: string): string {
  const words = [process.execPath, '--cpu-prof', `--cpu-prof-dir=${directory}`, join(ROOT, 'dist/yggd.js')];
  return `#!/bin/sh\nexec ${words.map((word) => `'${word}'`).join(' ')} "$@"\n`;
}
