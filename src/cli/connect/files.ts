/**
 * Files of the enrolment: read with a bound, and put in their place in one step, so that a power cut leaves the old one
 * or the new one, and nobody ever sees a key with a mode that is not its own.
 */
import { randomUUID } from 'node:crypto';
import { lstat, mkdir, open, readFile, realpath, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AgentError, errnoOf, errorText } from '../../errors.js';
import type { Pem } from './certificate.js';

/** Certificates, keys and lists of keys are a few kilobytes. */
const LARGEST = 1024 * 1024;

/** Reads a file that an operator named. Throws `connect.file`. */
export async function readNamed(path: string): Promise<Pem> {
  try {
    const found = await stat(path);
    if (found.isDirectory()) throw new Error('it is a directory');
    if (found.size > LARGEST) throw new Error(`it has more than ${LARGEST / 1024} KiB`);
    const bytes = await readFile(path);
    if (bytes.length > LARGEST) throw new Error(`it has more than ${LARGEST / 1024} KiB`);
    return { path, bytes };
  } catch (error) {
    throw fileError(`cannot read ${path}`, error);
  }
}

/** As `readNamed`; undefined where there is none. */
export async function readIfThere(path: string): Promise<Pem | undefined> {
  try {
    await lstat(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw fileError(`cannot read ${path}`, error);
  }
  return readNamed(path);
}

export interface Placement {
  readonly path: string;
  readonly content: string | Buffer;
  readonly mode: number;
  readonly gid: number;
}

/** Puts a file in its place, root's and of this group. Throws `connect.file`. */
export async function place({ path, content, mode, gid }: Placement): Promise<void> {
  const draft = `${path}.${randomUUID()}.tmp`;
  try {
    // Exclusive, so that no link laid out by somebody else is followed; and closed to others until it is complete.
    const handle = await open(draft, 'wx', 0o600);
    try {
      await handle.writeFile(content);
      await handle.chown(0, gid);
      await handle.chmod(mode);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(draft, path);
    await syncDirectory(dirname(path));
  } catch (error) {
    await rm(draft, { force: true }).catch(() => undefined);
    throw fileError(`cannot write ${path}`, error);
  }
}

/** Replaces a file and keeps its owner and mode; through a link, the file that it names. */
export async function replaceText(path: string, content: string): Promise<void> {
  const target = await realpath(path).catch(() => path);
  const found = await stat(target).catch(() => undefined);
  await place({ path: target, content, mode: found === undefined ? 0o644 : found.mode & 0o777, gid: found?.gid ?? 0 });
}

/** Makes the directory of the configuration where there is none. */
export async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o755 });
  } catch (error) {
    throw fileError(`cannot make the directory ${path}`, error);
  }
}

/** Whether it was there. */
export async function remove(path: string): Promise<boolean> {
  try {
    await rm(path);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw fileError(`cannot remove ${path}`, error);
  }
}

/** Whether two paths name one file. */
export async function isSameFile(one: string, other: string): Promise<boolean> {
  const [first, second] = await Promise.all([one, other].map((path) => realpath(path).catch(() => join(path))));
  return first === second;
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

const REASONS: Partial<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EACCES: 'this user may not',
  EROFS: 'the file system is read-only',
  ENOSPC: 'the disk is full',
};

function fileError(what: string, error: unknown): AgentError {
  return new AgentError(
    'connect.file',
    `${what}: ${REASONS[errnoOf(error) ?? ''] ?? errorText(error)}`,
    {},
    { cause: error },
  );
}
