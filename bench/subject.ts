/**
 * What is measured, running: the agent with its workers, or a limit in its place. To the rows they look alike: the
 * processes to watch, the directives to send to, and a driver that is connected.
 */
import { join } from 'node:path';
import type { Mosquitto } from '../test/support/mosquitto.js';
import { Home, ROOT, Yggd } from '../test/support/yggd.js';
import { startChild } from './child.js';
import { Driver } from './driver.js';
import { programPath } from './programs.js';
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

export interface Subject extends AsyncDisposable {
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

/** The agent and so many workers of a kind. */
export interface AgentSetup {
  readonly transport: 'unary' | 'stream';
  readonly workers: number;
  /** Messages that one worker handles at once. */
  readonly concurrency: number;
}

const CLIENT_ID = 'bench';
const TOPICS = `yggdrasil/${CLIENT_ID}`;

/** Starts the agent and resolves when the fleet was told of all its workers. */
export async function startAgent(ground: Ground, setup: AgentSetup): Promise<Subject> {
  const stack = new Stack();
  const { broker, programs, profile, scope } = ground;
  try {
    const home = stack.use(await Home.make());
    const driver = stack.use(
      await Driver.connect({ port: broker.port, topics: TOPICS, answers: 'response_to' }, scope),
    );
    const directives = Array.from({ length: setup.workers }, (_, index) => `echo${index}`);
    for (const directive of directives) {
      const program = programPath(programs, 'echo-worker');
      const words = [process.execPath, program, directive, setup.concurrency, setup.transport];
      await home.addProgram(`${directive}-worker`, `#!/bin/sh\nexec ${words.join(' ')}\n`);
    }
    const areThere = driver.control.next(scope, ({ text }) => directives.every((each) => text.includes(`"${each}":`)));
    areThere.catch(() => undefined); // It is waited for below.
    const args = [`--client-id=${CLIENT_ID}`, `--broker=${broker.url}`];
    const how = profile === undefined ? {} : { program: await home.addDraft('profiled', profiled(profile)) };
    const yggd = stack.use(await Yggd.start({ home, args, ...how }));
    const problem = (): string | undefined => problemOf(yggd);
    await Promise.race([areThere, yggd.ended]);
    if (problem() !== undefined) throw new Error(problem());
    return {
      driver,
      directives,
      agent: yggd.pid,
      workers: descendantsOf(yggd.pid),
      broker: broker.pid,
      idleRss: memoryOf(yggd.pid).rss,
      problem,
      [Symbol.asyncDispose]: () => stack[Symbol.asyncDispose](),
    };
  } catch (error) {
    await stack[Symbol.asyncDispose]();
    throw error;
  }
}

export type LimitKind = 'limit-echo' | 'limit-grpc';

/** Starts what stands in the agent's place for a limit. */
export async function startLimit(ground: Ground, kind: LimitKind): Promise<Subject> {
  const stack = new Stack();
  const { broker, programs, scope } = ground;
  try {
    const driver = stack.use(await Driver.connect({ port: broker.port, topics: TOPICS, answers: 'message_id' }, scope));
    const sockets = ['agent.sock', 'worker.sock'].map((name) => join(programs, name));
    const [agentSocket = '', workerSocket = ''] = sockets;
    const workers =
      kind === 'limit-echo'
        ? []
        : [stack.use(await startChild(programPath(programs, 'limit-worker'), [workerSocket, agentSocket], scope)).pid];
    const agent = stack.use(
      await startChild(programPath(programs, kind), [String(broker.port), TOPICS, agentSocket, workerSocket], scope),
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

function problemOf({ child, log, other }: Yggd): string | undefined {
  if (child.exitCode === null && child.signalCode === null) return undefined;
  const lines = [...log.map((entry) => JSON.stringify(entry)), ...other];
  return `the agent ended with ${child.exitCode ?? String(child.signalCode)}:\n${lines.slice(-20).join('\n')}`;
}

function profiled(directory: string): string {
  const words = [process.execPath, '--cpu-prof', `--cpu-prof-dir=${directory}`, join(ROOT, 'dist/yggd.js')];
  return `#!/bin/sh\nexec ${words.map((word) => `'${word}'`).join(' ')} "$@"\n`;
}
