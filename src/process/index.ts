export { ProcessManager } from './process-manager.js';
export type { Held, ProcessDie, ProcessManagerOptions, ProcessSpawn, ReloadedWorkers } from './options.js';
export type { OutputRing, WorkerLine } from './output-rings.js';
export { openCgroups, type Cgroups, type CgroupLimits, type WorkerCgroup } from './cgroup.js';
export { openMarks, type Marks } from './mark.js';
export { isAllowedVariable } from './environment.js';
export type {
  EnvironmentBase,
  Prepare,
  PrepareRequest,
  ProcessCollection,
  ProcessEntry,
  ProcessSettings,
  ReadSettings,
  SettingsOutcome,
} from './ports.js';
export { resolveRunAs } from './run-as.js';
export { scanWorkers, type Scan } from './scan.js';
export { createWayCheck } from './trust.js';
export { Users, type UserEntry } from './users.js';
