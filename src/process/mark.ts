/**
 * A mark that every process of a worker carries, however it hides: a new session, a cleared environment, closed files
 * and a dead parent leave it as it is, and so does another user. It is the soft limit on file locks (RLIMIT_LOCKS), a
 * number that Linux hands on through fork and exec and has not looked at since 2.4. The agent sets its own for the
 * moment of a spawn. Needs koffi, an optional dependency; without it a worker's processes are known by group, descent
 * and environment alone.
 */
import { createHash, randomInt } from 'node:crypto';
import { errorText } from '../errors.js';
import type { Log } from '../log/log.js';

const RLIMIT_LOCKS = 10;

/** A mark is the place (30 bits) and the life (22 bits), which a double holds to the last bit. */
const LIVES = 2 ** 22;
const PLACES = 2 ** 30;

export interface Marks {
  /** Runs `spawn`, whose child carries the mark. */
  stamp<T>(mark: number, spawn: () => T): T;
}

/** What marks the processes of all workers of one runtime directory, also those of an agent before this one. */
export class MarkPlace {
  readonly #place: number;

  constructor(runtimeDir: string) {
    this.#place = createHash('sha256').update(runtimeDir).digest().readUInt32BE() % PLACES;
  }

  /** A mark for one life. */
  next(): number {
    return this.#place * LIVES + randomInt(1, LIVES);
  }

  includes(mark: number | undefined): boolean {
    return mark !== undefined && Math.floor(mark / LIVES) === this.#place;
  }
}

/** The means to mark, or undefined where the machine has none. */
export async function openMarks(log: Log): Promise<Marks | undefined> {
  const found = await findMarks();
  if (typeof found !== 'string') return found;
  log.debug('process.no_marks', `processes of workers that hide cannot be marked: ${found}`);
  return undefined;
}

/** Them, or why there are none. */
async function findMarks(): Promise<Marks | string> {
  // The numbers of prlimit(2) have 64 bits there, and only there without a wrapper.
  if (!['x64', 'arm64', 'ppc64', 's390x', 'riscv64', 'loong64'].includes(process.arch)) {
    return `not on ${process.arch}`;
  }
  try {
    const koffi = (await import('koffi')).default;
    const prlimit = koffi.load(null).func('int prlimit(int pid, int resource, const void *limit, void *old)');
    // struct rlimit: the soft and the hard limit, in the machine's own order of bytes.
    const before = new BigUint64Array(2);
    const marked = new BigUint64Array(2);
    if (Number(prlimit(0, RLIMIT_LOCKS, null, before)) !== 0) return 'prlimit(2) is refused';
    const set = (limit: BigUint64Array): boolean => Number(prlimit(0, RLIMIT_LOCKS, limit, null)) === 0;
    const put = (mark: number): boolean => {
      marked.set([BigInt(mark), before[1] ?? 0n]);
      return set(marked);
    };
    // Tried once: a hard limit below the marks, or a filter of system calls, refuses it.
    if (!put(PLACES * LIVES) || !set(before)) return 'the limit cannot be set';
    return {
      stamp: (mark, spawn) => {
        put(mark);
        try {
          return spawn();
        } finally {
          set(before);
        }
      },
    };
  } catch (error) {
    return errorText(error);
  }
}
