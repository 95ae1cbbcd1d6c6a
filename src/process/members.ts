/**
 * Who belongs to a worker: its group and session, whoever carries its socket in the environment (also after leaving the
 * group), and whatever these started. Once seen, a process stays known by pid and start time, so that it is found
 * again after its parent has died. The agent and those above it never belong.
 */
import { errnoOf } from '../errors.js';
import { descendants, type Proc, type ProcessIdentity, type ProcessStat } from './proc.js';

export interface MembersOptions {
  readonly proc: Proc;
  /** Processes that lead a session of their own. */
  readonly leaders: readonly ProcessIdentity[];
  /** Whether a process that is in no group of a leader belongs all the same. */
  readonly isStray: (process: ProcessStat) => Promise<boolean>;
}

export class Members {
  readonly #known = new Map<number, string>();

  constructor(private readonly options: MembersOptions) {}

  /** All members that run now. */
  async look(): Promise<ProcessStat[]> {
    const { proc, isStray } = this.options;
    const leaders = new Set(this.options.leaders.filter((leader) => isStillHis(proc, leader)).map(({ pid }) => pid));
    const never = proc.lineage(process.pid);
    const all = (await proc.all()).filter(({ pid }) => !never.has(pid));
    const found = new Map<number, ProcessStat>();
    for (const stat of all) {
      const isMember =
        leaders.has(stat.group) ||
        leaders.has(stat.session) ||
        this.#known.get(stat.pid) === stat.startTime ||
        (await isStray(stat));
      if (isMember) found.set(stat.pid, stat);
    }
    for (const { pid } of [...found.values()]) {
      for (const below of descendants(all, pid)) found.set(below.pid, below);
    }
    this.#known.clear();
    for (const { pid, startTime } of found.values()) this.#known.set(pid, startTime);
    return [...found.values()];
  }
}

/** Signals the group of a leader, unless its number has been given to another process since. */
export function signalGroup(proc: Proc, leader: ProcessIdentity, signal: NodeJS.Signals): void {
  if (isStillHis(proc, leader)) send(-leader.pid, signal);
}

/** Signals one process, unless its number has been given to another since. */
export function signalProcess(proc: Proc, target: ProcessIdentity, signal: NodeJS.Signals): void {
  if (proc.isAlive(target)) send(target.pid, signal);
}

/** A leader that has died leaves its number to its group as long as that has members. */
function isStillHis(proc: Proc, leader: ProcessIdentity): boolean {
  const now = proc.stat(leader.pid);
  return now === undefined || now.startTime === leader.startTime;
}

function send(target: number, signal: NodeJS.Signals): void {
  try {
    process.kill(target, signal);
  } catch (error) {
    // ESRCH: nobody left. EPERM: it has become another user's; whoever waits for its end says that it stays.
    const errno = errnoOf(error);
    if (errno !== 'ESRCH' && errno !== 'EPERM') throw error;
  }
}
