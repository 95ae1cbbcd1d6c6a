/** Users of this machine, and what the mode of a file lets each of them do. */
import type { Stats } from 'node:fs';
import { constants } from 'node:fs';
import { open, readlink, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoOf } from '../../errors.js';

export interface Account {
  readonly uid: number;
  readonly gid: number;
  /** With the primary one. */
  readonly groups: readonly number[];
  /** As it is told: the name where there is one. */
  readonly name: string;
}

type Owned = Pick<Stats, 'uid' | 'gid' | 'mode'>;

export const READ = 4;
export const WRITE = 2;
/** Of a directory: pass through. */
export const ENTER = 1;

/** Whether the mode lets this user do that. Lists of access rights beside the mode are not looked at. */
export function may(account: Account, what: number, { uid, gid, mode }: Owned): boolean {
  if (account.uid === 0) return what !== ENTER || (mode & 0o111) !== 0 || (mode & 0o170000) === 0o040000;
  const shift = uid === account.uid ? 6 : account.groups.includes(gid) ? 3 : 0;
  return ((mode >> shift) & what) !== 0;
}

/** How a file stands, for the one who looks and for another. */
export type FileLook =
  | { readonly kind: 'there'; readonly stat: Stats; readonly mayRead: boolean; readonly mayWrite: boolean }
  | { readonly kind: 'missing' }
  /** The one who looks may not even see it. */
  | { readonly kind: 'hidden'; readonly reason: string };

/** Looks at a file and the way to it; `mayRead` and `mayWrite` are of `account`. */
export async function lookAtFile(path: string, account: Account): Promise<FileLook> {
  try {
    const found = await stat(path);
    const isReachable = await canReach(dirname(path), account);
    return {
      kind: 'there',
      stat: found,
      mayRead: isReachable && may(account, READ, found),
      mayWrite: isReachable && may(account, WRITE, found),
    };
  } catch (error) {
    const code = errnoOf(error) ?? String(error);
    return code === 'ENOENT' || code === 'ENOTDIR' ? { kind: 'missing' } : { kind: 'hidden', reason: code };
  }
}

export type ReadFile = (path: string) => Promise<Buffer>;

/** More than any certificate, key or password file has. */
const LARGEST_FILE = 4 * 1024 * 1024;

/**
 * Reads files for an agent: root reads nothing for it that its own user could not read. Else whoever controls that user
 * could have root send a file of root's to a broker. Judged by the open file, so that no link is swapped meanwhile.
 */
export function readerFor(account: Account, self: Account): ReadFile {
  return async (path) => {
    // A pipe would keep us waiting for ever.
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const found = await file.stat();
    if (!found.isFile() || found.size > LARGEST_FILE) throw refusal('EINVAL', `${path} is no file of a sensible size`);
    if (self.uid === 0 && account.uid !== 0) {
      const real = await readlink(`/proc/self/fd/${file.fd}`);
      if (!may(account, READ, found) || !(await canReach(dirname(real), account)))
        throw refusal('EACCES', `${account.name} may not read ${path}`);
    }
    return await file.readFile();
  };
}

function refusal(code: string, text: string): Error {
  return Object.assign(new Error(text), { code });
}

async function canReach(directory: string, account: Account): Promise<boolean> {
  for (let at = directory; ; at = dirname(at)) {
    if (!may(account, ENTER, await stat(at))) return false;
    if (at === dirname(at)) return true;
  }
}

/** `0640 root:yggdrasil`, with numbers where the names are not known. */
export function modeText({ mode, uid, gid }: Owned): string {
  return `mode ${(mode & 0o7777).toString(8).padStart(4, '0')}, user ${uid}, group ${gid}`;
}
