/** The five bytes that stand before each message of gRPC: whether it is compressed, and how long it is. */

/** Bytes before a message. */
export const PREFIX = 5;

/** A message with its prefix. */
export function framed(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(PREFIX + message.length);
  writePrefix(frame, message.length);
  frame.set(message, PREFIX);
  return frame;
}

/** A message in pieces, of which the first has room for the prefix, which is written there. */
export function framedInPlace(pieces: readonly [Buffer, ...Buffer[]]): readonly Buffer[] {
  let length = -PREFIX;
  for (const piece of pieces) length += piece.length;
  writePrefix(pieces[0], length);
  return pieces;
}

/** Writes the prefix of a message that is not compressed and has so many bytes. */
export function writePrefix(frame: Buffer, length: number): void {
  frame[0] = 0;
  frame[1] = length >>> 24;
  frame[2] = length >>> 16;
  frame[3] = length >>> 8;
  frame[4] = length;
}

/** Why a message cannot be taken. `second`: a unary call has one. */
export interface FrameProblem {
  readonly kind: 'too-large' | 'compressed' | 'second';
  readonly details: string;
}

/**
 * Puts together the one message of one direction of a unary call. Nearly always it comes in one chunk, which is not
 * copied. Of more the bytes are copied and the chunks let go: a chunk takes a hundred bytes and more however small it
 * is, and keeps all that came in one read with it, so whoever sends single ones would fill the memory with a message that
 * is within its limit.
 */
export class OneMessage {
  #bytes: Buffer | undefined;
  /** How many of them count. */
  #filled = 0;

  constructor(private readonly largest: number) {}

  /** What came next; gives what is wrong with it. */
  push(chunk: Buffer): FrameProblem | undefined {
    const isAll = this.#bytes === undefined && isWhole(chunk);
    const bytes = (this.#bytes = isAll ? chunk : this.#joined(this.#bytes ?? NOTHING, chunk));
    this.#filled += chunk.length;
    if (this.#filled < PREFIX) return undefined;
    if (bytes[0] !== 0) return COMPRESSED;
    const length = bytes.readUInt32BE(1);
    if (length > this.largest) return tooLarge(length, this.largest);
    if (this.#filled > PREFIX + length) return { kind: 'second', details: 'Received more than one message' };
    return undefined;
  }

  /** The message, once it is whole. */
  get message(): Buffer | undefined {
    if (this.#bytes === undefined || this.#filled < PREFIX) return undefined;
    const end = PREFIX + this.#bytes.readUInt32BE(1);
    return this.#filled < end ? undefined : this.#bytes.subarray(PREFIX, end);
  }

  /** What came before and the chunk, in memory of its own. */
  #joined(bytes: Buffer, chunk: Buffer): Buffer {
    const filled = this.#filled + chunk.length;
    let room = bytes;
    // A whole chunk is not ours to write into, and has no room.
    if (filled > bytes.length) {
      room = Buffer.allocUnsafeSlow(Math.min(Math.max(2 * filled, FEWEST), Math.max(filled, PREFIX + this.largest)));
      room.set(bytes.subarray(0, this.#filled));
    }
    room.set(chunk, this.#filled);
    return room;
  }
}

/** Whether it begins with a message that does not go on behind it. */
function isWhole(chunk: Buffer): boolean {
  return chunk.length >= PREFIX && chunk.length >= PREFIX + chunk.readUInt32BE(1);
}

/** Bytes of the first buffer for a message of more than one chunk. */
const FEWEST = 1024;

/**
 * Takes the messages of one direction of a stream out of what comes. One that is cut is gathered in memory of its size: the
 * chunks it comes in need not live until the last of them is there.
 */
export class FrameSplitter {
  /** The beginning of a message whose rest has not come: so many bytes of this. */
  #gathered: Buffer = NOTHING;
  #filled = 0;
  /** Bytes of it with its prefix; 0 while the prefix is not whole. */
  #wanted = 0;

  /** `isPassing`: a message is of no use once it was given, and the next may be gathered where it stood. */
  constructor(
    private readonly largest: number,
    private readonly isPassing = false,
  ) {}

  /** Calls `each` with every message that is whole now, a view of what came; gives what is wrong with the next one. */
  push(chunk: Buffer, each: (message: Buffer) => void): FrameProblem | undefined {
    let bytes = chunk;
    if (this.#wanted > 0) {
      const taken = chunk.copy(this.#gathered, this.#filled, 0, this.#wanted - this.#filled);
      this.#filled += taken;
      if (this.#filled < this.#wanted) return undefined;
      each(this.#gathered.subarray(PREFIX, this.#wanted));
      bytes = chunk.subarray(taken);
    } else if (this.#filled > 0) bytes = Buffer.concat([this.#gathered.subarray(0, this.#filled), chunk]);
    let at = 0;
    while (bytes.length - at >= PREFIX) {
      const length = bytes.readUInt32BE(at + 1);
      const problem = this.#problem(bytes[at], length);
      if (problem !== undefined) return problem;
      const end = at + PREFIX + length;
      if (end > bytes.length) break;
      const message = bytes.subarray(at + PREFIX, end);
      at = end;
      each(message);
    }
    this.#keep(at === 0 ? bytes : bytes.subarray(at));
    return undefined;
  }

  #keep(rest: Buffer): void {
    this.#wanted = rest.length < PREFIX ? 0 : PREFIX + rest.readUInt32BE(1);
    this.#filled = rest.length;
    const room = Math.max(this.#wanted, rest.length);
    if (!this.isPassing || this.#gathered.length < room)
      this.#gathered = room === 0 ? NOTHING : Buffer.allocUnsafe(room);
    rest.copy(this.#gathered);
  }

  #problem(compressed: number | undefined, length: number): FrameProblem | undefined {
    if (compressed !== 0) return COMPRESSED;
    return length > this.largest ? tooLarge(length, this.largest) : undefined;
  }
}

const NOTHING = Buffer.alloc(0);

const COMPRESSED: FrameProblem = {
  kind: 'compressed',
  details: 'Received a compressed message, and none was asked for',
};

function tooLarge(length: number, largest: number): FrameProblem {
  return { kind: 'too-large', details: `Received message larger than max (${length} vs ${largest})` };
}
