/**
 * Writes one content file, 0600: made with its first bytes, and on stable storage with its name once it is finished. What
 * is there all at once is written through, and needs no sync behind it.
 */
import { closeSync, constants, fstatSync } from 'node:fs';
import { crashPoint } from '../crash-point.js';
import type { SummedContent } from '../message/index.js';
import type { ContentSum } from './content-sums.js';
import { opened, synced, writeAll } from './descriptors.js';
import type { HotKind, WrittenFile } from './hot-contents.js';

const NEW = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;

/** What a writer needs of the directory it writes to. */
export interface WriterPlace {
  /** Runs what writes a file all at once when it is its turn. */
  inTurn<T>(task: () => Promise<T>): Promise<T>;
  /** Makes the names of new files durable. */
  named(): Promise<void>;
  /** Is shown what is durable and was there all at once. */
  written(file: WrittenFile): void;
  remove(path: string): Promise<void>;
}

/** One step after the other, as its owner sees to. Each rejects with the error of the disk: then discard it. */
export class ContentWriter {
  #file: number | undefined;
  #size = 0;

  constructor(
    readonly path: string,
    private readonly sum: ContentSum,
    private readonly place: WriterPlace,
    private readonly kind?: HotKind,
  ) {}

  /** Writes more of it. The bytes are not changed any more. */
  async write(parts: readonly Buffer[]): Promise<void> {
    this.#file ??= await opened(this.path, NEW);
    await this.#append(this.#file, parts);
  }

  /** Writes the last of it. */
  finish(parts: readonly Buffer[]): Promise<SummedContent> {
    // One of which much is written already may take the disk for long, and takes no turn from the others.
    return this.#file === undefined ? this.place.inTurn(() => this.#finish(parts)) : this.#finish(parts);
  }

  async #finish(parts: readonly Buffer[]): Promise<SummedContent> {
    const isInOne = this.#file === undefined;
    const file = (this.#file ??= await opened(this.path, NEW | constants.O_DSYNC));
    await this.#append(file, parts);
    if (!isInOne) await synced(file);
    const stats = fstatSync(file);
    this.#close();
    await this.place.named();
    FAULT: crashPoint('content.file-synced');
    const { path, kind } = this;
    if (isInOne && kind !== undefined) this.place.written({ path, parts, kind, stats });
    return { kind: 'file', path, size: this.#size, sum: this.sum.end() };
  }

  /** Takes it away, finished or not. What cannot be removed now is removed at the next start: no record names it. */
  async discard(): Promise<void> {
    try {
      this.#close();
      await this.place.remove(this.path);
    } catch {
      // See above.
    }
  }

  async #append(file: number, parts: readonly Buffer[]): Promise<void> {
    const writing = writeAll(file, parts);
    // While it is written.
    for (const part of parts) {
      this.sum.update(part);
      this.#size += part.length;
    }
    await writing;
  }

  /** In this turn: nothing is left to be written, and a trip to another thread costs ten times as much. */
  #close(): void {
    const file = this.#file;
    this.#file = undefined;
    if (file !== undefined) closeSync(file);
  }
}
