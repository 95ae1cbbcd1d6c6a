/**
 * Replaces a small file so that a reader, and a power cut, sees the old or the new one and never half of either.
 */
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Writes `text` with mode 0600 beside the file, syncs it, renames it into place and syncs the directory. */
export async function replaceFile(path: string, text: string): Promise<void> {
  const draft = `${path}.new`;
  // A draft of an earlier crash may have another owner or mode.
  await rm(draft, { force: true });
  const file = await open(draft, 'wx', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(draft, path);
  const directory = await open(dirname(path), 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
