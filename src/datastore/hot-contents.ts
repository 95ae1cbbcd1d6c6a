/**
 * The bytes of contents whose files were just written, for their first reader: he takes them from here instead of
 * reading and checking anew what was synced a moment ago. Only what is on stable storage comes here, and what is kept is
 * handed out only while its file stands there untouched. Bounded, given back when it is read, when its message ends, or
 * after a moment; whoever finds nothing here reads the file.
 */
import { statSync } from 'node:fs';
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

interface Hot {
  readonly parts: readonly Buffer[];
  readonly size: number;
  readonly stamp: string;
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

  /** The bytes of the file at `path`, which is synced with its name; they are not changed any more. */
  keep(path: string, parts: readonly Buffer[], kind: HotKind): void {
    const size = parts.reduce((sum, part) => sum + part.length, 0);
    const most = kind === 'result' ? MOST_BYTES : MOST_OF_MESSAGES;
    if (this.#scope.aborted || size > LARGEST || this.#bytes + size > most) return;
    const stamp = stampOf(path, size);
    if (stamp === undefined) return;
    this.drop(path);
    this.#kept.set(path, { parts, size, stamp, keptAt: this.clock.monotonic() });
    this.#bytes += size;
    this.#sweepLater(KEPT_FOR);
  }

  /** The bytes of a file, once; undefined when they are not here, or the file is not what was written. */
  take(path: string, size: number): Buffer | undefined {
    const hot = this.#kept.get(path);
    if (hot === undefined) return undefined;
    this.drop(path);
    if (hot.size !== size || stampOf(path, size) !== hot.stamp) return undefined;
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
 * What tells a file from one that was touched since; undefined when it is not there, or has another size. In this turn:
 * the kernel has it in memory, and to ask for it elsewhere costs ten times as much.
 */
function stampOf(path: string, size: number): string | undefined {
  try {
    const stats = statSync(path, { throwIfNoEntry: false });
    return stats?.size === size ? `${stats.ino} ${stats.mtimeMs} ${stats.ctimeMs}` : undefined;
  } catch {
    // What is wrong with it is told by who reads it.
    return undefined;
  }
}
