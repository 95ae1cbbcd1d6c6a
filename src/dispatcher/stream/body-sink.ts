/**
 * Where a body that comes bit by bit is put: small ones stay in memory, the rest goes to a content file, which is synced
 * with its directory before anybody hears of it. Writes go one after the other; the checksum and hash are made on the way.
 * When to write is its owner's affair: a body that goes to disk in one write is shown to the store, which need not read
 * then what was just written.
 */
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { crashPoint } from '../../crash-point.js';
import { INLINE_LIMIT } from '../../message/record.js';
import type { DispatchStore, ReceivedBody } from '../ports.js';

/** More pieces than these are put together: small ones would take many times their bytes. */
const MOST_PIECES = 64;

export type BodyFiles = Pick<DispatchStore, 'newContentFile' | 'discardContentFile' | 'syncContent'>;

export class BodySink {
  readonly #hash = createHash('sha256');
  #crc32 = 0;
  #size = 0;
  /** What is to be written. */
  #held: Buffer[] = [];
  #heldBytes = 0;
  /** Where all of the body is put that came. */
  #gathered: Buffer | undefined;
  #file: { readonly path: string; readonly handle: FileHandle } | undefined;
  /** The last step; each waits for the one before. */
  #turn: Promise<unknown> = Promise.resolve();
  #isDiscarded = false;

  constructor(private readonly files: BodyFiles) {}

  /** Bytes that came. */
  get size(): number {
    return this.#size;
  }

  /** Bytes that are held until they are written. */
  get held(): number {
    return this.#heldBytes;
  }

  /**
   * Takes the next bytes. `whole`: that all of the body waits for one write and has so many bytes, where that is known. It
   * is then gathered in one buffer: the chunks it came in need not live until the last of them is there.
   */
  add(bytes: Buffer, whole?: number): void {
    this.#hash.update(bytes);
    this.#crc32 = crc32(bytes, this.#crc32);
    this.#size += bytes.length;
    this.#held.push(bytes);
    this.#heldBytes += bytes.length;
    if (this.#gathered !== undefined) this.#gather(this.#gathered);
    else if (whole !== undefined && this.#size < whole && this.#heldBytes === this.#size) {
      this.#gather((this.#gathered = Buffer.allocUnsafe(whole)));
    } else if (this.#held.length > MOST_PIECES) this.#held = [Buffer.concat(this.#held)];
  }

  /** Puts what is held where it belongs in the whole. */
  #gather(whole: Buffer): void {
    let at = this.#size;
    for (const piece of this.#held) at -= piece.length;
    for (const piece of this.#held) at += piece.copy(whole, at);
    this.#held = [];
  }

  /** Writes what is held; resolves when it is where it belongs. Rejects when it cannot be written: then discard it. */
  flush(): Promise<unknown> {
    const parts = this.#takeHeld();
    return this.#inTurn(() => this.#write(parts));
  }

  /** The whole body: on stable storage when it is in a file. */
  finish(): Promise<Buffer | ReceivedBody> {
    const parts = this.#takeHeld();
    return this.#inTurn(async () => {
      if (this.#size <= INLINE_LIMIT) return Buffer.concat(parts);
      const isInOne = this.#file === undefined;
      const { path, handle } = await this.#write(parts);
      await handle.sync();
      await handle.close();
      await this.files.syncContent(isInOne ? { path, parts } : undefined);
      FAULT: crashPoint('content.file-synced');
      return {
        file: { kind: 'file', path, size: this.#size, crc32: this.#crc32 },
        sha256: this.#hash.digest(),
      };
    });
  }

  #takeHeld(): readonly Buffer[] {
    const parts = this.#gathered === undefined ? this.#held : [this.#gathered.subarray(0, this.#size)];
    this.#held = [];
    this.#heldBytes = 0;
    this.#gathered = undefined;
    return parts;
  }

  async #write(parts: readonly Buffer[]): Promise<{ readonly path: string; readonly handle: FileHandle }> {
    this.#file ??= await this.files.newContentFile();
    await writeAll(this.#file.handle, parts);
    return this.#file;
  }

  /** Forgets what was written, behind what is under way. Not once `finish` has given it away. */
  discard(): void {
    this.#isDiscarded = true;
    this.#turn = this.#turn.then(async () => {
      this.#takeHeld();
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
async function writeAll(handle: FileHandle, parts: readonly Buffer[]): Promise<void> {
  for (let rest = parts; rest.length > 0;) {
    const { bytesWritten } = await handle.writev(rest);
    rest = behind(rest, bytesWritten);
  }
}

function behind(parts: readonly Buffer[], bytes: number): readonly Buffer[] {
  let left = bytes;
  for (const [index, part] of parts.entries()) {
    if (left < part.length) return [part.subarray(left), ...parts.slice(index + 1)];
    left -= part.length;
  }
  return [];
}
