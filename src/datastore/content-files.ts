/**
 * Content too large for a record lives in a file of the content directory, 0600, synced with its directory before the
 * record that names it is committed. A file that no record names is left over from a crash and deleted at the start.
 * The record holds the sum of its file, and bytes that fail it are never handed out. What was just written stays in
 * memory for a moment (`hot-contents.ts`).
 */
import { randomUUID } from 'node:crypto';
import { unlink } from 'node:fs';
import { open, readFile, readdir, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AgentError, errnoOf, errorText } from '../errors.js';
import { INLINE_LIMIT, type Content, type FileContent } from '../message/index.js';
import { systemClock, type Clock } from '../time.js';
import { AtOnce } from './at-once.js';
import { ContentSums } from './content-sums.js';
import { ContentWriter, type WriterPlace } from './content-writer.js';
import { makePrivateDirectory, syncDirectory } from './directories.js';
import { HotContents, type HotKind } from './hot-contents.js';

/**
 * Files that were there all at once are written so many at a time. More of them only share the disk, and take all of
 * the threads that the commits of the journal go through as well (measured, docs/performance.md).
 */
const WRITTEN_AT_ONCE = 2;

/** A content that is being read. */
export interface ContentReader {
  /** The next bytes, at most so many; `isLast` with the last of them. */
  next(most: number): Promise<{ readonly bytes: Buffer; readonly isLast: boolean }>;
  close(): Promise<void>;
}

export class ContentFiles {
  readonly #hot: HotContents;
  readonly #turns = new AtOnce(WRITTEN_AT_ONCE);
  readonly #place: WriterPlace = {
    inTurn: (task) => this.#turns.run(task),
    named: () => this.#namesSynced(),
    written: (file) => this.#hot.keep(file),
    remove: (path) => this.remove(path),
  };
  /** The sync of the directory that is under way. */
  #syncing: Promise<void> | undefined;
  /** The one behind it, for all whose names may have come too late for that. */
  #nextSync: Promise<void> | undefined;

  /** `directory` is made at `open`. */
  constructor(
    readonly directory: string,
    clock: Clock = systemClock,
    readonly sums = new ContentSums(),
  ) {
    this.#hot = new HotContents(clock);
  }

  /** Until the scope ends, what was just written is kept in memory for its first reader. */
  async open(scope: AbortSignal): Promise<void> {
    await makePrivateDirectory(this.directory);
    // Its own name: with that all that is in it would be lost.
    await syncDirectory(dirname(this.directory));
    this.#hot.start(scope);
  }

  /** A new file to write to. With `kind` what is written all at once is kept for its first reader. */
  create(kind?: HotKind): ContentWriter {
    return new ContentWriter(join(this.directory, randomUUID()), this.sums.begin(), this.#place, kind);
  }

  /** Whether these bytes belong in a file of their own. */
  isLarge(bytes: Buffer): boolean {
    return bytes.length > INLINE_LIMIT;
  }

  /** Bytes as a content: small ones as they are, many in a synced file. */
  async store(bytes: Buffer): Promise<Content> {
    if (!this.isLarge(bytes)) return { kind: 'inline', bytes };
    const writer = this.create('message');
    try {
      return await writer.finish([bytes]);
    } catch (error) {
      // Half a file on a full disk would stay in the way of what frees it.
      await writer.discard();
      throw new AgentError(
        'journal.write_failed',
        `a content file in ${this.directory} cannot be written: ${errorText(error)}. See to the disk`,
        { path: this.directory },
        { cause: error },
      );
    }
  }

  /** Throws AgentError `content.damaged` when the file is gone or is not what was written; other errors may pass. */
  async read(content: Content): Promise<Buffer> {
    if (content.kind === 'inline') return content.bytes;
    const { path, size } = content;
    const hot = this.#hot.take(path, size);
    if (hot !== undefined) return hot;
    let bytes: Buffer;
    try {
      bytes = await readFile(path);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
      throw damaged(path, 'it is missing', error);
    }
    if (bytes.length !== size) throw damaged(path, `it has ${bytes.length} bytes instead of ${size}`);
    const check = this.sums.checkOf(content);
    check.update(bytes);
    if (!check.holds()) throw damaged(path, 'it fails its checksum');
    return bytes;
  }

  /**
   * Opens a content to be read bit by bit. Throws as `read` does; what fails its checksum is found out before the last
   * bit of it is handed out.
   */
  async openRead(content: FileContent): Promise<ContentReader> {
    const { path, size } = content;
    const hot = this.#hot.take(path, size);
    if (hot !== undefined) return new HotReader(hot);
    let handle: FileHandle;
    try {
      handle = await open(path, 'r');
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
      throw damaged(path, 'it is missing', error);
    }
    let position = 0;
    const check = this.sums.checkOf(content);
    return {
      next: async (most) => {
        const bytes = Buffer.allocUnsafe(Math.min(most, size - position));
        let filled = 0;
        while (filled < bytes.length) {
          const { bytesRead } = await handle.read(bytes, filled, bytes.length - filled, position + filled);
          if (bytesRead === 0) throw damaged(path, `it has ${position + filled} bytes instead of ${size}`);
          filled += bytesRead;
        }
        position += filled;
        check.update(bytes);
        const isLast = position === size;
        if (isLast && !check.holds()) throw damaged(path, 'it fails its checksum');
        return { bytes, isLast };
      },
      close: () => handle.close(),
    };
  }

  /** Whether the bytes of a content are all there, as far as their number tells. */
  async isWhole(content: Content): Promise<boolean> {
    if (content.kind === 'inline') return true;
    const size = await stat(content.path).then(
      (stats) => stats.size,
      // Missing, or not to be read: either way nobody can be given it.
      () => undefined,
    );
    return size === content.size;
  }

  /** Makes the names of new files durable. Those that ask while a sync is under way share the next one. */
  #namesSynced(): Promise<void> {
    if (this.#syncing === undefined) return this.#sync();
    const next = (): Promise<void> => this.#sync();
    return (this.#nextSync ??= this.#syncing.then(next, next));
  }

  #sync(): Promise<void> {
    const syncing = syncDirectory(this.directory);
    this.#syncing = syncing;
    this.#nextSync = undefined;
    const done = (): void => {
      if (this.#syncing === syncing) this.#syncing = undefined;
    };
    syncing.then(done, done);
    return syncing;
  }

  /** Deletes a file, if it is there. */
  remove(path: string): Promise<void> {
    this.#hot.drop(path);
    return new Promise((resolve, reject) => {
      unlink(path, (error) => {
        if (error === null || error.code === 'ENOENT') resolve();
        else reject(error);
      });
    });
  }

  /** Deletes every file that is not `named`. */
  async sweep(named: { has(path: string): boolean }): Promise<void> {
    for (const name of await readdir(this.directory)) {
      const path = join(this.directory, name);
      if (!named.has(path)) await rm(path, { force: true, recursive: true });
    }
  }
}

/** Reads what is in memory. */
class HotReader implements ContentReader {
  #position = 0;

  constructor(private readonly bytes: Buffer) {}

  next(most: number): Promise<{ readonly bytes: Buffer; readonly isLast: boolean }> {
    const bytes = this.bytes.subarray(this.#position, this.#position + most);
    this.#position += bytes.length;
    return Promise.resolve({ bytes, isLast: this.#position === this.bytes.length });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

function damaged(path: string, problem: string, cause?: unknown): AgentError {
  return new AgentError('content.damaged', `the content file ${path} is damaged: ${problem}`, { path }, { cause });
}
