/**
 * Small things that must survive a restart: who owns a directive, the last `sent`, commands that were carried out,
 * cancels that wait for their message.
 */
import { parseWorkerName, type DirectiveKey, type WorkerName } from '../message/index.js';
import type { Change } from './journal.js';
import { cancelKey, commandKey, ownerKey, under } from './keys.js';
import type { Ledger } from './ledger.js';

const SENT = 'sent';
/** How long a cancel waits for its message (CONTRACT 1.8), and a command's id is remembered (as long as a session). */
const CANCEL_AGE_MS = 24 * 3600_000;
const COMMAND_AGE_MS = 7 * 24 * 3600_000;
/** Looked at in one turn. */
const BATCH = 256;
/** A `sent` from here on cannot be written as RFC 3339 has it: that was no time of ours. */
const LATEST_SENT = Date.UTC(9999, 0);

/** A number that was kept as text, without a checksum; 0 where it was damaged, as if it had never been. */
function numberFrom(bytes: Buffer | undefined): number {
  const number = Number(bytes?.toString());
  return Number.isSafeInteger(number) && number > 0 ? number : 0;
}

export class SmallFacts {
  readonly #owners = new Map<DirectiveKey, WorkerName | undefined>();
  /** Whether a cancel was kept since the start, or before it: almost always none was, and nobody has to look for one. */
  #hasCancels = false;
  #lastSent = 0;
  /** How far the search for what is too old has come. */
  readonly #cursors = new Map<string, string>();

  constructor(private readonly ledger: Ledger) {}

  /** Reads what is asked often. */
  open(): void {
    this.#owners.clear();
    for (const [key, value] of this.ledger.journal.range('facts', under('owner/'))) {
      // An empty value: the directive is known, its owner was released.
      this.#owners.set(key.slice('owner/'.length) as DirectiveKey, parseWorkerName(value.toString()));
    }
    const sent = numberFrom(this.ledger.journal.get('facts', SENT));
    this.#lastSent = sent < LATEST_SENT ? sent : 0;
    this.#cursors.clear();
    const cancels = this.ledger.journal.range('facts', { ...under('cancel/'), limit: 1 });
    this.#hasCancels = [...cancels].length > 0;
  }

  /** Forgets some of the cancels and commands that are too old; true when it has come to the end of both. */
  async expire(): Promise<boolean> {
    const isEndOfCancels = await this.#expire('cancel/', CANCEL_AGE_MS);
    const isEndOfCommands = await this.#expire('command/', COMMAND_AGE_MS);
    return isEndOfCancels && isEndOfCommands;
  }

  ownerOf(directive: DirectiveKey): WorkerName | undefined {
    return this.#owners.get(directive);
  }

  /** Whether any worker ever registered this directive. */
  isKnown(directive: DirectiveKey): boolean {
    return this.#owners.has(directive);
  }

  /** The directives that a worker registered at some time. */
  get known(): Iterable<DirectiveKey> {
    return this.#owners.keys();
  }

  async claim(directive: DirectiveKey, worker: WorkerName): Promise<void> {
    const before = this.#owners.get(directive);
    const wasKnown = this.#owners.has(directive);
    if (before === worker) return;
    this.#owners.set(directive, worker);
    try {
      await this.ledger.commit([{ table: 'facts', key: ownerKey(directive), value: Buffer.from(worker) }]);
    } catch (error) {
      // Else a second try would find it owned and be content, and the next start would know nothing of it.
      if (wasKnown) this.#owners.set(directive, before);
      else this.#owners.delete(directive);
      throw error;
    }
  }

  /** Frees what `worker` owns, or only one directive of it; the directives stay known. */
  async releaseOwner(worker: WorkerName, only?: DirectiveKey): Promise<void> {
    const freed = [...this.#owners].flatMap(([directive, owner]) =>
      owner === worker && (only === undefined || only === directive) ? [directive] : [],
    );
    if (freed.length === 0) return;
    for (const directive of freed) this.#owners.set(directive, undefined);
    try {
      await this.ledger.commit(
        freed.map((directive): Change => ({ table: 'facts', key: ownerKey(directive), value: Buffer.alloc(0) })),
      );
    } catch (error) {
      // Else it would be free now and taken after the next start. Whoever claimed one meanwhile keeps it.
      for (const directive of freed) {
        if (this.#owners.get(directive) === undefined) this.#owners.set(directive, worker);
      }
      throw error;
    }
  }

  /**
   * The wall time to publish as `sent`: max(now, last + 1), durable before it is used (PROTOCOL, Presence). A disk that
   * cannot be written must not keep the agent off line: then it only stays true while this process runs.
   */
  async reserveSent(now: number): Promise<number> {
    this.#lastSent = Math.max(now, this.#lastSent + 1);
    const sent = this.#lastSent;
    try {
      await this.ledger.commit([{ table: 'facts', key: SENT, value: Buffer.from(String(sent)) }]);
    } catch (error) {
      this.ledger.log.error('journal.write_failed', 'the time of a status could not be recorded', { error });
    }
    return sent;
  }

  recordCommand(messageId: string): Promise<void> {
    return this.ledger.commit([{ table: 'facts', key: commandKey(messageId), value: this.#now() }]);
  }

  isCommandRecorded(messageId: string): boolean {
    return this.ledger.get('facts', commandKey(messageId)) !== undefined;
  }

  keepCancel(directive: DirectiveKey, messageId: string): Promise<void> {
    this.#hasCancels = true;
    return this.ledger.commit([{ table: 'facts', key: cancelKey(directive, messageId), value: this.#now() }]);
  }

  /** The change that uses a waiting cancel up, or undefined when none waits. */
  takeCancel(directive: DirectiveKey, messageId: string): Change | undefined {
    if (!this.#hasCancels) return undefined;
    const key = cancelKey(directive, messageId);
    const at = this.ledger.get('facts', key);
    if (at === undefined || numberFrom(at) + CANCEL_AGE_MS < this.ledger.clock.now()) return undefined;
    return { table: 'facts', key, value: undefined };
  }

  #now(): Buffer {
    return Buffer.from(String(this.ledger.clock.now()));
  }

  async #expire(prefix: string, age: number): Promise<boolean> {
    const { after: start, before } = under(prefix);
    const after = this.#cursors.get(prefix) ?? start;
    const changes: Change[] = [];
    let read = 0;
    let last = start;
    for (const [key, value] of this.ledger.journal.range('facts', { after, before, limit: BATCH })) {
      read += 1;
      last = key;
      if (numberFrom(value) + age < this.ledger.clock.now()) changes.push({ table: 'facts', key, value: undefined });
    }
    const isEnd = read < BATCH;
    this.#cursors.set(prefix, isEnd ? start : last);
    if (changes.length > 0) await this.ledger.commit(changes);
    return isEnd;
  }
}
