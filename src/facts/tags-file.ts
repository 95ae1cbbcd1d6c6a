/**
 * tags.toml, kept up to date. The file is looked at every few seconds instead of being watched: that is the same for a
 * file that is written, renamed into place, removed, made again, or whose directory goes and comes, and it is tiny. A
 * file that is wrong leaves the last good tags and is told once.
 */
import { readFile } from 'node:fs/promises';
import { errnoOf, errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import { Signal } from '../signal/index.js';
import { untilBeat, type Clock, type Millis } from '../time.js';
import type { ParseTags, Tags } from './ports.js';

export interface TagsFileOptions {
  readonly path: string;
  readonly parse: ParseTags;
  readonly clock: Clock;
  readonly log: Log;
  readonly interval?: Millis;
}

const INTERVAL = 5000;

type Seen =
  | { readonly kind: 'missing' }
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'fault'; readonly reason: string };

export class TagsFile {
  /** The tags are others now. */
  readonly changed = new Signal<Tags>('tags.changed');
  readonly #options: TagsFileOptions;
  #tags: Tags = {};
  #seen: string | undefined;
  #suspect: string | undefined;
  #scope: AbortController | undefined;
  #looking: Promise<void> = Promise.resolve();

  constructor(options: TagsFileOptions) {
    this.#options = options;
  }

  /** The tags of the last good file; empty when there is none. */
  get tags(): Tags {
    return this.#tags;
  }

  /** Reads the file and goes on looking until `stop`. A file that is missing or wrong is no failure. */
  async start(): Promise<void> {
    if (this.#scope !== undefined) return;
    const scope = new AbortController();
    this.#scope = scope;
    await this.refresh();
    this.#lookLater(scope.signal);
  }

  /** Idempotent; resolves when a look that is under way has ended. */
  async stop(): Promise<void> {
    this.#scope?.abort();
    this.#scope = undefined;
    await this.#looking;
  }

  /** Looks now (SIGHUP), and takes what is there as finished. */
  refresh(): Promise<void> {
    return this.#look(true);
  }

  /** Resolves when no look is under way. */
  async settled(): Promise<void> {
    await this.#looking;
  }

  #lookLater(scope: AbortSignal): void {
    const { clock, interval = INTERVAL } = this.#options;
    const look = (): void => void this.#look(false).then(() => this.#lookLater(scope));
    clock.after(untilBeat(clock, interval), look, scope);
  }

  #look(isFinished: boolean): Promise<void> {
    // One look after the other: a slow disk must not let an older text win.
    this.#looking = this.#looking.then(async () => this.#take(await this.#read(), isFinished));
    return this.#looking;
  }

  async #read(): Promise<Seen> {
    try {
      return { kind: 'text', text: await readFile(this.#options.path, 'utf8') };
    } catch (error) {
      if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return { kind: 'missing' };
      return { kind: 'fault', reason: errorText(error) };
    }
  }

  #take(seen: Seen, isFinished: boolean): void {
    const mark = JSON.stringify(seen);
    if (mark === this.#seen) return;
    const result = this.#tagsOf(seen);
    if (result.kind === 'invalid') {
      // It may be half written: only a text that is still wrong at the next look is told.
      if (!isFinished && mark !== this.#suspect) {
        this.#suspect = mark;
        return;
      }
      this.#seen = mark;
      const { log, path } = this.#options;
      log.error('tags.invalid', `the tags stay as they were, until the file is mended: ${result.problems.join('; ')}`, {
        path,
      });
      return;
    }
    this.#seen = mark;
    this.#suspect = undefined;
    if (isSame(this.#tags, result.tags)) return;
    this.#tags = result.tags;
    this.changed.emit(result.tags);
  }

  #tagsOf(seen: Seen): ReturnType<ParseTags> {
    const { path, parse } = this.#options;
    switch (seen.kind) {
      case 'missing':
        return { kind: 'ok', tags: {} };
      case 'fault':
        return { kind: 'invalid', problems: [`${path}: ${seen.reason}`] };
      case 'text':
        return parse(seen.text, path);
    }
  }
}

function isSame(one: Tags, other: Tags): boolean {
  const names = Object.keys(one);
  return (
    names.length === Object.keys(other).length &&
    names.every((name) => Object.hasOwn(other, name) && one[name] === other[name])
  );
}
