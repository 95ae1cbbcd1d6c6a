/**
 * The durable note of the children that run now, so that the next agent can end those that outlive this one. Only the
 * newest state counts: writes that wait are folded into one. A note that cannot be written costs no worker its start;
 * the search by environment finds its processes too.
 */
import { readFile } from 'node:fs/promises';
import { errnoOf, errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import { replaceFile } from './atomic.js';
import type { ProcessIdentity } from './proc.js';

export interface NotedChild extends ProcessIdentity {
  readonly name: string;
  readonly executable: string;
}

export interface ChildrenNote {
  readonly bootId: string;
  readonly children: readonly NotedChild[];
}

export class ChildNote {
  readonly #children = new Map<number, NotedChild>();
  #writing: Promise<void> | undefined;
  #isDirty = false;
  #isFailing = false;

  constructor(
    private readonly path: string,
    private readonly log: Log,
  ) {}

  /** What the agent before noted; empty when there is none or it cannot be understood. */
  async read(): Promise<ChildrenNote> {
    const nothing: ChildrenNote = { bootId: '', children: [] };
    try {
      const note = parseNote(await readFile(this.path, 'utf8'));
      if (note !== undefined) return note;
      this.log.warn('process.note_unreadable', `${this.path} is damaged; orphans are searched for in /proc alone`);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') {
        const text = `cannot read ${this.path}: ${errorText(error)}; orphans are searched for in /proc alone`;
        this.log.warn('process.note_unreadable', text);
      }
    }
    return nothing;
  }

  add(bootId: string, child: NotedChild): Promise<void> {
    this.#children.set(child.pid, child);
    return this.#write(bootId);
  }

  remove(bootId: string, pid: number): Promise<void> {
    return this.#children.delete(pid) ? this.#write(bootId) : this.flush();
  }

  /** Resolves when what was added and removed stands on disk. */
  async flush(): Promise<void> {
    await this.#writing;
  }

  #write(bootId: string): Promise<void> {
    this.#isDirty = true;
    this.#writing ??= this.#writeWhileDirty(bootId);
    return this.#writing;
  }

  async #writeWhileDirty(bootId: string): Promise<void> {
    while (this.#isDirty) {
      this.#isDirty = false;
      const note: ChildrenNote = { bootId, children: [...this.#children.values()] };
      try {
        await replaceFile(this.path, `${JSON.stringify(note)}\n`);
        this.#isFailing = false;
      } catch (error) {
        if (!this.#isFailing) {
          const text = `cannot note the running workers in ${this.path}: ${errorText(error)}; check state-dir`;
          this.log.error('process.note_failed', text);
        }
        this.#isFailing = true;
      }
    }
    // In the same turn as the last check above, or a change in between would not be written.
    this.#writing = undefined;
  }
}

/** The note's codec; undefined for what is none. */
export function parseNote(text: string): ChildrenNote | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // Not JSON is one way of not being a note.
    return undefined;
  }
  if (!isRecord(value) || typeof value['bootId'] !== 'string' || !Array.isArray(value['children'])) return undefined;
  const children: unknown[] = value['children'];
  return children.every(isNotedChild) ? { bootId: value['bootId'], children } : undefined;
}

function isNotedChild(value: unknown): value is NotedChild {
  return (
    isRecord(value) &&
    typeof value['name'] === 'string' &&
    typeof value['executable'] === 'string' &&
    typeof value['startTime'] === 'string' &&
    Number.isSafeInteger(value['pid']) &&
    // 1 is init, and 0 and below would be a whole group to kill(2).
    Number(value['pid']) > 1
  );
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
