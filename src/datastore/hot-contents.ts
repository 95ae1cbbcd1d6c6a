/**
 * The bytes of contents whose files were just written, for their first reader: he takes them from here instead of
 * reading and checking anew what was synced a moment ago. Only what is on stable storage comes here, and what is kept is
 * handed out only while its file stands there untouched. Bounded, given back when it is read, when its message ends, or
 * after a moment; whoever finds nothing here reads the file.
 */
import { statSync, type Stats } from 'node:fs';
import type { Clock, Millis } from '../time.js';

/** What all may take together, and how far messages may fill it: they may have to wait, and a result is read at once. */
const MOST_BYTES = 24 * 1024 * 1024;
const MOST_OF_MESSAGES = 16 * 1024 * 1024;

/** A larger content is read bit by bit as its worker takes it, so that memory stays flat. */
const LARGEST = 1024 * 1024;

/** What nobody came for in this time waits for its worker, and is of no more use than its file. */
const KEPT_FOR: Millis = 3_000;

/** Whose content it is. */
export type HotKind = 'message' | 'result';

/** A file that is synced with its name; its bytes are not changed any more. */
export interface WrittenFile {
  readonly path: string;
  readonly parts: readonly Buffer[];
  readonly kind: HotKind;
  readonly stats: Stats;
}

interface Hot {
  readonly parts: readonly Buffer[];
  readonly size: number;
  readonly stats: Stats;
  readonly keptAt: Millis;
}

export class HotContents {
  /** By path; the oldest first. */
  readonly #kept = new Map<string, Hot>();
  #bytes = 0;
  #scope: AbortSignal = AbortSignal.abort();
  #isSweepSet = false;

  constructor(private readonly clock: Clock) {}

  /** Keeps something until the scope ends. */
  start(scope: AbortSignal): void {
    this.#scope = scope;
    this.#isSweepSet = false;
    scope.addEventListener('abort', () => this.#clear(), { once: true });
  }

  /** Keeps the bytes of a file, where there is room. */
  keep({ path, parts, kind, stats }: WrittenFile): void {
    const { size } = stats;
    const most = kind === 'result' ? MOST_BYTES : MOST_OF_MESSAGES;
    if (this.#scope.aborted || size > LARGEST || this.#bytes + size > most) return;
    this.drop(path);
    this.#kept.set(path, { parts, size, stats, keptAt: this.clock.monotonic() });
    this.#bytes += size;
    this.#sweepLater(KEPT_FOR);
  }

  /** The bytes of a file, once; undefined when they are not here, or the file is not what was written. */
  take(path: string, size: number): Buffer | undefined {
    const hot = this.#kept.get(path);
    if (hot === undefined) return undefined;
    this.drop(path);
    if (hot.size !== size || !isUntouched(path, hot.stats)) return undefined;
    const [first, ...others] = hot.parts;
    return first !== undefined && others.length === 0 ? first : Buffer.concat(hot.parts, size);
  }

  /** The file is on its way out, or of no use to its first reader. */
  drop(path: string): void {
    const hot = this.#kept.get(path);
    if (hot === undefined) return;
    this.#kept.delete(path);
    this.#bytes -= hot.size;
  }

  #sweepLater(delay: Millis): void {
    if (this.#isSweepSet) return;
    this.#isSweepSet = true;
    const sweep = (): void => {
      this.#isSweepSet = false;
      this.#sweep();
    };
    this.clock.after(delay, sweep, this.#scope);
  }

  #sweep(): void {
    const now = this.clock.monotonic();
    for (const [path, { keptAt }] of this.#kept) {
      const rest = keptAt + KEPT_FOR - now;
      if (rest > 0) {
        this.#sweepLater(rest);
        return;
      }
      this.drop(path);
    }
  }

  #clear(): void {
    this.#kept.clear();
    this.#bytes = 0;
  }
}

/**
 * Whether a file is the one that was written and as it was then. In this turn: the kernel has it in memory, and to ask for
 * it elsewhere costs ten times as much.
 */
function isUntouched(path: string, then: Stats): boolean {
  try {
    const now = statSync(path, { throwIfNoEntry: false });
    if (now?.size !== then.size || now.ino !== then.ino) return false;
    return now.mtimeMs === then.mtimeMs && now.ctimeMs === then.ctimeMs;
  } catch {
    // What is wrong with it is told by who reads it.
    return false;
  }
}
