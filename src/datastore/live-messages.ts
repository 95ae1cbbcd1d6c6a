/**
 * The live messages, each with the keys under which the journal has it: texts that are asked for when it comes in and
 * again when it leaves, and one that is made anew has to be put together, hashed and compared anew.
 */
import type Loki from 'lokijs';
import type { LiveRecord, MessageKey } from '../message/index.js';
import { SlotTable } from '../signal/index.js';
import { LiveCollection } from './live-collection.js';

/** Where the journal has a message. */
export interface JournalKeys {
  readonly recordKey: string;
  /** Of what is known of its id; undefined where that is not kept, or by another key. */
  readonly idKey: string | undefined;
}

export class LiveMessages extends LiveCollection<MessageKey, LiveRecord> {
  readonly #keys = new SlotTable<JournalKeys>();

  /** @internal */
  constructor(database: Loki) {
    super(database, 'messages', ({ key }) => key, new SlotTable());
  }

  /** As `put`, for a message that has just come. Its keys are as long here as it is live. */
  come(record: LiveRecord, keys: JournalKeys): void {
    this.put(record);
    this.#keys.add(record.key, keys);
  }

  /** Undefined for a message that was read from the journal: they have to be made. */
  keysOf(key: MessageKey): JournalKeys | undefined {
    return this.#keys.get(key);
  }

  override remove(key: MessageKey): void {
    super.remove(key);
    this.#keys.delete(key);
  }

  override clear(): void {
    super.clear();
    this.#keys.clear();
  }
}
