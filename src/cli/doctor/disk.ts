/** The disk below the state directory: space, inodes, and whether it can be written. */
import { readdir, readFile, stat, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Settings } from '../../config/index.js';
import { errnoOf, errorText } from '../../errors.js';
import { size } from '../output.js';
import { checkOf, type Finding } from './finding.js';

export interface DiskLook {
  /** The directory that was measured: the nearest one that is there. */
  readonly path: string;
  readonly free: number;
  readonly total: number;
  /** Undefined on a file system that has no fixed number of them. */
  readonly inodes: { readonly free: number; readonly total: number } | undefined;
  /** Bytes that the state directory takes; undefined when this user may not see all of it. */
  readonly used: number | undefined;
  /** Options of the mount that keep the agent from its work: `ro`; below the workers also `noexec`. */
  readonly mounts: readonly MountLook[];
}

export interface MountLook {
  readonly about: string;
  readonly mountPoint: string;
  readonly options: readonly string[];
}

/** Undefined when it cannot be measured: then the second is the reason. */
export async function lookAtDisk(settings: Settings): Promise<DiskLook | { readonly reason: string }> {
  try {
    const path = await nearest(settings.stateDir);
    const found = await statfs(path);
    const table = await readFile('/proc/self/mountinfo', 'utf8').catch(() => '');
    return {
      path,
      free: found.bavail * found.bsize,
      total: found.blocks * found.bsize,
      inodes: found.files > 0 ? { free: found.ffree, total: found.files } : undefined,
      used: await bytesBelow(settings.stateDir).catch(() => undefined),
      mounts: [
        ...mountsOf(table, 'state-dir', path),
        ...mountsOf(table, 'worker-dir', await nearest(settings.workerDir)),
      ],
    };
  } catch (error) {
    return { reason: errnoOf(error) ?? errorText(error) };
  }
}

async function nearest(path: string): Promise<string> {
  for (let at = path; ; at = dirname(at)) {
    try {
      await stat(at);
      return at;
    } catch (error) {
      if (at === dirname(at) || !['ENOENT', 'EACCES'].includes(errnoOf(error) ?? '')) throw error;
    }
  }
}

const MOST_FILES = 100_000;

/** What a directory and all below it take on the disk. Rejects where this user may not look. */
export async function bytesBelow(directory: string): Promise<number> {
  let bytes = 0;
  let files = 0;
  const waiting = [directory];
  for (let at = waiting.pop(); at !== undefined; at = waiting.pop()) {
    for (const entry of await readdir(at, { withFileTypes: true })) {
      if (++files > MOST_FILES) return bytes;
      const path = join(at, entry.name);
      if (entry.isDirectory()) waiting.push(path);
      // It may go while we look: the agent is at work.
      else
        bytes += await stat(path).then(
          ({ blocks }) => blocks * 512,
          () => 0,
        );
    }
  }
  return bytes;
}

/** The mount that a path lies on, from /proc/self/mountinfo (proc(5)). */
export function mountsOf(table: string, about: string, path: string): readonly MountLook[] {
  const rows = table.split('\n').flatMap((line) => {
    const [, , , , point, options] = line.split(' ');
    return point === undefined || options === undefined ? [] : [{ point: unescaped(point), options }];
  });
  const over = rows.filter(({ point }) => path === point || path.startsWith(point === '/' ? '/' : `${point}/`));
  const deepest = over.reduce<(typeof over)[number] | undefined>(
    (best, row) => (best === undefined || row.point.length >= best.point.length ? row : best),
    undefined,
  );
  return deepest === undefined ? [] : [{ about, mountPoint: deepest.point, options: deepest.options.split(',') }];
}

/** A blank is `\040` there. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

const FEW_INODES = 1_000;

type Limits = Pick<Settings, 'stateDir' | 'spoolLimit' | 'spoolReserve' | 'deadLimit'>;

export function judgeDisk(look: DiskLook | { readonly reason: string }, settings: Limits): readonly Finding[] {
  const space = checkOf('disk.space', settings.stateDir);
  if ('reason' in look) return [space.skipped(`it cannot be measured (${look.reason})`, 'run as root')];
  const { free, total, inodes, used, mounts } = look;
  const { spoolLimit, spoolReserve, deadLimit } = settings;
  const findings: Finding[] = [];
  const told = `${size(free)} free of ${size(total)}${used === undefined ? '' : `, ${size(used)} of it in use by the agent`}`;
  const wanted = spoolLimit + deadLimit - (used ?? 0);
  if (free <= spoolReserve)
    findings.push(
      space.failed(
        `${told}: no more than \`spool-reserve\` (${size(spoolReserve)}) leaves for others, so the agent takes nothing in`,
        'make room on this file system, or move `state-dir`',
      ),
    );
  else if (free - spoolReserve < wanted)
    findings.push(
      space.warning(
        `${told}: less than \`spool-limit\` and \`dead-limit\` may take (${size(spoolLimit)} and ${size(deadLimit)})`,
        'make room, or lower `spool-limit`: a backlog stops intake earlier than it says',
      ),
    );
  else findings.push(space.ok(told));
  if (inodes !== undefined) {
    const check = checkOf('disk.inodes', settings.stateDir);
    const seen = `${inodes.free} inodes free of ${inodes.total}`;
    if (inodes.free < FEW_INODES)
      findings.push(check.failed(seen, 'remove small files on this file system: `df -i`, `du --inodes`'));
    else findings.push(check.ok(seen));
  }
  for (const { about, mountPoint, options } of mounts) {
    const check = checkOf('disk.mount', about);
    if (about === 'state-dir' && options.includes('ro'))
      findings.push(
        check.failed(
          `${mountPoint} is mounted read-only`,
          'look why: `dmesg` tells of a damaged disk; then mount it anew',
        ),
      );
    if (about === 'worker-dir' && options.includes('noexec'))
      findings.push(
        check.failed(
          `${mountPoint} is mounted noexec: no worker can start`,
          'move `worker-dir`, or mount it with exec',
        ),
      );
  }
  return findings;
}
