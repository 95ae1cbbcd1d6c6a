/** What a test of a worker stands on: an agent and the worker that meets it, both gone when the test is. */
import { spawnSync } from 'node:child_process';
import { serve, type Handler, type ServeOptions } from '../../src/worker/index.js';
import { recordingLog, type RecordingLog } from './log.js';
import { tempDir, type TempDir } from './temp.js';
import { startWorkerProcess, type WorkerProcess } from './worker-process.js';

interface Agent extends AsyncDisposable {
  readonly address: string;
}

/** A worker of the SDK in this process. */
export interface SdkRig<A extends Agent> extends AsyncDisposable {
  readonly agent: A;
  readonly log: RecordingLog;
  readonly dir: TempDir;
  readonly stop: AbortController;
  readonly ended: Promise<void>;
}

/** Serves `echo` beside an agent that `startAgent` makes in a directory of its own; does not wait until they have met. */
export async function sdkRig<A extends Agent>(
  startAgent: (dir: string) => Promise<A>,
  handler: Handler,
  options: Partial<ServeOptions> = {},
): Promise<SdkRig<A>> {
  const dir = await tempDir();
  const agent = await startAgent(dir.path);
  const log = recordingLog();
  const stop = new AbortController();
  const ended = serve(
    { handler: 'echo', address: agent.address, log, signal: stop.signal, random: () => 0.1, ...options },
    handler,
  );
  return {
    agent,
    log,
    dir,
    stop,
    ended,
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await ended;
      await agent[Symbol.asyncDispose]();
      await dir[Symbol.asyncDispose]();
    },
  };
}

/** A worker that is a program. */
export interface ProgramRig<A extends Agent> extends AsyncDisposable {
  readonly dir: TempDir;
  readonly agent: A;
  readonly worker: WorkerProcess;
}

/** Starts the program `file` beside an agent; does not wait until they have met. */
export async function programRig<A extends Agent>(
  startAgent: (dir: string) => Promise<A>,
  file: string,
): Promise<ProgramRig<A>> {
  const dir = await tempDir();
  const agent = await startAgent(dir.path);
  const worker = startWorkerProcess(file, [], { YGG_SOCKET_ADDR: agent.address, YGG_LOG_LEVEL: 'INFO' });
  return {
    dir,
    agent,
    worker,
    [Symbol.asyncDispose]: async () => {
      await worker[Symbol.asyncDispose]();
      await agent[Symbol.asyncDispose]();
      await dir[Symbol.asyncDispose]();
    },
  };
}

/** Why the workers in Python cannot run here, or false. */
export function pythonGrpcMissing(): string | false {
  const { status } = spawnSync('/usr/bin/python3', ['-c', 'import grpc, google.protobuf']);
  return status === 0 ? false : 'needs python3-grpcio';
}

export interface Deferred {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
}

/** A promise that the test resolves. */
export function deferred(): Deferred {
  let settle = (): void => undefined;
  const promise = new Promise<void>((resolve) => (settle = resolve));
  return { promise, resolve: () => settle() };
}
