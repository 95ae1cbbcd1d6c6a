/** Directories that nobody else may look into, and whose names survive a power cut. */
import { closeSync, constants } from 'node:fs';
import { chmod, mkdir } from 'node:fs/promises';
import { AgentError, errorText } from '../errors.js';
import { opened, synced } from './descriptors.js';

/** Makes the names in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await opened(path, constants.O_RDONLY);
  try {
    await synced(directory);
  } finally {
    closeSync(directory);
  }
}

/** Tells what is wrong with the way to a directory: who else could change it. Undefined when it is safe. */
export type WayCheck = (directory: string) => Promise<string | undefined>;

/**
 * Makes `path` a directory of mode 0700 that can be written; throws AgentError `state.unwritable` with what to do, or
 * `state.untrusted` where `wayProblem` finds something: then nothing in it was touched.
 */
export async function makePrivateDirectory(path: string, wayProblem?: WayCheck): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    const problem = await wayProblem?.(path);
    if (problem !== undefined)
      throw new AgentError('state.untrusted', `cannot keep messages in ${path}: ${problem}`, { path });
    await chmod(path, 0o700);
  } catch (error) {
    if (error instanceof AgentError) throw error;
    throw new AgentError(
      'state.unwritable',
      `the directory ${path} cannot be made: ${errorText(error)}. Give the daemon's user a state-dir it can write`,
      { path },
      { cause: error },
    );
  }
}
