/**
 * Where a body that comes bit by bit is put: small ones stay in memory, the rest goes to a content file, which is on
 * stable storage before anybody hears of it. Writes go one after the other. When to write is its owner's affair: a body
 * that goes to disk in one write need not be read back by the store.
 */
import { errorText } from '../../errors.js';
import { INLINE_LIMIT, type SummedContent } from '../../message/record.js';
import type { ContentWriter, DispatchStore } from '../ports.js';

/** More pieces than these are put together: small ones would take many times their bytes. */
const MOST_PIECES = 64;

export type BodyFiles = Pick<DispatchStore, 'newContentFile'>;

export class BodySink {
  #size = 0;
  /** What is to be written. */
  #held: Buffer[] = [];
  #heldBytes = 0;
  /** Where all of the body is put that came. */
  #gathered: Buffer | undefined;
  #file: ContentWriter | undefined;
  /** The last step; each waits for the one before. */
  #turn: Promise<unknown> = Promise.resolve();
  /** Why no step is taken any more. */
  #problem: Error | undefined;

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
   * Takes the next bytes, by a copy: they need not be there behind this call. `whole`: that all of the body waits for one
   * write and has so many bytes, where that is known.
   */
  add(bytes: Buffer, whole?: number): void {
    if (whole !== undefined && this.#heldBytes === this.#size) this.#gathered ??= this.#gatheredFrom(whole);
    this.#size += bytes.length;
    this.#heldBytes += bytes.length;
    if (this.#gathered !== undefined) bytes.copy(this.#gathered, this.#size - bytes.length);
    else this.#held.push(Buffer.from(bytes));
    if (this.#held.length > MOST_PIECES) this.#held = [Buffer.concat(this.#held)];
  }

  /** A buffer for all of it, with what came until now. */
  #gatheredFrom(whole: number): Buffer {
    const gathered = Buffer.allocUnsafe(whole);
    let at = 0;
    for (const piece of this.#held) at += piece.copy(gathered, at);
    this.#held = [];
    return gathered;
  }

  /** Writes what is held; resolves when it is where it belongs. Rejects when it cannot be written: then discard it. */
  flush(): Promise<unknown> {
    const parts = this.#takeHeld();
    return this.#inTurn(() => this.#writer().write(parts));
  }

  /** The whole body: on stable storage when it is in a file. */
  finish(): Promise<Buffer | SummedContent> {
    const parts = this.#takeHeld();
    return this.#inTurn<Buffer | SummedContent>(() =>
      this.#size <= INLINE_LIMIT ? Promise.resolve(Buffer.concat(parts)) : this.#writer().finish(parts),
    );
  }

  #takeHeld(): readonly Buffer[] {
    const parts = this.#gathered === undefined ? this.#held : [this.#gathered.subarray(0, this.#size)];
    this.#held = [];
    this.#heldBytes = 0;
    this.#gathered = undefined;
    return parts;
  }

  #writer(): ContentWriter {
    return (this.#file ??= this.files.newContentFile('result'));
  }

  /** Forgets what was written, behind what is under way. Not once `finish` has given it away. */
  discard(): void {
    this.#problem ??= new Error('the body is not wanted any more');
    this.#turn = this.#turn.then(async () => {
      this.#takeHeld();
      await this.#file?.discard();
      this.#file = undefined;
    });
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(() => {
      if (this.#problem !== undefined) throw this.#problem;
      return work();
    });
    // One that fails is the last, and does not keep a discard from its turn.
    this.#turn = turn.catch((error: unknown) => {
      this.#problem ??= error instanceof Error ? error : new Error(errorText(error));
    });
    return turn;
  }
}
