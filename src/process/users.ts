/**
 * Names of users and groups to numbers, from /etc/passwd and /etc/group, then from `getent` for those that live in a
 * directory service. Numbers are taken as they are.
 */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';

export interface UserEntry {
  readonly name: string;
  readonly uid: number;
  /** Primary group. */
  readonly gid: number;
}

export interface GroupEntry {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

/** Longest wait for `getent`, in milliseconds: a directory service may hang. */
const GETENT_TIMEOUT = 5000;

const run = promisify(execFile);

export class Users {
  constructor(
    private readonly passwdFile = '/etc/passwd',
    private readonly groupFile = '/etc/group',
  ) {}

  /** The user of this name or number; undefined when nobody knows it. A bare number nobody knows has its own gid. */
  async user(name: string): Promise<UserEntry | undefined> {
    const local = parsePasswd(await textOf(this.passwdFile)).find((u) => u.name === name || String(u.uid) === name);
    if (local !== undefined) return local;
    const remote = parsePasswd(await getent('passwd', name))[0];
    if (remote !== undefined) return remote;
    return isNumber(name) ? { name, uid: Number(name), gid: Number(name) } : undefined;
  }

  /** The gid of a group's name or number; undefined when nobody knows it. */
  async gid(name: string): Promise<number | undefined> {
    if (isNumber(name)) return Number(name);
    const local = parseGroup(await textOf(this.groupFile)).find((group) => group.name === name);
    return local?.gid ?? parseGroup(await getent('group', name))[0]?.gid;
  }

  /** Whether nobody but this user (and root) is in the group, neither as a member nor by their primary group. */
  async isPrivateGroup(gid: number, uid: number): Promise<boolean> {
    const users = parsePasswd(await textOf(this.passwdFile));
    const group = parseGroup(await textOf(this.groupFile)).find((entry) => entry.gid === gid);
    const isSafe = (user: UserEntry | undefined): boolean => user?.uid === uid || user?.uid === 0;
    if (group === undefined) return false;
    return (
      group.members.every((name) => isSafe(users.find((user) => user.name === name))) &&
      users.filter((user) => user.gid === gid).every(isSafe)
    );
  }
}

/** passwd(5). */
export function parsePasswd(text: string): UserEntry[] {
  return rows(text).flatMap(([name, , uid, gid]) =>
    name !== undefined && isNumber(uid) && isNumber(gid) ? [{ name, uid: Number(uid), gid: Number(gid) }] : [],
  );
}

/** group(5). */
export function parseGroup(text: string): GroupEntry[] {
  return rows(text).flatMap(([name, , gid, members]) =>
    name !== undefined && isNumber(gid)
      ? [{ name, gid: Number(gid), members: (members ?? '').split(',').filter((member) => member !== '') }]
      : [],
  );
}

function rows(text: string): string[][] {
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(':'));
}

function isNumber(text: string | undefined): text is string {
  return text !== undefined && /^\d{1,10}$/.test(text);
}

async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch {
    // A host without local accounts: getent has the last word.
    return '';
  }
}

async function getent(database: 'passwd' | 'group', name: string): Promise<string> {
  try {
    return (await run('getent', [database, '--', name], { timeout: GETENT_TIMEOUT })).stdout;
  } catch {
    // Not found (exit code 2), or no getent on this host: then the name is unknown.
    return '';
  }
}
