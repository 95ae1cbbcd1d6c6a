/**
 * A cgroup (v2) for each worker, where the agent is the main process of a systemd unit with Delegate=yes: limits on
 * memory and CPU, and an end from which no child escapes. Elsewhere there is none, and the tree is ended by its group
 * and a search of /proc. Nothing here is fatal.
 *
 * Layout below the unit: `agent` holds the agent (a cgroup that hands controllers down may hold no process itself),
 * `w-NAME` each worker.
 */
import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import type { WorkerName } from '../message/index.js';

export interface CgroupLimits {
  /** Bytes. */
  readonly memoryMax?: number | undefined;
  /** Percent of one CPU. */
  readonly cpuMax?: number | undefined;
}

export interface WorkerCgroup {
  /** Moves a process in: children it starts from then on are born inside. The kernel may take 30 ms for it. */
  enter(pid: number): Promise<void>;
  /** Kills everything inside. */
  kill(): Promise<void>;
  /** Whether this process is inside. */
  includes(pid: number): Promise<boolean>;
  /** Whether nobody is inside; a killed process stays inside until it has really ended. */
  isEmpty(): Promise<boolean>;
  /** Takes the empty cgroup away; one that is still in use is left for the next start. */
  remove(): Promise<void>;
}

export interface Cgroups {
  /** Kills what an agent before this one left in the cgroups of its workers, and takes those away that are empty. */
  sweep(): Promise<void>;
  /** Undefined when it cannot be made. */
  create(name: WorkerName, limits: CgroupLimits): Promise<WorkerCgroup | undefined>;
}

export interface CgroupPlace {
  /** The file that tells where cgroup v2 is mounted: not at the usual place where v1 is beside it. */
  readonly mounts?: string;
  /** The file that tells the agent's own cgroup. */
  readonly self?: string;
  readonly pid?: number;
  readonly log: Log;
}

/** Of the name of each worker's cgroup. */
const PREFIX = 'w-';

/** The cgroups of the unit that the agent runs in, or undefined when there is none to use. */
export async function openCgroups({
  mounts = '/proc/self/mountinfo',
  self = '/proc/self/cgroup',
  pid = process.pid,
  log,
}: CgroupPlace): Promise<Cgroups | undefined> {
  try {
    const own = ownUnit(await readFile(self, 'utf8'));
    if (own === undefined) return undefined;
    const root = cgroupRoot(await readFile(mounts, 'utf8'));
    if (root === undefined) return undefined;
    const base = join(root, own.unit);
    const inside = (await readFile(join(base, 'cgroup.procs'), 'utf8')).split('\n').filter((line) => line !== '');
    // Somebody else lives there too: it was not delegated to us.
    if (inside.some((line) => Number(line) !== pid)) return undefined;
    if (!own.isBelow) {
      await makeDirectory(join(base, 'agent'));
      await writeFile(join(base, 'agent', 'cgroup.procs'), String(pid));
    }
    for (const controller of ['memory', 'cpu']) {
      try {
        await writeFile(join(base, 'cgroup.subtree_control'), `+${controller}`);
      } catch (error) {
        log.debug('cgroup.no_controller', `workers get no limits of ${controller}: ${errorText(error)}`);
      }
    }
    return new DelegatedCgroups(base, log);
  } catch (error) {
    log.debug('cgroup.unavailable', `workers get no cgroups of their own: ${errorText(error)}`);
    return undefined;
  }
}

/** Where the whole tree of cgroup v2 is mounted, out of /proc/self/mountinfo (proc(5)). */
export function cgroupRoot(mountinfo: string): string | undefined {
  for (const line of mountinfo.split('\n')) {
    const [mount = '', filesystem = ''] = line.split(' - ');
    const [, , , root, point] = mount.split(' ');
    if (filesystem.startsWith('cgroup2 ') && root === '/') return point;
  }
  return undefined;
}

/** The unit's cgroup out of /proc/self/cgroup; systemd's DelegateSubgroup= (or we before) may have put us one below. */
export function ownUnit(text: string): { unit: string; isBelow: boolean } | undefined {
  const path = /^0::(\/.*)$/m.exec(text)?.[1];
  const match = path === undefined ? null : /^(.*\.service)(\/[^/]+)?$/.exec(path);
  return match?.[1] === undefined ? undefined : { unit: match[1], isBelow: match[2] !== undefined };
}

/** Makes cgroups for workers below a directory that is ours. */
export class DelegatedCgroups implements Cgroups {
  constructor(
    private readonly base: string,
    private readonly log: Log,
  ) {}

  async sweep(): Promise<void> {
    const entries = await readdir(this.base).catch((error: unknown) => {
      this.log.warn('cgroup.failed', `cannot look for cgroups of earlier workers: ${errorText(error)}`);
      return [];
    });
    for (const entry of entries.filter((each) => each.startsWith(PREFIX))) {
      const cgroup = new Cgroup(join(this.base, entry), this.log);
      await cgroup.kill();
      await cgroup.remove();
    }
  }

  async create(name: WorkerName, limits: CgroupLimits): Promise<WorkerCgroup | undefined> {
    const cgroup = new Cgroup(join(this.base, PREFIX + name), this.log);
    try {
      // One that is left from before may hold what is left from before.
      if (!(await makeDirectory(cgroup.path))) await cgroup.kill();
    } catch (error) {
      this.log.warn('cgroup.failed', `cannot make the cgroup ${cgroup.path}: ${errorText(error)}`, { worker: name });
      return undefined;
    }
    await this.#limit(name, cgroup, 'memory.max', limits.memoryMax === undefined ? 'max' : String(limits.memoryMax));
    const quota = limits.cpuMax === undefined ? 'max' : String(Math.max(1000, Math.round(limits.cpuMax * 1000)));
    await this.#limit(name, cgroup, 'cpu.max', `${quota} 100000`);
    return cgroup;
  }

  async #limit(name: WorkerName, cgroup: Cgroup, file: string, value: string): Promise<void> {
    try {
      await writeFile(join(cgroup.path, file), value, { flag: 'r+' });
    } catch (error) {
      // Without the controller there is nothing to set; that matters only to who asked for a limit.
      if (value.startsWith('max')) return;
      const text = `cannot set ${file} of worker ${name} to ${value}: ${errorText(error)}; it runs without that limit`;
      this.log.warn('cgroup.no_limit', text, { worker: name });
    }
  }
}

class Cgroup implements WorkerCgroup {
  constructor(
    readonly path: string,
    private readonly log: Log,
  ) {}

  async enter(pid: number): Promise<void> {
    try {
      await writeFile(join(this.path, 'cgroup.procs'), String(pid), { flag: 'r+' });
    } catch (error) {
      // ESRCH: it has died already, which its exit will tell.
      if (errnoOf(error) === 'ESRCH') return;
      this.log.warn('cgroup.failed', `cannot move process ${pid} into ${this.path}: ${errorText(error)}`);
    }
  }

  async kill(): Promise<void> {
    try {
      await writeFile(join(this.path, 'cgroup.kill'), '1', { flag: 'r+' });
    } catch (error) {
      // cgroup.kill came with Linux 5.14; before it, and when the cgroup is gone, the search of /proc does it.
      this.log.debug('cgroup.kill_failed', `cannot kill ${this.path}: ${errorText(error)}`);
    }
  }

  async includes(pid: number): Promise<boolean> {
    return (await this.#inside()).includes(pid);
  }

  async isEmpty(): Promise<boolean> {
    return (await this.#inside()).length === 0;
  }

  async #inside(): Promise<number[]> {
    try {
      return (await readFile(join(this.path, 'cgroup.procs'), 'utf8')).split('\n').filter(Boolean).map(Number);
    } catch {
      // It is gone, and nobody is inside what is gone.
      return [];
    }
  }

  async remove(): Promise<void> {
    try {
      await rmdir(this.path);
    } catch (error) {
      this.log.debug('cgroup.busy', `cannot take ${this.path} away: ${errorText(error)}`);
    }
  }
}

/** Whether it had to be made. */
async function makeDirectory(path: string): Promise<boolean> {
  try {
    await mkdir(path);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false;
    throw error;
  }
}
