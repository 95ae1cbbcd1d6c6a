/**
 * Content too large for a record lives in a file of the content directory, 0600, synced with its directory before the
 * record that names it is committed. A file that no record names is left over from a crash and deleted at the start.
 * The record holds the checksum of its file, and bytes that fail it are never handed out. What was just written stays in
 * memory for a moment (`hot-contents.ts`).
 */
import { randomBytes } from 'node:crypto';
import { open, readFile, readdir, rm, stat, unlink, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { crashPoint } from '../crash-point.js';
import { AgentError, errnoOf, errorText } from '../errors.js';
import { INLINE_LIMIT, type Content } from '../message/index.js';
import { systemClock, type Clock } from '../time.js';
import { HotContents } from './hot-contents.js';
import { makePrivateDirectory, syncDirectory } from './directories.js';

/** A content that is being read. */
export interface ContentReader {
  /** The next bytes, at most so many; `isLast` with the last of them. */
  next(most: number): Promise<{ readonly bytes: Buffer; readonly isLast: boolean }>;
  close(): Promise<void>;
}

/** A content file that was written, synced and closed by who created it, and all its bytes. */
export interface WrittenContent {
  readonly path: string;
  readonly parts: readonly Buffer[];
}

export class ContentFiles {
  readonly #hot: HotContents;
  /** The sync of the directory that is under way. */
  #syncing: Promise<void> | undefined;
  /** The one behind it, for all whose names may have come too late for that. */
  #nextSync: Promise<void> | undefined;

  /** `directory` is made at `open`. */
  constructor(
    readonly directory: string,
    clock: Clock = systemClock,
  ) {
    this.#hot = new HotContents(clock);
  }

  /** Until the scope ends, what was just written is kept in memory for its first reader. */
  async open(scope: AbortSignal): Promise<void> {
    await makePrivateDirectory(this.directory);
    this.#hot.start(scope);
  }

  /** A new file to write to. Whoever writes it syncs and closes it. */
  async create(): Promise<{ readonly path: string; readonly handle: FileHandle }> {
    const path = join(this.directory, randomBytes(12).toString('hex'));
    return { path, handle: await open(path, 'wx', 0o600) };
  }

  /** Whether these bytes belong in a file of their own. */
  isLarge(bytes: Buffer): boolean {
    return bytes.length > INLINE_LIMIT;
  }

  /** Bytes as a content: small ones as they are, many in a synced file. */
  async store(bytes: Buffer): Promise<Content> {
    if (!this.isLarge(bytes)) return { kind: 'inline', bytes };
    let begun: string | undefined;
    try {
      const { path, handle } = await this.create();
      begun = path;
      let checksum: number;
      try {
        const written = writeAll(handle, bytes);
        // While it is written.
        checksum = crc32(bytes);
        await written;
        await handle.sync();
      } finally {
        await handle.close();
      }
      await this.#namesSynced();
      FAULT: crashPoint('content.file-synced');
      this.#hot.keep(path, [bytes], 'message');
      return { kind: 'file', path, size: bytes.length, crc32: checksum };
    } catch (error) {
      // Half a file on a full disk would stay in the way of what frees it. What cannot be deleted goes at the start.
      if (begun !== undefined) await rm(begun, { force: true }).catch(() => undefined);
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
    const { path, size, crc32: expected } = content;
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
    if (expected !== undefined && crc32(bytes) !== expected) throw damaged(path, 'it fails its checksum');
    return bytes;
  }

  /**
   * Opens a content to be read bit by bit. Throws as `read` does; what fails its checksum is found out before the last
   * bit of it is handed out.
   */
  async openRead({ path, size, crc32: expected }: Extract<Content, { kind: 'file' }>): Promise<ContentReader> {
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
    let checksum = 0;
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
        checksum = crc32(bytes, checksum);
        const isLast = position === size;
        if (isLast && expected !== undefined && checksum !== expected) throw damaged(path, 'it fails its checksum');
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

  /** Makes the names of new files durable. What one of them holds, when that is given, is kept for its first reader. */
  async syncDirectory(written?: WrittenContent): Promise<void> {
    await this.#namesSynced();
    if (written !== undefined) this.#hot.keep(written.path, written.parts, 'result');
  }

  /** Those that ask while a sync is under way share the next one. */
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
  async remove(path: string): Promise<void> {
    this.#hot.drop(path);
    try {
      await unlink(path);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
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

/** A write may be short when the disk is nearly full. */
async function writeAll(handle: FileHandle, bytes: Buffer): Promise<void> {
  for (let rest = bytes; rest.length > 0;) {
    const { bytesWritten } = await handle.write(rest);
    rest = rest.subarray(bytesWritten);
  }
}

function damaged(path: string, problem: string, cause?: unknown): AgentError {
  return new AgentError('content.damaged', `the content file ${path} is damaged: ${problem}`, { path }, { cause });
}
