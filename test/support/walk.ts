/** Everything below a directory, with what others may do to it. */
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';

export interface Entry {
  readonly path: string;
  /** Without the kind. */
  readonly mode: number;
  readonly uid: number;
  readonly kind: 'directory' | 'socket' | 'file' | 'link';
}

/** Everything below `root`, with itself. */
export async function walk(root: string): Promise<Entry[]> {
  const stat = await lstat(root);
  const kind = stat.isDirectory() ? 'directory' : stat.isSocket() ? 'socket' : stat.isSymbolicLink() ? 'link' : 'file';
  const own: Entry = { path: root, mode: stat.mode & 0o7777, uid: stat.uid, kind };
  if (kind !== 'directory') return [own];
  const below = await Promise.all((await readdir(root)).map((name) => walk(join(root, name))));
  return [own, ...below.flat()];
}
