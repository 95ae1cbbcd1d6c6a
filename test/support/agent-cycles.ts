/** Starting and stopping agents in one process, again and again, and finding what they leave behind. */
import { chmod, copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { makeAgent } from './agent.js';
import { assertNothingMore, heldAtRest } from './leaks.js';
import { ROOT } from './yggd.js';

export interface Cycles {
  readonly base: string;
  readonly broker: string;
  readonly rounds: number;
}

/** The built echo worker in `workers` below `base`. */
export async function fillWorkerDirectory(base: string): Promise<void> {
  await mkdir(join(base, 'workers'), { mode: 0o755, recursive: true });
  const path = join(base, 'workers/echo-worker');
  await copyFile(join(ROOT, 'dist/workers/echo-worker'), path);
  await chmod(path, 0o755);
}

/** Some rounds wait for the broker, the others stop in the middle of connecting. Fails when something is left. */
export async function cycle({ base, broker, rounds }: Cycles): Promise<void> {
  const once = async (round: number): Promise<void> => {
    const agent = await makeAgent(base, [`--broker=${broker}`]);
    const up = agent.connection.up.next(AbortSignal.timeout(30_000));
    // In the rounds that do not wait, nobody asks for it.
    up.catch(() => undefined);
    await agent.start();
    if (round % 2 === 0) await up;
    await agent.stop(0);
  };
  // What the first rounds load stays loaded.
  for (let round = 0; round < 4; round++) await once(round);
  const before = await heldAtRest();
  for (let round = 0; round < rounds; round++) await once(round);
  await assertNothingMore(before);
}
