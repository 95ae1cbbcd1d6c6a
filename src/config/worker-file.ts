/**
 * Which file is a worker's: `workers/<executable>.toml`. Where there is none, the file of the original that names the
 * executable in its `exec`, since those are called after the directive. A file of neither kind is nobody's.
 */
import { basename, join } from 'node:path';
import type { WorkerName } from '../message/ids.js';
import { readTomlFile, type ReadText, type TomlFile } from './toml-file.js';

/** Names of the files in a directory; rejects or is empty where there is none. */
export type ListNames = (directory: string) => Promise<readonly string[]>;

export interface FoundWorkerFile {
  readonly file: string;
  readonly parsed: TomlFile;
}

/** The worker's file, which may be missing. Files of others are not complained of here. */
export async function findWorkerFile(
  directory: string,
  name: WorkerName,
  readText: ReadText,
  listNames: ListNames,
): Promise<FoundWorkerFile> {
  const file = join(directory, `${name}.toml`);
  const parsed = await readTomlFile(file, readText);
  if (parsed.kind !== 'missing') return { file, parsed };
  const names = await listNames(directory).catch(() => []);
  for (const other of names.filter((entry) => entry.endsWith('.toml')).toSorted()) {
    const candidate = { file: join(directory, other), parsed: await readTomlFile(join(directory, other), readText) };
    if (execOf(candidate.parsed)?.program === name) return candidate;
  }
  return { file, parsed };
}

/** What the original’s `exec` says: the executable’s file name, and the arguments behind it, as the original splits them. */
export function execOf(parsed: TomlFile): { readonly program: string; readonly args: readonly string[] } | undefined {
  const value = parsed.kind === 'ok' ? parsed.entries.find(({ key }) => key === 'exec')?.value : undefined;
  if (typeof value !== 'string') return undefined;
  const [path = '', ...args] = value.split(' ').filter((word) => word !== '');
  return { program: basename(path), args };
}
