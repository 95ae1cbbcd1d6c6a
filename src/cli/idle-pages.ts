/**
 * Pages of Node's own file that only a start needs: V8's compilers, the snapshot, tables of ICU. They count as this
 * process's memory as long as they are mapped, though the kernel could read them again from the file at any time. Once
 * the start is over they are unmapped; what is used again comes back by itself, from the page cache.
 */
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

/** Gives those pages of this process back to the kernel; does nothing where there is no koffi. */
export async function releaseStartPages(): Promise<void> {
  try {
    const { load } = (await import('koffi')).default;
    const madvise = load(null).func('int madvise(uintptr_t addr, size_t length, int advice)');
    const mappings = untouchedMappings(await readFile('/proc/self/smaps', 'utf8'), await realpath('/proc/self/exe'));
    for (const { address, length } of mappings) madvise(address, length, MADV_DONTNEED);
  } catch {
    // An optional package; or a kernel that does not tell. The memory is as it was.
  }
}
