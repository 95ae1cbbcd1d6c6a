/**
 * Which workers an operator has stopped: they stay so until they are started by hand, whatever becomes of their file, of
 * the agent or of the machine. What cannot be written down holds all the same while the agent runs.
 */
import { readFile } from 'node:fs/promises';
import { errnoOf, errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import { parseWorkerName, type WorkerName } from '../message/index.js';
import type { Millis } from '../time.js';
import { replaceFile } from './atomic.js';
import type { Candidate } from './state.js';

export class Holds {
  /** Worker → the wall time at which it was stopped. */
  readonly #since = new Map<WorkerName, Millis>();
  #writing: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly path: string,
    private readonly log: Log,
  ) {}

  /** Reads what was written down. A file that cannot be understood is told, and holds nothing. */
  async read(): Promise<void> {
    try {
      const held = parseHolds(await readFile(this.path, 'utf8'));
      if (held === undefined) throw new Error('it is damaged');
      for (const [name, since] of held) this.#since.set(name, since);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return;
      const text = `cannot read ${this.path}: ${errorText(error)}; workers that were stopped by hand are started`;
      this.log.error('process.holds_unreadable', text);
    }
  }

  has(name: WorkerName): boolean {
    return this.#since.has(name);
  }

  /** From now on; resolves with what kept it from being written down, if anything did. */
  add(name: WorkerName, now: Millis): Promise<string | undefined> {
    if (!this.has(name)) this.#since.set(name, now);
    return this.#write();
  }

  /** As `add`. */
  remove(name: WorkerName): Promise<string | undefined> {
    this.#since.delete(name);
    return this.#write();
  }

  /** The candidates, with the reason at each that is held. */
  mark(candidates: ReadonlyMap<WorkerName, Candidate>): ReadonlyMap<WorkerName, Candidate> {
    if (this.#since.size === 0) return candidates;
    return new Map([...candidates].map(([name, candidate]) => [name, this.#marked(candidate)]));
  }

  #marked(candidate: Candidate): Candidate {
    const since = this.#since.get(candidate.name);
    if (since === undefined) return candidate;
    const at = new Date(since).toISOString();
    return { ...candidate, hold: `stopped by hand at ${at}; \`ygg workers start ${candidate.name}\` starts it` };
  }

  /** One write after the other, each with what holds then. */
  async #write(): Promise<string | undefined> {
    const before = this.#writing;
    const writing = (async () => {
      await before;
      try {
        await replaceFile(this.path, `${JSON.stringify(Object.fromEntries(this.#since))}\n`);
        return undefined;
      } catch (error) {
        return `cannot write ${this.path}: ${errorText(error)}`;
      }
    })();
    this.#writing = writing;
    return writing;
  }
}

/** The codec of the file; undefined for what is none. */
export function parseHolds(text: string): ReadonlyMap<WorkerName, Millis> | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // Not JSON is one way of not being such a file.
    return undefined;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const held = new Map<WorkerName, Millis>();
  for (const [word, since] of Object.entries(value)) {
    const name = parseWorkerName(word);
    if (name === undefined || typeof since !== 'number' || !(Math.abs(since) <= LATEST)) return undefined;
    held.set(name, since);
  }
  return held;
}

/** The latest time a Date can hold. */
const LATEST = 8.64e15;
