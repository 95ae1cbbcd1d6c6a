/**
 * One look at the worker directory: which executables may run, which may not and why. This is the truth about the
 * directory; events of the file system only say when to look again.
 */
import type { BigIntStats } from 'node:fs';
import { readdir, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join, sep } from 'node:path';
import { errnoOf, errorText } from '../errors.js';
import { NAME_RULE, parseWorkerName, type WorkerName } from '../message/index.js';
import type { Millis } from '../time.js';
import { identityOf } from './launch.js';
import type { Candidate } from './state.js';
import { fileProblem, wayProblem, type Access, type Trust } from './trust.js';

/** The end of each worker's file name. */
const SUFFIX = 'worker';

export interface FoundCandidate extends Candidate {
  /** Wall time of the last change of the file, its name or its mode. */
  readonly changedAt: Millis;
}

export interface Refused {
  /** The file's name, which may break the grammar of names. */
  readonly file: string;
  readonly name: WorkerName | undefined;
  /** A sentence: what is wrong and what to do. */
  readonly problem: string;
}

export type Scan =
  | { readonly kind: 'missing' }
  /** It is there, but cannot be read: nothing is known about what it holds. */
  | { readonly kind: 'unreadable'; readonly problem: string }
  /** Somebody else could put anything in it: nothing of it may run. */
  | { readonly kind: 'untrusted'; readonly problem: string; readonly names: ReadonlySet<WorkerName> }
  | {
      readonly kind: 'read';
      /** Without symbolic links. */
      readonly directory: string;
      /** Differs after the directory was removed and made again, also where it has the same inode again (ext4). */
      readonly directoryId: string;
      readonly candidates: readonly FoundCandidate[];
      readonly refused: readonly Refused[];
    };

/** Looks once. Never throws: what goes wrong is part of the answer. */
export async function scanWorkers(workerDir: string, exclude: ReadonlySet<string>, trust: Trust): Promise<Scan> {
  try {
    const directory = await realpath(workerDir);
    const { dev, ino, birthtimeNs } = await stat(directory, { bigint: true });
    const files = (await readdir(directory)).filter((file) => isWorkerFile(file) && !exclude.has(file)).sort();
    const problem = await wayProblem(workerDir, trust);
    if (problem !== undefined) {
      return { kind: 'untrusted', problem, names: new Set(files.flatMap((file) => parseWorkerName(file) ?? [])) };
    }
    const candidates: FoundCandidate[] = [];
    const refused: Refused[] = [];
    for (const file of files) {
      const found = await examine(directory, file, trust);
      if (found === undefined) continue;
      if ('problem' in found) refused.push(found);
      else candidates.push(found);
    }
    return { kind: 'read', directory, directoryId: `${dev}:${ino}:${birthtimeNs}`, candidates, refused };
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT') return { kind: 'missing' };
    return {
      kind: 'unreadable',
      problem: `cannot read the worker directory ${workerDir}: ${errorText(error)}; check worker-dir, its owner and its mode`,
    };
  }
}

/** What is wrong with a candidate by now, or undefined: between the look and the start its place may have changed. */
export async function problemNow(candidate: Candidate, workerDir: string, trust: Trust): Promise<string | undefined> {
  const way = await wayProblem(workerDir, trust);
  if (way !== undefined) return way;
  const found = await examine(dirname(candidate.path), basename(candidate.path), trust);
  if (found === undefined) return `${candidate.path} is gone`;
  return 'problem' in found ? found.problem : undefined;
}

/** Files whose name starts with a dot are somebody's temporary ones. */
export function isWorkerFile(file: string): boolean {
  return file.endsWith(SUFFIX) && !file.startsWith('.');
}

async function examine(directory: string, file: string, trust: Trust): Promise<FoundCandidate | Refused | undefined> {
  const path = join(directory, file);
  const name = parseWorkerName(file);
  const refuse = (problem: string): Refused => ({ file, name, problem });
  if (name === undefined) return refuse(`${JSON.stringify(path)} is no name for a worker: ${NAME_RULE}; rename it`);
  try {
    const target = await realpath(path);
    if (!target.startsWith(directory + sep)) {
      return refuse(`${path} leads out of the worker directory, to ${target}; put a copy there instead`);
    }
    const found = await stat(target, { bigint: true });
    if (!found.isFile()) return refuse(`${path} is not a file; a worker is an executable file`);
    const problem =
      (await fileProblem(path, accessOf(found), trust)) ??
      (dirname(target) === directory ? undefined : await wayProblem(dirname(target), trust));
    if (problem !== undefined) return refuse(problem);
    return { name, path, identity: identityOf(found), changedAt: changedAt(found) };
  } catch (error) {
    // It went away between the two looks, as a file does that is just renamed.
    if (errnoOf(error) === 'ENOENT') return undefined;
    return refuse(`cannot examine ${path}: ${errorText(error)}; check its owner and mode`);
  }
}

function accessOf({ mode, uid, gid }: BigIntStats): Access {
  return { mode: Number(mode), uid: Number(uid), gid: Number(gid) };
}

function changedAt({ mtimeMs, ctimeMs }: BigIntStats): Millis {
  return Number(mtimeMs > ctimeMs ? mtimeMs : ctimeMs);
}
