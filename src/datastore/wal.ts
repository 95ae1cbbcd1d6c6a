/**
 * The write-ahead log: commits one behind the other in two files that take turns. While what stands in one of them goes
 * to the tables, the other is written; then the first is written over. So a commit is one write to blocks that the disk
 * has already given, and it is on stable storage when that write returns (O_DSYNC): two to three times as fast as to a
 * file that grows with each, whose length has to be recorded as well.
 */
import { close, constants, fchmod, fstat, ftruncate, open, read, write } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { AgentError } from '../errors.js';
import type { Log } from '../log/log.js';
import { syncDirectory } from './directories.js';
import type { Change } from './journal.js';
import { FRAMES_AT, frameLength, newHead, scan, writeFrame, type Frame } from './wal-frames.js';

const FILES = ['wal-0', 'wal-1'] as const;
/** A file grows by so much at a time. */
const STEP = 256 * 1024;
/** A commit that needs more gets a buffer for itself. */
const USUAL_COMMIT = 2 ** 20;
/** The length of a frame has four bytes. */
const MOST_BYTES = 2 ** 32 - 1;
/** Node reads and writes less than 2 GiB in one go. */
const ONE_GO = 2 ** 30;

interface LogFile {
  readonly fd: number;
  /** Bytes that the disk has given. */
  size: number;
}

export class WriteAheadLog {
  #files: readonly [LogFile, LogFile] | undefined;
  #current: 0 | 1 = 0;
  /** Of the file that is written; undefined until the first commit in it. */
  #nonce: Buffer | undefined;
  /** Where the next frame goes. */
  #end = 0;
  #next = 1;
  #buffer = Buffer.alloc(0);

  constructor(
    private readonly directory: string,
    private readonly log: Log,
    /** Bytes at which a file is full. */
    private readonly full: number,
  ) {}

  /**
   * Opens or makes the files, and gives the commits behind number `done` that stand in them, in order. Throws
   * AgentError `state.version` for a log of another layout.
   */
  async open(done: number): Promise<readonly Frame[]> {
    const files = await Promise.all(FILES.map((name) => openFile(join(this.directory, name))));
    const [first, second] = files;
    if (first === undefined || second === undefined) throw new Error('unreachable: there are two files');
    this.#files = [first, second];
    await syncDirectory(this.directory);
    const frames: Frame[] = [];
    for (const [n, file] of files.entries()) {
      if (file.size < FRAMES_AT) continue;
      const found = scan(await readWhole(file));
      if (found.isForeign) throw this.#foreign();
      if (found.damaged > 0) this.#tellDamage({ file: FILES[n], bytes: found.damaged });
      frames.push(...found.frames.filter(({ number }) => number > done));
    }
    frames.sort((a, b) => a.number - b.number);
    this.#next = (frames.at(-1)?.number ?? done) + 1;
    // Where the tables cannot tell what they hold (they were made anew, or salvaged), only gaps between these can be told.
    const from = done > 0 ? done + 1 : (frames[0]?.number ?? 1);
    const missing = this.#next - from - frames.length;
    if (missing > 0) this.#tellDamage({ missing });
    this.rotate();
    return frames;
  }

  /** The number of the last commit that was handed in, whatever became of it. */
  get last(): number {
    return this.#next - 1;
  }

  /** How full the file is that is written: at 1 it should be the other's turn. */
  get fill(): number {
    return this.#end / this.full;
  }

  /** From now on the other file is written. What stands in it must be in the tables. */
  rotate(): void {
    this.#current = this.#current === 0 ? 1 : 0;
    this.#nonce = undefined;
    this.#end = 0;
  }

  /**
   * Writes a commit; it is on stable storage when the promise resolves. Once one has failed, none may follow it in the
   * same file: nobody knows how much of it is there.
   */
  async append(changes: readonly Change[]): Promise<void> {
    const file = this.#files?.[this.#current];
    if (file === undefined) throw new Error('the write-ahead log is closed');
    const isFirst = this.#nonce === undefined;
    if (isFirst && file.size > 2 * this.full) await this.#cut(file);
    const { head, nonce } = isFirst || this.#nonce === undefined ? newHead() : { head: undefined, nonce: this.#nonce };
    const at = head?.length ?? 0;
    const length = at + frameLength(changes);
    if (length > MOST_BYTES) throw new Error(`a commit of ${length} bytes is too large`);
    const grown = this.#end + length > file.size ? roundUp(this.#end + length, STEP) : file.size;
    const bytes = this.#room(grown > file.size ? grown - this.#end : length);
    head?.copy(bytes);
    writeFrame(bytes, at, nonce, this.#next, changes);
    // What it grows by is nothing yet.
    bytes.fill(0, length);
    // From here on the file may hold it. What failed before has left no trace, not even that the file was begun.
    this.#nonce = nonce;
    this.#next += 1;
    await writeWhole(file.fd, bytes, this.#end);
    file.size = grown;
    this.#end += length;
  }

  /** Closes the files. `isDone`: all of it is in the tables, so that they can go. */
  async close(isDone: boolean): Promise<void> {
    const files = this.#files;
    this.#files = undefined;
    this.#buffer = Buffer.alloc(0);
    for (const { fd } of files ?? []) await promisify(close)(fd);
    if (files !== undefined && isDone) for (const name of FILES) await rm(join(this.directory, name), { force: true });
  }

  /** One commit was so large that it is not worth keeping the room for another. */
  async #cut(file: LogFile): Promise<void> {
    await promisify(ftruncate)(file.fd, 0);
    file.size = 0;
  }

  #room(length: number): Buffer {
    if (length > USUAL_COMMIT) return Buffer.alloc(length);
    if (this.#buffer.length < length) this.#buffer = Buffer.alloc(Math.min(USUAL_COMMIT, roundUp(length * 2, 4096)));
    return this.#buffer.subarray(0, length);
  }

  #tellDamage(what: object): void {
    const text = 'the write-ahead log of the journal is damaged: commits are lost, all that can be read are kept';
    this.log.error('journal.damaged', text, { ...what, path: this.directory });
  }

  #foreign(): AgentError {
    return new AgentError(
      'state.version',
      `the write-ahead log in ${this.directory} is of a version that this one cannot read. ` +
        'Start the version that wrote it and stop it in good order, then this one',
      { path: this.directory },
    );
  }
}

async function openFile(path: string): Promise<LogFile> {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_DSYNC | constants.O_NOFOLLOW;
  const fd = await promisify(open)(path, flags, 0o600);
  // One that was put back from a copy may have come with another mode.
  await promisify(fchmod)(fd, 0o600);
  const { size } = await promisify(fstat)(fd);
  return { fd, size };
}

async function readWhole({ fd, size }: LogFile): Promise<Buffer> {
  const bytes = Buffer.alloc(size);
  let at = 0;
  while (at < size) {
    const { bytesRead } = await promisify(read)(fd, bytes, at, Math.min(ONE_GO, size - at), at);
    if (bytesRead === 0) break;
    at += bytesRead;
  }
  return bytes.subarray(0, at);
}

/** Without a promise for what is one write but on a disk that is full. */
function writeWhole(fd: number, bytes: Buffer, at: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const step = (from: number): void => {
      write(fd, bytes, from, Math.min(ONE_GO, bytes.length - from), at + from, (error, count) => {
        if (error !== null) reject(error);
        else if (count === 0) reject(new Error('the disk takes no more'));
        else if (from + count < bytes.length) step(from + count);
        else resolve();
      });
    };
    step(0);
  });
}

function roundUp(length: number, step: number): number {
  return Math.ceil(length / step) * step;
}
