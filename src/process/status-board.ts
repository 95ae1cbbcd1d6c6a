/**
 * Keeps the datastore's `processes` as the process manager sees them, one entry for each executable, refused ones
 * included; and notices when an executable has gone for good. Writes only what changed.
 */
import { isDeepStrictEqual } from 'node:util';
import type { WorkerName } from '../message/index.js';
import type { Refused } from './scan.js';
import type { WorkerState } from './state.js';
import type { ProcessCollection, ProcessEntry } from './ports.js';

interface DirectoryView {
  readonly refused: readonly Refused[];
  isRemoved(name: WorkerName): boolean;
}

export class StatusBoard {
  readonly #shown = new Map<WorkerName, ProcessEntry>();
  readonly #spawns = new Map<WorkerName, number>();

  constructor(
    private readonly processes: ProcessCollection,
    private readonly onRemoved: (name: WorkerName) => void,
  ) {}

  countSpawn(name: WorkerName): void {
    this.#spawns.set(name, (this.#spawns.get(name) ?? 0) + 1);
  }

  /** Shows what is now. */
  show(
    observed: ReadonlyMap<WorkerName, WorkerState>,
    lives: ReadonlyMap<WorkerName, { readonly spawnedAt: number | undefined }>,
    directory: DirectoryView,
  ): void {
    const now = new Map<WorkerName, ProcessEntry>();
    for (const { name, problem } of directory.refused) {
      if (name !== undefined)
        now.set(name, { id: name, state: 'refused', restarts: this.#restarts(name), detail: problem });
    }
    for (const [name, state] of observed) now.set(name, this.#entry(name, state, lives.get(name)?.spawnedAt));
    for (const [name, entry] of now) {
      if (isDeepStrictEqual(this.#shown.get(name), entry)) continue;
      this.#shown.set(name, entry);
      this.processes.put(entry);
    }
    for (const name of [...this.#shown.keys()]) {
      if (now.has(name)) continue;
      this.#shown.delete(name);
      this.processes.remove(name);
      if (!directory.isRemoved(name)) continue;
      this.#spawns.delete(name);
      this.onRemoved(name);
    }
  }

  #entry(name: WorkerName, state: WorkerState, startedAt: number | undefined): ProcessEntry {
    const pid = 'pid' in state ? state.pid : undefined;
    const detail = 'detail' in state ? state.detail : undefined;
    return {
      id: name,
      state: state.kind,
      ...(pid === undefined ? {} : { pid }),
      ...(startedAt === undefined ? {} : { startedAt }),
      restarts: this.#restarts(name),
      ...(detail === undefined ? {} : { detail }),
    };
  }

  #restarts(name: WorkerName): number {
    return Math.max(0, (this.#spawns.get(name) ?? 0) - 1);
  }
}
