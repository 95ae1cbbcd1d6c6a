/** The process of the running agent, as the kernel tells it: its limits, its memory, the Node it runs with. */
import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { size } from '../output.js';
import { checkOf, type Finding } from './finding.js';

export interface ProcessLook {
  readonly pid: number;
  /** Files it may open; undefined where the kernel does not tell. */
  readonly fileLimit: number | undefined;
  /** Files it has open; undefined when this user may not count them. */
  readonly files: number | undefined;
  /** Of its cgroup; undefined where there is no limit, or it is not known. */
  readonly memoryMax: number | undefined;
  readonly memory: number | undefined;
  /** Processes that were killed for want of memory in its cgroup. */
  readonly killed: number;
  readonly tasks: { readonly now: number; readonly max: number } | undefined;
  /** The Node it runs with was replaced, or taken away, since it was started. */
  readonly isNodeGone: boolean;
}

export async function lookAtProcess(pid: number, cgroups = '/sys/fs/cgroup'): Promise<ProcessLook> {
  const read = (path: string): Promise<string> => readFile(path, 'utf8').catch(() => '');
  const limits = await read(`/proc/${pid}/limits`);
  const own = /^0::(.*)$/m.exec(await read(`/proc/${pid}/cgroup`))?.[1];
  // The agent moves itself one down; the limits are the unit's.
  const group = join(cgroups, (own ?? '').replace(/\/agent$/, ''));
  const number = (text: string): number | undefined => (/^\d+\s*$/.test(text) ? Number(text) : undefined);
  const [max, now, events, tasksMax, tasks] = await Promise.all(
    ['memory.max', 'memory.current', 'memory.events', 'pids.max', 'pids.current'].map((name) =>
      read(join(group, name)),
    ),
  );
  const [most, current] = [number(tasksMax ?? ''), number(tasks ?? '')];
  return {
    pid,
    fileLimit: number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? ''),
    files: await readdir(`/proc/${pid}/fd`).then(
      (names) => names.length,
      () => undefined,
    ),
    memoryMax: number(max ?? ''),
    memory: number(now ?? ''),
    killed: Number(/^oom_kill (\d+)$/m.exec(events ?? '')?.[1] ?? 0),
    tasks: most === undefined || current === undefined ? undefined : { now: current, max: most },
    isNodeGone: await readlink(`/proc/${pid}/exe`).then(
      (path) => path.endsWith(' (deleted)'),
      () => false,
    ),
  };
}

/** One socket for each worker and each call, the journal, the broker: a small number of them is soon used up. */
const FEW_FILES = 4_096;
const NEARLY = 0.9;

export function judgeProcess(look: ProcessLook | undefined): readonly Finding[] {
  const files = checkOf('limits.files');
  if (look === undefined) return [files.skipped('the agent’s process is not known: its limits cannot be looked at')];
  const findings: Finding[] = [];
  const { fileLimit, memoryMax, memory, killed, tasks } = look;
  if (fileLimit === undefined)
    findings.push(files.skipped(`the limits of process ${look.pid} cannot be read`, 'run as root'));
  else {
    const seen = `${look.files === undefined ? '' : `${look.files} open, `}${fileLimit} allowed`;
    const raise = 'raise `LimitNOFILE` of the unit (65536, as it ships)';
    if (look.files !== undefined && look.files > fileLimit * NEARLY)
      findings.push(files.failed(`${seen}: nearly used up`, raise));
    else if (fileLimit < FEW_FILES) findings.push(files.warning(seen, raise));
    else findings.push(files.ok(seen));
  }
  const room = checkOf('limits.memory');
  if (killed > 0)
    findings.push(
      room.failed(
        `${killed} processes were killed for want of memory`,
        'raise `MemoryMax` of the unit, or set `memory-max` of the worker that takes too much; `journalctl -k` tells which',
      ),
    );
  else if (memoryMax !== undefined && memory !== undefined && memory > memoryMax * NEARLY)
    findings.push(room.warning(`${size(memory)} of ${size(memoryMax)} in use`, 'raise `MemoryMax` of the unit'));
  else
    findings.push(
      room.ok(
        `${memory === undefined ? '' : `${size(memory)} in use, `}${memoryMax === undefined ? 'no limit' : `${size(memoryMax)} allowed`}`,
      ),
    );
  if (tasks !== undefined && tasks.now > tasks.max * NEARLY)
    findings.push(
      checkOf('limits.tasks').warning(
        `${tasks.now} of ${tasks.max} processes and threads`,
        'raise `TasksMax` of the unit',
      ),
    );
  return findings;
}
