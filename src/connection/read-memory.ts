/**
 * The memory that a plain connection reads into: the same for one read after the other, as long as nobody keeps what
 * stands in it. Node makes memory of this size for each read otherwise (about 3 µs).
 */
const SIZE = 64 * 1024;
/** A read that fills less of it: a copy of what lives on costs no more than memory anew, and keeps no more than it is. */
const SPARSE = SIZE / 4;

export class ReadMemory {
  #bytes: Buffer = Buffer.allocUnsafeSlow(SIZE);
  #isKept = false;
  /** What the next read goes into. */
  readonly next = (): Buffer => {
    if (this.#isKept) this.#bytes = Buffer.allocUnsafeSlow(SIZE);
    this.#isKept = false;
    return this.#bytes;
  };

  /** What a read of so many bytes has brought; good for as long as it is looked at, unless it is kept. */
  read(size: number): Buffer {
    return this.#bytes.subarray(0, size);
  }

  /** These bytes live on: if they are of this memory, nothing more is read into it. */
  keep(bytes: Buffer): void {
    if (this.#holds(bytes)) this.#isKept = true;
  }

  /** Whether a read has brought these bytes and little else: to keep a part of them would keep all of this memory. */
  isSparse(bytes: Buffer): boolean {
    return bytes.length < SPARSE && this.#holds(bytes);
  }

  #holds(bytes: Buffer): boolean {
    return bytes.buffer === this.#bytes.buffer;
  }
}
