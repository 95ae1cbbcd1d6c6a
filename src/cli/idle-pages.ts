/**
 * Pages of mapped files. They count as this process's memory as long as they are mapped, though the kernel could read them
 * again from the file at any time. Of Node's own file a start needs many that nobody needs later (V8's compilers, the
 * snapshot, tables of ICU), and the tables of the journal are mapped once more each time they grow. They are unmapped; what
 * is used again comes back by itself, from the page cache.
 */
import { readFileSync, realpathSync } from 'node:fs';
import { readFile, realpath } from 'node:fs/promises';

const MADV_DONTNEED = 4;

export interface Mapping {
  readonly address: bigint;
  readonly length: bigint;
}

/**
 * The mappings of `executable` in a text of /proc/self/smaps (proc_pid_smaps(5)) that are exactly as in the file: nobody
 * may write them, and no page of them was ever changed, as the loader changes some where it puts in addresses.
 */
export function untouchedMappings(smaps: string, executable: string): readonly Mapping[] {
  const mappings: Mapping[] = [];
  for (const block of smaps.split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/)) {
    const [, from, to, path] = /^([0-9a-f]+)-([0-9a-f]+) r-[-x]p [0-9a-f]+ \S+ \d+ +(.*)/.exec(block) ?? [];
    if (from === undefined || to === undefined || path !== executable) continue;
    const isChanged = ['Anonymous', 'Private_Dirty', 'Shared_Dirty', 'Swap', 'Locked'].some(
      (field) => Number(new RegExp(`^${field}: +(\\d+) kB`, 'm').exec(block)?.[1] ?? 1) > 0,
    );
    if (!isChanged) mappings.push({ address: BigInt(`0x${from}`), length: BigInt(`0x${to}`) - BigInt(`0x${from}`) });
  }
  return mappings;
}

/** The mappings in a text of /proc/self/maps (proc_pid_maps(5)) that are shared with `file`: what was written there stays. */
export function sharedMappings(maps: string, file: string): readonly Mapping[] {
  const mappings: Mapping[] = [];
  for (const line of maps.split('\n')) {
    const [, from, to, path] = /^([0-9a-f]+)-([0-9a-f]+) r..s [0-9a-f]+ \S+ \d+ +(.*)/.exec(line) ?? [];
    if (from === undefined || to === undefined || path !== file) continue;
    mappings.push({ address: BigInt(`0x${from}`), length: BigInt(`0x${to}`) - BigInt(`0x${from}`) });
  }
  return mappings;
}

/** Gives the pages of `file` that are mapped here back to the kernel, when it is called; undefined where there is no koffi. */
export async function openFileRelease(file: string): Promise<(() => void) | undefined> {
  try {
    const madvise = await openMadvise();
    return () => {
      for (const { address, length } of mappingsOf(file)) madvise(address, length, MADV_DONTNEED);
    };
  } catch {
    // An optional package.
    return undefined;
  }
}

/**
 * Looked up in the turn in which they are used: LMDB unmaps nothing before it is closed, which nobody does meanwhile, and
 * an address that stands for something else by then would be somebody's memory.
 */
function mappingsOf(file: string): readonly Mapping[] {
  try {
    return sharedMappings(readFileSync('/proc/self/maps', 'utf8'), realpathSync(file));
  } catch {
    // A kernel that does not tell, or a file that is gone.
    return [];
  }
}

type Madvise = (address: bigint, length: bigint, advice: number) => number;

async function openMadvise(): Promise<Madvise> {
  const { load } = (await import('koffi')).default;
  return load(null).func('int madvise(uintptr_t addr, size_t length, int advice)');
}

/** Gives those pages of Node's file that a start needed back to the kernel; does nothing where there is no koffi. */
export async function releaseStartPages(): Promise<void> {
  try {
    const madvise = await openMadvise();
    const mappings = untouchedMappings(await readFile('/proc/self/smaps', 'utf8'), await realpath('/proc/self/exe'));
    for (const { address, length } of mappings) madvise(address, length, MADV_DONTNEED);
  } catch {
    // An optional package; or a kernel that does not tell. The memory is as it was.
  }
}
