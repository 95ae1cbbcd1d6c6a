/** What processes take, read from /proc: processor time of all their threads, memory, wake-ups. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';

/** Microseconds of processor time, user and system, of these processes together. */
export function cpuOf(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + cpuOfProcess(pid), 0);
}

/**
 * The scheduler's count in nanoseconds, thread by thread; where the kernel does not keep it, the ticks of 10 ms of
 * /proc/PID/stat. A thread that ended takes its count along, but none of ours do.
 */
function cpuOfProcess(pid: number): number {
  try {
    return tasksOf(pid).reduce((sum, task) => sum + Number(read(`${task}/schedstat`).split(' ', 1)[0]) / 1_000, 0);
  } catch {
    // No schedstat here.
    const fields = read(`/proc/${pid}/stat`).split(') ')[1]?.split(' ') ?? [];
    return (Number(fields[11]) + Number(fields[12])) * 10_000;
  }
}

/** How often the process gave the processor up to wait for something, over all its threads. */
export function wakeUpsOf(pid: number): number {
  const count = (task: string): number => fieldOf(read(`${task}/status`), 'voluntary_ctxt_switches');
  return tasksOf(pid).reduce((sum, task) => sum + count(task), 0);
}

/** Bytes. */
export interface Memory {
  readonly rss: number;
  /** The most since the start, or since `forgetPeak`. */
  readonly peak: number;
}

export function memoryOf(pid: number): Memory {
  const status = read(`/proc/${pid}/status`);
  return { rss: 1024 * fieldOf(status, 'VmRSS'), peak: 1024 * fieldOf(status, 'VmHWM') };
}

/** From now on `memoryOf` tells the peak since now. */
export function forgetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
}

/** The children of a process, and theirs. */
export function descendantsOf(pid: number): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      parents.set(Number(name), Number(read(`/proc/${name}/stat`).split(') ').at(-1)?.split(' ')[1]));
    } catch {
      // It has just ended.
    }
  }
  const below = (parent: number): number[] =>
    [...parents].filter(([, its]) => its === parent).flatMap(([child]) => [child, ...below(child)]);
  return below(pid);
}

function tasksOf(pid: number): string[] {
  return readdirSync(`/proc/${pid}/task`).map((task) => `/proc/${pid}/task/${task}`);
}

function fieldOf(status: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? Number.NaN);
}

function read(path: string): string {
  return readFileSync(path, 'utf8');
}
