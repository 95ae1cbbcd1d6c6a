/**
 * What /proc tells about processes. A pid alone says nothing, since the kernel gives it out again: a process is its pid
 * and its start time (in ticks since boot), within one boot.
 */
import { readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat, as text: it may exceed what a double holds. */
  readonly startTime: string;
}

export interface ProcessStat extends ProcessIdentity {
  /** One letter; Z and X have ended and only wait for their parent. */
  readonly state: string;
  readonly parent: number;
  readonly group: number;
  readonly session: number;
  /** 0 = no controlling terminal. */
  readonly terminal: number;
}

export class Proc {
  constructor(private readonly root = '/proc') {}

  /** The process as it is now, or undefined when there is none. */
  stat(pid: number): ProcessStat | undefined {
    try {
      return parseStat(pid, readFileSync(join(this.root, String(pid), 'stat'), 'utf8'));
    } catch {
      // ENOENT or ESRCH: it has ended, and that is the answer.
      return undefined;
    }
  }

  /** Whether this very process still runs (a zombie does not). */
  isAlive(identity: ProcessIdentity): boolean {
    const now = this.stat(identity.pid);
    return now?.startTime === identity.startTime && !hasEnded(now);
  }

  /** All processes that run now. */
  async all(): Promise<ProcessStat[]> {
    const found: ProcessStat[] = [];
    for (const entry of await readdir(this.root)) {
      if (!/^\d+$/.test(entry)) continue;
      const stat = this.stat(Number(entry));
      if (stat !== undefined && !hasEnded(stat)) found.push(stat);
    }
    return found;
  }

  /** The value of one variable in a process's first environment; undefined when it has none or may not be read. */
  async variable(pid: number, name: string): Promise<string | undefined> {
    try {
      const environ = await readFile(join(this.root, String(pid), 'environ'), 'utf8');
      const entry = environ.split('\0').find((line) => line.startsWith(`${name}=`));
      return entry?.slice(name.length + 1);
    } catch {
      // EACCES of another user's process, or it has just ended: not one of ours.
      return undefined;
    }
  }

  /** The soft limit on file locks, by which mark.ts knows a process; undefined when there is none, or no such process. */
  mark(pid: number): number | undefined {
    try {
      const limits = readFileSync(join(this.root, String(pid), 'limits'), 'utf8');
      const soft = /^Max file locks +(\d+) /m.exec(limits)?.[1];
      return soft === undefined ? undefined : Number(soft);
    } catch {
      // It has just ended, or is hidden from us.
      return undefined;
    }
  }

  /** A process and those above it, up to init. */
  lineage(pid: number): Set<number> {
    const line = new Set<number>();
    for (let at = pid; at > 0 && !line.has(at); at = this.stat(at)?.parent ?? 0) line.add(at);
    return line;
  }

  /** Whether a process is `leader`, in its session, or was started by one of its tree that still runs. */
  isBelow(pid: number, leader: number): boolean {
    return this.stat(pid)?.session === leader || this.lineage(pid).has(leader);
  }

  /** Changes at each boot; an empty text where the kernel does not tell. */
  async bootId(): Promise<string> {
    try {
      return (await readFile(join(this.root, 'sys/kernel/random/boot_id'), 'utf8')).trim();
    } catch {
      // Without it start times alone identify, as they do within one boot.
      return '';
    }
  }
}

function hasEnded(stat: ProcessStat): boolean {
  return stat.state === 'Z' || stat.state === 'X';
}

/** proc(5): the second field is the name in parentheses and may hold anything, also parentheses and spaces. */
export function parseStat(pid: number, text: string): ProcessStat | undefined {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, parent, group, session, terminal] = fields;
  const startTime = fields[19];
  if (state === undefined || startTime === undefined) return undefined;
  return {
    pid,
    startTime,
    state,
    parent: Number(parent),
    group: Number(group),
    session: Number(session),
    terminal: Number(terminal),
  };
}

/** Those below `ancestor` in the tree of `all`. */
export function descendants(all: readonly ProcessStat[], ancestor: number): ProcessStat[] {
  const below = new Set([ancestor]);
  // A parent may stand after its child in the list (pids wrap), so it is read until nothing is added.
  for (let size = 0; size !== below.size;) {
    size = below.size;
    for (const stat of all) if (below.has(stat.parent)) below.add(stat.pid);
  }
  return all.filter((stat) => stat.pid !== ancestor && below.has(stat.pid));
}
