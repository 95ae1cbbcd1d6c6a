export { ProcessManager, type ProcessDie, type ProcessManagerOptions, type ProcessSpawn } from './process-manager.js';
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
export { createWayCheck } from './trust.js';
export { Users } from './users.js';
