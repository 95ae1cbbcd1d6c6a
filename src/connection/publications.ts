/**
 * What one connection publishes: the packets of one turn leave in one write, and each publication with QoS 1 waits for
 * its PUBACK under its packet id. It writes them itself, as the PUBACKs are written, and not through the mqtt package,
 * which makes a copy of each payload (a second 1 MiB in memory) and writes each field of a packet by itself. Small packets
 * stand one behind the other in one block of memory, so that a turn has one piece to write as a rule.
 */
import { SlotTable } from '../signal/index.js';
import type { PacketIds } from './packet-ids.js';
import { LARGEST_PACKET, publishProperties, publishSize, topicBytes, writePublish } from './packets.js';
import type { Payload, PublishOptions, PublishOutcome, SendOutcome, WrittenPayload } from './ports.js';
import type { ProtocolVersion } from './version-memory.js';

/** Above this a payload is handed on as it is: the copy would cost more than a second piece in the write. */
const COPY_BELOW = 16 * 1024;
/** Memory that packets are written into until it is full. */
const BLOCK = 32 * 1024;
const TAKEN: PublishOutcome = Object.freeze({ kind: 'acknowledged', reasonCode: 0 });
const CUT: SendOutcome = Object.freeze({ kind: 'cut' });

/** What the broker allows. */
export interface PublishLimits {
  readonly maximumPacketSize: number | undefined;
  readonly retainAvailable: boolean;
}

interface Pending {
  readonly size: number;
  readonly done: (outcome: SendOutcome) => void;
}

export class Publications {
  readonly #pending = new SlotTable<Pending>();
  /** The packets of this turn: these, and what stands in the block from `#from` to `#to`. */
  #pieces: Buffer[] = [];
  #block: Buffer = Buffer.alloc(0);
  #from = 0;
  #to = 0;
  /** The last topic: most publications have the same. */
  #topic = { text: '', bytes: topicBytes('') };
  #isClosed = false;

  /** `write` takes the bytes of all packets since the last flush; `due` is called when a flush has something to write. */
  constructor(
    private readonly ids: PacketIds,
    private readonly version: ProtocolVersion,
    private readonly write: (pieces: readonly Buffer[]) => void,
    private readonly due: () => void,
  ) {}

  /** The size in bytes of the largest packet that waits for its answer. */
  get largestPending(): number {
    let largest = 0;
    for (const { size } of this.#pending.values()) largest = Math.max(largest, size);
    return largest;
  }

  /** `done` is called once: with the answer (at QoS 0 and for what is too large before this returns), or by `close`. */
  publish(
    topic: string,
    payload: Payload,
    options: PublishOptions,
    limits: PublishLimits,
    done: (outcome: SendOutcome) => void,
  ): void {
    if (topic !== this.#topic.text) this.#topic = { text: topic, bytes: topicBytes(topic) };
    const { bytes } = this.#topic;
    const { qos = 1 } = options;
    const properties = publishProperties(options, this.version);
    const length = lengthOf(payload);
    const size = publishSize(bytes, length, qos, properties);
    const limit = Math.min(limits.maximumPacketSize ?? LARGEST_PACKET, LARGEST_PACKET);
    if (size > limit) {
      done({ kind: 'too-large', size, limit });
      return;
    }
    const id = qos === 0 ? 0 : this.ids.allocate();
    if (id === null) throw new RangeError('65,535 publications wait for their answer, and MQTT counts no further');
    const isRetained = options.retain === true && limits.retainAvailable;
    const isCopied = length < COPY_BELOW || isWritten(payload);
    const at = this.#room(isCopied ? size : size - length);
    const end = writePublish({ topic: bytes, qos, id, isRetained, properties }, length, this.#block, at);
    if (!isCopied) this.#endPiece();
    if (isWritten(payload)) payload.writeTo(this.#block, end);
    else if (Buffer.isBuffer(payload)) this.#add(payload, isCopied, end);
    else {
      let to = end;
      for (const piece of payload) to = this.#add(piece, isCopied, to);
    }
    this.due();
    if (qos === 0) done(TAKEN);
    else this.#pending.add(id, { size, done });
  }

  /** The PUBACK for a packet id came; false when nobody waits for it. */
  answered(id: number, reasonCode: number): boolean {
    const pending = this.#pending.get(id);
    if (pending === undefined) return false;
    this.#pending.delete(id);
    this.ids.deallocate(id);
    pending.done(reasonCode === 0 ? TAKEN : { kind: 'acknowledged', reasonCode });
    return true;
  }

  /** Small packets of another kind, which leave with the next flush; they do not wait for large ones. */
  goWith(packets: Buffer): void {
    if (this.#pieces.length > 0) this.#pieces.unshift(packets);
    else this.#add(packets, true, this.#room(packets.length));
  }

  /** Writes what was published since the last time. */
  flush(): void {
    this.#endPiece();
    const pieces = this.#pieces;
    if (this.#isClosed || pieces.length === 0) return;
    this.#pieces = [];
    this.write(pieces);
  }

  /** The connection has ended: nothing is written any more, and no answer comes. */
  close(): void {
    this.#isClosed = true;
    this.#pieces = [];
    const pending = this.#pending.values();
    this.#pending.clear();
    for (const { done } of pending) done(CUT);
  }

  /** Where in the block so many bytes may be written. */
  #room(size: number): number {
    if (this.#block.length - this.#to < size) {
      this.#endPiece();
      this.#block = Buffer.allocUnsafeSlow(Math.max(BLOCK, size));
      this.#from = this.#to = 0;
    }
    const at = this.#to;
    this.#to += size;
    return at;
  }

  /** A payload or a piece of one: into the block at `at`, or as it is. Returns the position behind it there. */
  #add(payload: Buffer, isCopied: boolean, at: number): number {
    if (isCopied) this.#block.set(payload, at);
    else this.#pieces.push(payload);
    return at + payload.length;
  }

  #endPiece(): void {
    if (this.#from === this.#to) return;
    this.#pieces.push(this.#block.subarray(this.#from, this.#to));
    this.#from = this.#to;
  }
}

function isWritten(payload: Payload): payload is WrittenPayload {
  return 'writeTo' in payload;
}

function lengthOf(payload: Payload): number {
  if (isWritten(payload)) return payload.size;
  if (Buffer.isBuffer(payload)) return payload.length;
  let length = 0;
  for (const piece of payload) length += piece.length;
  return length;
}
