/**
 * Which received messages still wait for their PUBACK. PUBACKs leave in the order in which the messages arrived
 * [MQTT-4.6.0-2]: an acknowledged one waits for those before it. All that became due in one turn of the event loop go
 * out at its end in one write. A queue belongs to one connection: once closed it writes nothing, so that an acknowledgement that
 * comes late never reaches another connection, where its packet id means another message.
 */
import { crashPoint } from '../crash-point.js';

/** A received message that is to be acknowledged. */
export interface PendingAck {
  readonly packetId: number;
  isAcknowledged: boolean;
}

const PUBACK = 0x40;
/** Fixed header, remaining length 2, packet id. MQTT 5 lets the reason code 0 be left out [MQTT5-3.4.2.1]. */
const PUBACK_LENGTH = 4;

export class AckQueue {
  /** In order of arrival; those before `#head` are done. */
  #entries: PendingAck[] = [];
  #head = 0;
  #isClosed = false;

  /** `write` takes the bytes of a batch of PUBACKs; `due` is called when there are some that a flush would write. */
  constructor(
    private readonly write: (pubacks: Buffer) => void,
    private readonly due: () => void,
  ) {}

  /** Messages that were received and not acknowledged to the broker. */
  get depth(): number {
    return this.#entries.length - this.#head;
  }

  /** Notes a message that arrived. */
  arrived(entry: PendingAck): void {
    this.#entries.push(entry);
  }

  /** Its PUBACK goes out with the next flush, or when those before it are acknowledged. Idempotent. */
  acknowledge(entry: PendingAck): void {
    entry.isAcknowledged = true;
    if (!this.#isClosed && this.#entries[this.#head] === entry) this.due();
  }

  /** Writes what is due; false when nothing is. */
  flush(): boolean {
    if (this.#isClosed) return false;
    let end = this.#head;
    while (this.#entries[end]?.isAcknowledged === true) end += 1;
    if (end === this.#head) return false;
    const bytes = Buffer.allocUnsafe((end - this.#head) * PUBACK_LENGTH);
    for (let offset = 0; this.#head < end; this.#head++, offset += PUBACK_LENGTH) {
      bytes[offset] = PUBACK;
      bytes[offset + 1] = 2;
      bytes.writeUInt16BE(this.#entries[this.#head]?.packetId ?? 0, offset + 2);
    }
    this.#forgetDone();
    FAULT: crashPoint('puback.before-write');
    this.write(bytes);
    return true;
  }

  /** The connection has ended: nothing is written any more. */
  close(): void {
    this.#isClosed = true;
    this.#entries = [];
    this.#head = 0;
  }

  /** Moving the rest down at each flush would be quadratic when many wait. */
  #forgetDone(): void {
    if (this.#head === this.#entries.length) {
      this.#entries = [];
      this.#head = 0;
    } else if (this.#head > 1024 && this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    }
  }
}
