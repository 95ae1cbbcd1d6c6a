/**
 * What the process manager needs from its neighbours, in its own words: `agent.ts` hands the real ones in.
 */
import type { WorkerName } from '../message/index.js';
import type { Millis } from '../time.js';

/** What of a worker's file concerns its process. The real settings have more; they go through to `prepare` as they are. */
export interface ProcessSettings {
  readonly env: Readonly<Record<string, string>>;
  readonly args: readonly string[];
  readonly user?: string | undefined;
  readonly group?: string | undefined;
  /** Spawned, but not registered within this time: a crash. */
  readonly startTimeout: Millis;
  /** From SIGTERM to SIGKILL. */
  readonly stopTimeout: Millis;
  readonly restart: 'always' | 'never';
  /** Bytes; kept by a cgroup where there is one. */
  readonly memoryMax?: number | undefined;
  /** Percent of one CPU; kept by a cgroup where there is one. */
  readonly cpuMax?: number | undefined;
}

export type SettingsOutcome<S> =
  { readonly kind: 'ok'; readonly settings: S } | { readonly kind: 'invalid'; readonly problems: readonly string[] };

/** Reads a worker's file. */
export type ReadSettings<S> = (name: WorkerName) => Promise<SettingsOutcome<S>>;

export interface PrepareRequest<S> {
  readonly name: WorkerName;
  readonly settings: S;
  /** Who the worker will run as; undefined = as the agent. */
  readonly uid: number | undefined;
  readonly gid: number | undefined;
}

/** Makes the worker's socket; `address` becomes YGG_SOCKET_ADDR, with `unix:` in front. */
export type Prepare<S> = (request: PrepareRequest<S>) => Promise<{ readonly address: string }>;

/** One line of status for each executable of the worker directory. */
export interface ProcessEntry {
  readonly id: WorkerName;
  readonly state: string;
  readonly pid?: number;
  /** Wall time in milliseconds. */
  readonly startedAt?: number;
  /** Spawns after the first. */
  readonly restarts: number;
  /** Why it is in this state, for a person. */
  readonly detail?: string;
}

export interface ProcessCollection {
  put(entry: ProcessEntry): unknown;
  remove(id: WorkerName): unknown;
}

/** What the agent knows that its workers are told (PROTOCOL section 2, "Environment of a worker"). */
export interface EnvironmentBase {
  readonly path: string;
  readonly configDir: string;
  /** Read at each spawn, since both can change while the agent runs. */
  readonly logLevel: () => string;
  readonly clientId: () => string;
  /** HTTP_PROXY and the like, by the names they have in the agent's own environment. */
  readonly proxy: Readonly<Record<string, string>>;
}
