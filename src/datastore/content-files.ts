/**
 * Content too large for a record lives in a file of the content directory, 0600, synced with its directory before the
 * record that names it is committed. A file that no record names is left over from a crash and deleted at the start.
 * The record holds the checksum of its file, and bytes that fail it are never handed out.
 */
import { randomBytes } from 'node:crypto';
import { open, readFile, readdir, rm, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { crashPoint } from '../crash-point.js';
import { AgentError, errnoOf, errorText } from '../errors.js';
import { INLINE_LIMIT, type Content } from '../message/index.js';
import { makePrivateDirectory, syncDirectory } from './lmdb-journal.js';

/** A content that is being read. */
export interface ContentReader {
  /** The next bytes, at most so many; `isLast` with the last of them. */
  next(most: number): Promise<{ readonly bytes: Buffer; readonly isLast: boolean }>;
  close(): Promise<void>;
}

export class ContentFiles {
  /** `directory` is made at `open`. */
  constructor(readonly directory: string) {}

  open(): Promise<void> {
    return makePrivateDirectory(this.directory);
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
      try {
        await handle.writeFile(bytes);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await this.syncDirectory();
      FAULT: crashPoint('content.file-synced');
      return { kind: 'file', path, size: bytes.length, crc32: crc32(bytes) };
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

  /** Makes the names of new files durable. */
  syncDirectory(): Promise<void> {
    return syncDirectory(this.directory);
  }

  /** Deletes every file that is not `named`. */
  async sweep(named: { has(path: string): boolean }): Promise<void> {
    for (const name of await readdir(this.directory)) {
      const path = join(this.directory, name);
      if (!named.has(path)) await rm(path, { force: true, recursive: true });
    }
  }
}

function damaged(path: string, problem: string, cause?: unknown): AgentError {
  return new AgentError('content.damaged', `the content file ${path} is damaged: ${problem}`, { path }, { cause });
}
