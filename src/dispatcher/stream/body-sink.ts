/**
 * Where a body that comes bit by bit is put: small ones stay in memory, the rest goes to a content file, which is synced
 * with its directory before anybody hears of it. Writes go one after the other; the checksum and hash are made on the way.
 */
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { crashPoint } from '../../crash-point.js';
import { INLINE_LIMIT } from '../../message/record.js';
import type { DispatchStore, ReceivedBody } from '../ports.js';

export type BodyFiles = Pick<DispatchStore, 'newContentFile' | 'discardContentFile' | 'syncContent'>;

export class BodySink {
  readonly #hash = createHash('sha256');
  #crc32 = 0;
  #size = 0;
  #held: Buffer[] = [];
  #file: { readonly path: string; readonly handle: FileHandle } | undefined;
  /** The last step; each waits for the one before. */
  #turn: Promise<unknown> = Promise.resolve();
  #isDiscarded = false;

  constructor(private readonly files: BodyFiles) {}

  /** Resolves when the bytes are where they belong. Rejects when they cannot be written: then discard it. */
  write(bytes: Buffer): Promise<void> {
    return this.#inTurn(async () => {
      this.#hash.update(bytes);
      this.#crc32 = crc32(bytes, this.#crc32);
      this.#size += bytes.length;
      this.#held.push(bytes);
      if (this.#size <= INLINE_LIMIT) return;
      this.#file ??= await this.files.newContentFile();
      const { handle } = this.#file;
      for (const each of this.#held.splice(0)) await writeAll(handle, each);
    });
  }

  /** The whole body: on stable storage when it is in a file. */
  finish(): Promise<Buffer | ReceivedBody> {
    return this.#inTurn(async () => {
      if (this.#file === undefined) return Buffer.concat(this.#held);
      const { path, handle } = this.#file;
      await handle.sync();
      await handle.close();
      await this.files.syncContent();
      FAULT: crashPoint('content.file-synced');
      return {
        file: { kind: 'file', path, size: this.#size, crc32: this.#crc32 },
        sha256: this.#hash.digest(),
      };
    });
  }

  /** Forgets what was written, behind what is under way. Not once `finish` has given it away. */
  discard(): void {
    this.#isDiscarded = true;
    this.#turn = this.#turn.then(async () => {
      this.#held = [];
      const file = this.#file;
      if (file === undefined) return;
      this.#file = undefined;
      // Closed already, perhaps; what cannot be removed now is removed at the next start: no record names it.
      await file.handle.close().catch(() => undefined);
      await this.files.discardContentFile(file.path).catch(() => undefined);
    });
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(() => {
      if (this.#isDiscarded) throw new Error('the body is not wanted any more');
      return work();
    });
    // One that fails does not keep a discard from its turn.
    this.#turn = turn.catch(() => undefined);
    return turn;
  }
}

/** A write may be short when the disk is nearly full. */
async function writeAll(handle: FileHandle, bytes: Buffer): Promise<void> {
  for (let rest = bytes; rest.length > 0;) {
    const { bytesWritten } = await handle.write(rest);
    rest = rest.subarray(bytesWritten);
  }
}
