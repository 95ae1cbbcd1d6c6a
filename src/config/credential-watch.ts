/**
 * Looks after the credential files: when one of them is another file or has other content (written, renamed into
 * place, a symbolic link moved), all are read and checked together. A pair that is wrong is told once and the old one
 * stays; it may be the first half of a change.
 */
import { stat } from 'node:fs/promises';
import type { Log } from '../log/log.js';
import { Signal } from '../signal/index.js';
import { untilBeat, type Clock, type Millis } from '../time.js';
import { checkCredentials, type Credentials, type CredentialSettings } from './credentials.js';
import { describeProblem } from './problem.js';

export interface CredentialWatchOptions {
  readonly settings: CredentialSettings;
  readonly clock: Clock;
  readonly log: Log;
  readonly interval?: Millis;
}

const INTERVAL = 10_000;

export class CredentialWatch {
  /** Credentials that were checked and differ from those before. */
  readonly changed = new Signal<Credentials>('credentials.changed');
  readonly #stopped = new AbortController();
  #mark = '';

  constructor(private readonly options: CredentialWatchOptions) {}

  /** Takes what is there now as known, and looks every few seconds until `scope` ends or `stop` is called. */
  async start(scope: AbortSignal): Promise<void> {
    this.#mark = await this.#look();
    this.#lookLater(AbortSignal.any([scope, this.#stopped.signal]));
  }

  stop(): void {
    this.#stopped.abort();
  }

  get #files(): readonly string[] {
    const { certFile, keyFile, caRoot, passwordFile, proxyCredentialsFile } = this.options.settings;
    return [certFile, keyFile, ...caRoot, passwordFile, proxyCredentialsFile].filter((file) => file !== undefined);
  }

  #lookLater(scope: AbortSignal): void {
    if (this.#files.length === 0) return;
    const { clock, interval = INTERVAL } = this.options;
    const check = (): void => void this.#check().then(() => this.#lookLater(scope));
    clock.after(untilBeat(clock, interval), check, scope);
  }

  async #check(): Promise<void> {
    const mark = await this.#look();
    if (mark === this.#mark) return;
    this.#mark = mark;
    const checked = await checkCredentials(this.options.settings);
    if (checked.kind === 'ok') {
      this.changed.emit(checked.credentials);
      return;
    }
    this.options.log.error('credentials.kept', 'the new credentials cannot be used; the old ones stay', {
      problems: checked.problems.map(describeProblem),
    });
  }

  /** What tells one state of the files from another. `stat` follows links, so a link that moved shows. */
  async #look(): Promise<string> {
    const marks = this.#files.map(async (file) => {
      try {
        const { dev, ino, size, mtimeMs, ctimeMs } = await stat(file);
        return [dev, ino, size, mtimeMs, ctimeMs].join(':');
      } catch {
        // Missing for a moment, or for longer: another state than any file.
        return 'missing';
      }
    });
    return (await Promise.all(marks)).join(' ');
  }
}
