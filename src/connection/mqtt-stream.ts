/**
 * The stream that the mqtt package sees: the transport with our reader before it, which takes out what is ours to read,
 * the publish filter before the package's parser, and a record of when the last byte came and went (for the keepalive). Fragments written in one turn leave as one write. It closes when
 * the transport does, after what had arrived was read.
 */
import { Duplex } from 'node:stream';
import type { Millis } from '../time.js';
import { PacketReader, type PacketReaderOptions } from './packet-reader.js';
import { PublishFilter } from './publish-filter.js';

/** Fragments that have more than this on average are not copied together: the copy would cost more than it gives. */
const JOIN_BELOW = 2 * 1024;

export interface MqttStreamOptions extends Omit<PacketReaderOptions, 'pass'> {
  readonly transport: Duplex;
  readonly monotonic: () => Millis;
}

export class MqttStream extends Duplex {
  readonly reader: PacketReader;
  readonly publishFilter: PublishFilter;
  /** Monotonic time of the last byte that went out. */
  lastSent: Millis;
  #lastReceived: Millis;
  #isHeld = false;
  readonly #transport: Duplex;
  readonly #monotonic: () => Millis;

  constructor(options: MqttStreamOptions) {
    super({ allowHalfOpen: false });
    this.#transport = options.transport;
    this.#monotonic = options.monotonic;
    this.#lastReceived = this.lastSent = options.monotonic();
    this.publishFilter = new PublishFilter({
      maxMessageSize: options.maxMessageSize,
      hasProperties: options.hasProperties,
      output: (bytes) => {
        if (!this.push(bytes)) this.#transport.pause();
      },
    });
    this.reader = new PacketReader({ ...options, pass: (bytes) => this.publishFilter.push(bytes) });
    this.#transport.on('data', (chunk: Buffer) => {
      this.#lastReceived = this.#monotonic();
      this.reader.push(chunk);
    });
    this.#transport.once('end', () => this.push(null));
    this.#transport.once('error', (error) => this.destroy(error));
    // Closed without an end: what was read before still goes on.
    this.#transport.once('close', () => {
      if (!this.readableEnded && !this.destroyed) this.push(null);
    });
  }

  /** Monotonic time of the last byte that came in. While nobody reads, silence is not the broker's. */
  get lastReceived(): Millis {
    return this.#isHeld ? this.#monotonic() : this.#lastReceived;
  }

  /** Takes no more bytes from the transport until `readOn`. */
  holdReading(): void {
    this.#isHeld = true;
    this.#transport.pause();
  }

  /** Ends what `holdReading` began. */
  readOn(): void {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    this.#lastReceived = this.#monotonic();
    this.#transport.resume();
  }

  /**
   * Writes what belongs together as one write, unless the end was written: nothing stands behind that. Straight to the
   * transport, which is where all the rest stands that was written before.
   */
  writeAll(pieces: readonly Buffer[]): void {
    const [first] = pieces;
    if (first === undefined || this.writableEnded || this.destroyed) return;
    this.lastSent = this.#monotonic();
    if (pieces.length === 1) this.#transport.write(first);
    else this.#writeTogether(pieces);
  }

  #writeTogether(pieces: readonly Buffer[]): void {
    const size = pieces.reduce((sum, piece) => sum + piece.length, 0);
    if (size <= JOIN_BELOW * pieces.length) {
      this.#transport.write(Buffer.concat(pieces, size));
      return;
    }
    this.#transport.cork();
    for (const piece of pieces) this.#transport.write(piece);
    this.#transport.uncork();
  }

  override _read(): void {
    if (!this.#isHeld) this.#transport.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.lastSent = this.#monotonic();
    this.#transport.write(chunk);
    done();
  }

  override _writev(chunks: { chunk: Buffer }[], done: () => void): void {
    this.lastSent = this.#monotonic();
    this.#writeTogether(chunks.map(({ chunk }) => chunk));
    done();
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#transport.end();
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    // An error of the transport after this has no one to tell.
    this.#transport.on('error', () => undefined);
    if (this.#transport.destroyed) done(error);
    else {
      // Closed means closed: whoever waits for that may count on the socket being released.
      this.#transport.once('close', () => done(error));
      this.#transport.destroy();
    }
  }
}
