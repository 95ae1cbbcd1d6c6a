/**
 * Whether a path is safe to run (CONTRACT section 3): nobody but root and the agent's user can change the file, put
 * another in its place, or redirect the way to it. Answers are sentences that say what to do.
 */
import type { Stats } from 'node:fs';
import { lstat, readlink } from 'node:fs/promises';
import { dirname, join, parse, resolve, sep } from 'node:path';
import type { Users } from './users.js';

/** Who the agent is, and which groups are its user's alone. */
export interface Trust {
  readonly uid: number;
  /** Whether nobody but the agent's user (and root) is in this group. */
  readonly isPrivateGroup: (gid: number) => Promise<boolean>;
}

/** What of a file decides who can change it. */
export type Access = Pick<Stats, 'mode' | 'uid' | 'gid'>;

/** Symbolic links followed on one way, as the kernel's own limit. */
const MAX_LINKS = 40;

const STICKY = 0o1000;
const SET_ID = 0o6000;

/** What is wrong with an executable (a regular file), or undefined. */
export async function fileProblem(path: string, stat: Access, trust: Trust): Promise<string | undefined> {
  if ((stat.mode & SET_ID) !== 0) return `${path} has a setuid or setgid bit; take it away: chmod ug-s ${path}`;
  const writable = await writableProblem(path, stat, trust);
  if (writable !== undefined) return writable;
  return (stat.mode & 0o111) === 0 ? `${path} is not executable; make it so: chmod +x ${path}` : undefined;
}

/**
 * What is wrong with the way to a directory, or undefined: each directory that is passed, also behind symbolic links.
 * A sticky one above is fine: others can add to it but take nothing away. Throws what lstat throws.
 */
export async function wayProblem(directory: string, trust: Trust): Promise<string | undefined> {
  let links = 0;
  let at = parse(resolve(directory)).root;
  let ahead = partsOf(directory);
  for (;;) {
    const stat = await lstat(at);
    if (stat.isSymbolicLink()) {
      // In a sticky directory nobody can move it but its owner, who can make it lead elsewhere at any time.
      const redirected = ownerProblem(at, stat, trust);
      if (redirected !== undefined) return redirected;
      links += 1;
      if (links > MAX_LINKS) return `${directory} has too many levels of symbolic links`;
      const target = resolve(dirname(at), await readlink(at));
      ahead = [...partsOf(target), ...ahead];
      at = parse(target).root;
      continue;
    }
    const isStickyAbove = (stat.mode & STICKY) !== 0 && ahead.length > 0;
    const problem = await writableProblem(at, stat, trust, isStickyAbove);
    if (problem !== undefined) return problem;
    const [next, ...rest] = ahead;
    if (next === undefined) return undefined;
    at = join(at, next);
    ahead = rest;
  }
}

/** `wayProblem` for this agent, for parts that keep directories of their own. */
export function createWayCheck(uid: number, users: Users): (directory: string) => Promise<string | undefined> {
  return (directory) => wayProblem(directory, { uid, isPrivateGroup: (gid) => users.isPrivateGroup(gid, uid) });
}

async function writableProblem(
  path: string,
  stat: Access,
  trust: Trust,
  isSticky = false,
): Promise<string | undefined> {
  const owned = ownerProblem(path, stat, trust);
  if (owned !== undefined || isSticky) return owned;
  if ((stat.mode & 0o002) !== 0) return `${path} can be written by every user; take that away: chmod o-w ${path}`;
  if ((stat.mode & 0o020) !== 0 && !(await trust.isPrivateGroup(stat.gid))) {
    return `${path} can be written by group ${stat.gid}; take that away: chmod g-w ${path}`;
  }
  return undefined;
}

function ownerProblem(path: string, stat: Access, trust: Trust): string | undefined {
  if (stat.uid === 0 || stat.uid === trust.uid) return undefined;
  const whose = trust.uid === 0 ? 'root' : `root or to user ${trust.uid}`;
  return `${path} belongs to user ${stat.uid}, who could change it; give it to ${whose}: chown root ${path}`;
}

function partsOf(path: string): string[] {
  return resolve(path)
    .split(sep)
    .filter((part) => part !== '');
}
