/**
 * Which received messages still wait for their PUBACK. PUBACKs leave in the order in which the messages arrived
 * [MQTT-4.6.0-2]: an acknowledged one waits for those before it. All that became due in one turn of the event loop go
 * out at its end in one write. A queue belongs to one connection: once closed it writes nothing, so that an acknowledgement that
 * comes late never reaches another connection, where its packet id means another message.
 */
import { crashPoint } from '../crash-point.js';

/** Beside a packet id, which has 16 bits. */
const ACKNOWLEDGED = 0x10000;
const PUBACK = 0x40;
/** Fixed header, remaining length 2, packet id. MQTT 5 lets the reason code 0 be left out [MQTT5-3.4.2.1]. */
const PUBACK_LENGTH = 4;

export class AckQueue {
  /**
   * Packet ids in order of arrival; those before `#head` are done. Of a message no more is kept here: one that waits for
   * those before it would hold its payload.
   */
  #ids: number[] = [];
  #head = 0;
  /** The place of the first of them. */
  #first = 0;
  #isClosed = false;

  /** `write` takes the bytes of a batch of PUBACKs; `due` is called when there are some that a flush would write. */
  constructor(
    private readonly write: (pubacks: Buffer) => void,
    private readonly due: () => void,
  ) {}

  /** Messages that were received and not acknowledged to the broker. */
  get depth(): number {
    return this.#ids.length - this.#head;
  }

  /** Notes a message that arrived; the answer is its place in the queue. */
  arrived(packetId: number): number {
    return this.#first + this.#ids.push(packetId) - 1;
  }

  /** The PUBACK of the message at a place goes out with the next flush, or when those before it are acknowledged. Idempotent. */
  acknowledge(place: number): void {
    const at = place - this.#first;
    const id = this.#ids[at];
    if (this.#isClosed || at < this.#head || id === undefined) return;
    this.#ids[at] = id | ACKNOWLEDGED;
    if (at === this.#head) this.due();
  }

  /** Writes what is due; false when nothing is. */
  flush(): boolean {
    if (this.#isClosed) return false;
    let end = this.#head;
    while (((this.#ids[end] ?? 0) & ACKNOWLEDGED) !== 0) end += 1;
    if (end === this.#head) return false;
    const bytes = Buffer.allocUnsafe((end - this.#head) * PUBACK_LENGTH);
    for (let offset = 0; this.#head < end; this.#head++, offset += PUBACK_LENGTH) {
      bytes[offset] = PUBACK;
      bytes[offset + 1] = 2;
      bytes.writeUInt16BE((this.#ids[this.#head] ?? 0) & ~ACKNOWLEDGED, offset + 2);
    }
    this.#forgetDone();
    FAULT: crashPoint('puback.before-write');
    this.write(bytes);
    return true;
  }

  /** The connection has ended: nothing is written any more. */
  close(): void {
    this.#isClosed = true;
    this.#ids = [];
    this.#head = 0;
  }

  /** Moving the rest down at each flush would be quadratic when many wait. */
  #forgetDone(): void {
    if (this.#head < this.#ids.length && (this.#head <= 1024 || this.#head * 2 <= this.#ids.length)) return;
    this.#first += this.#head;
    this.#ids = this.#ids.slice(this.#head);
    this.#head = 0;
  }
}
