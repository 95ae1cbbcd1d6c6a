/** What the process manager is given, and what it tells. */
import type { Log } from '../log/log.js';
import type { WorkerName } from '../message/index.js';
import type { Clock, Millis, Random } from '../time.js';
import type { Cgroups } from './cgroup.js';
import type { Marks } from './mark.js';
import type { EnvironmentBase, Prepare, ProcessCollection, ProcessSettings, ReadSettings } from './ports.js';
import type { Proc } from './proc.js';
import type { Users } from './users.js';

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

/** What a stop or a start by hand met with. */
export interface Held {
  /** It was stopped by hand before. */
  readonly wasHeld: boolean;
  /** Why it could not be written down: it is forgotten at the agent's end. */
  readonly problem: string | undefined;
}

/** What came of reading workers' files again. */
export interface ReloadedWorkers {
  /** Or tried again. */
  readonly restarted: WorkerName[];
  /** Sentences about files that are wrong. */
  readonly problems: string[];
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
  /** `openMarks`, called before the first worker is started; undefined where there are none. */
  readonly marks?: (() => Promise<Marks | undefined>) | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly proc?: Proc;
  readonly users?: Users;
  readonly rescanInterval?: Millis;
  readonly orphanGrace?: Millis;
}
