/**
 * What the journal holds, written down with each commit: the bytes that live messages take, and which record names which
 * content file. So a start reads these few entries and the head of each queue, whatever the length of the backlog; where
 * they are missing or damaged, everything is counted anew.
 */
import { basename, join } from 'node:path';
import { spoolSize, type LiveRecord } from '../message/index.js';
import { END, type Change, type Journal, type Table } from './journal.js';
import { padded, recordNumber } from './keys.js';
import { decodeRecord, hasFile, isIntact, storedSize } from './record-codec.js';

/** What there is at a start. */
export interface Stock {
  /** Bytes of live messages and their files. */
  readonly bytes: number;
  /** Bytes of dead messages and theirs. */
  readonly deadBytes: number;
  /** No record has a greater key; undefined where nobody had to look. */
  readonly lastKey: number | undefined;
  /** Paths of the content files that have an owner, with the owner where it is a live message. */
  readonly files: ReadonlyMap<string, LiveRecord | undefined>;
  /** Records that fail their checksum, as far as they were met. */
  readonly torn: readonly (readonly [Table, string])[];
  /** What brings the written inventory up to date. */
  readonly changes: readonly Change[];
}

const BYTES = 'spool';

/** The inventory as it is written down. */
export class Inventory {
  /** As the latest commit has it. */
  #written: number | undefined;
  #isTrusted = true;

  constructor(
    private readonly journal: Journal,
    private readonly directory: string,
  ) {}

  take(): Stock {
    const bytes = Number(this.journal.get('facts', BYTES)?.toString());
    const stock = Number.isSafeInteger(bytes) && bytes >= 0 ? this.#read(bytes) : this.#count();
    this.#written = undefined;
    this.#isTrusted = true;
    return stock;
  }

  /** What to add to a commit, so that the inventory holds with it. `bytes`: what live messages take behind it. */
  changesFor(changes: readonly Change[], bytes: number): readonly Change[] {
    const added: Change[] = [];
    for (const { table, key, value } of changes) {
      if (table === 'records' && typeof value === 'object' && hasFile(value)) added.push(...this.#owner(key, value));
    }
    if (this.#isTrusted && bytes !== this.#written) {
      this.#written = bytes;
      added.push({ table: 'facts', key: BYTES, value: String(bytes) });
    }
    return added;
  }

  /** A torn record was met, and nobody knows how many bytes it was counted with: the next start counts anew. */
  distrust(): Change {
    this.#isTrusted = false;
    return { table: 'facts', key: BYTES, value: undefined };
  }

  /** A commit failed: what it would have written down is not there. */
  forget(): void {
    this.#written = undefined;
  }

  /** The content file is gone, or will be. */
  released(path: string): Change {
    return { table: 'files', key: basename(path), value: undefined };
  }

  /** The greatest key of all records: by reading the names of them all. */
  lastKey(): number {
    let last = 0;
    for (const table of ['records', 'dead'] as const)
      for (const [key] of this.journal.range(table, { after: '', before: END }))
        last = Math.max(last, recordNumber(key) ?? 0);
    return last;
  }

  #owner(key: string, value: Buffer): readonly Change[] {
    const content = decodeRecord(value, this.directory)?.content;
    if (content?.kind !== 'file') return [];
    return [{ table: 'files', key: basename(content.path), value: Buffer.from(key) }];
  }

  #read(bytes: number): Stock {
    const files = new Map<string, LiveRecord | undefined>();
    const changes: Change[] = [];
    for (const [name, value] of this.journal.range('files', { after: '', before: END })) {
      const key = value.toString();
      const live = this.journal.get('records', key);
      const record = live && decodeRecord(live, this.directory);
      const number = recordNumber(key);
      if (record !== undefined && record.kind !== 'dead') files.set(join(this.directory, name), record);
      else if (number !== undefined && this.journal.get('dead', padded(number)) !== undefined)
        files.set(join(this.directory, name), undefined);
      else changes.push({ table: 'files', key: name, value: undefined });
    }
    return { bytes, ...this.#dead(), lastKey: undefined, files, changes };
  }

  /** Dead messages are few, within dead-limit: each is looked at. */
  #dead(): Pick<Stock, 'deadBytes' | 'torn'> {
    const torn: [Table, string][] = [];
    let deadBytes = 0;
    for (const [key, bytes] of this.journal.range('dead', { after: '', before: END })) {
      if (isIntact(bytes)) deadBytes += storedSize(bytes);
      else torn.push(['dead', key]);
    }
    return { deadBytes, torn };
  }

  /** Reads every message: 25 µs each, five seconds for 200,000. */
  #count(): Stock {
    const files = new Map<string, LiveRecord | undefined>();
    const torn: [Table, string][] = [];
    const changes: Change[] = [];
    let [bytes, deadBytes, lastKey] = [0, 0, 0];
    for (const [key, value] of this.journal.range('records', { after: '', before: END })) {
      const record = decodeRecord(value, this.directory);
      if (record === undefined || record.kind === 'dead' || record.key !== recordNumber(key)) {
        torn.push(['records', key]);
        continue;
      }
      lastKey = Math.max(lastKey, record.key);
      bytes += spoolSize(record);
      if (record.content.kind === 'file') files.set(record.content.path, record);
      changes.push(...this.#owner(key, value));
    }
    for (const [key, value] of this.journal.range('dead', { after: '', before: END })) {
      const record = decodeRecord(value, this.directory);
      if (record === undefined) {
        torn.push(['dead', key]);
        continue;
      }
      lastKey = Math.max(lastKey, record.key);
      deadBytes += storedSize(value);
      if (record.content.kind !== 'file') continue;
      files.set(record.content.path, undefined);
      // The number is what finds it: its place among the live ones is not known any more.
      changes.push({ table: 'files', key: basename(record.content.path), value: Buffer.from(`dead/${key}`) });
    }
    changes.push({ table: 'facts', key: BYTES, value: Buffer.from(String(bytes)) });
    return { bytes, deadBytes, lastKey, files, torn, changes };
  }
}
