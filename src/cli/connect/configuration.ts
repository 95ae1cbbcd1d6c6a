/**
 * The agent's configuration file as `ygg connect` changes it: all problems are found before anything is written, and a
 * file that the agent would refuse is never left behind.
 */
import { dirname, resolve } from 'node:path';
import { loadSettings, problemsError, type Settings } from '../../config/index.js';
// Not by the face of config: what all programs load would hold it, too.
import { amendToml, plainSettings, type Changes } from '../../config/amend.js';
import { AgentError } from '../../errors.js';
import { readIfThere, replaceText } from './files.js';

/** Where the agent of a machine has it. */
const SYSTEM_FILE = '/etc/yggdrasil/config.toml';

/** A text that may be written: the agent takes it. */
export interface AmendedText {
  readonly text: string;
  readonly settings: Settings;
  readonly isChanged: boolean;
}

export class Configuration {
  private constructor(
    readonly file: string,
    private readonly text: string,
  ) {}

  static async read(file: string | undefined): Promise<Configuration> {
    const path = resolve(file ?? SYSTEM_FILE);
    return new Configuration(path, (await readIfThere(path))?.bytes.toString('utf8') ?? '');
  }

  get directory(): string {
    return dirname(this.file);
  }

  /** The value that the file itself gives, if it is text or a list of texts. */
  value(name: keyof Changes): string | readonly string[] | undefined {
    return plainSettings(this.text)[name];
  }

  /** Throws `config.invalid` with all that the agent would refuse, `connect.file` where the text cannot be amended. */
  async amended(changes: Changes): Promise<AmendedText> {
    const amended = amendToml(this.text, changes, this.file);
    if (amended.kind === 'refused') throw new AgentError('connect.file', amended.reason);
    const { text } = amended;
    const loaded = await loadSettings({
      argv: ['--config', this.file],
      // The service has an environment of its own.
      env: {},
      readText: () => Promise.resolve(text),
    });
    if (loaded.kind === 'invalid') {
      if (loaded.problems.every(({ code }) => code === 'config.no_broker'))
        throw new AgentError(
          'connect.usage',
          `no broker is set in ${this.file}: name it with --broker mqtts://HOST:PORT`,
        );
      throw problemsError(loaded.problems);
    }
    if (loaded.kind !== 'ok') throw new Error(`${this.file} asks for ${loaded.kind}`);
    return { text, settings: loaded.settings, isChanged: text !== this.text };
  }

  /** Writes it in one step, with the owner and mode of the old one. */
  async write({ text, isChanged }: AmendedText): Promise<void> {
    if (isChanged) await replaceText(this.file, text);
  }

  /** Takes settings out; what is left need not be enough for an agent. Throws `connect.file`. */
  async withdraw(names: readonly string[]): Promise<void> {
    const changes: Changes = Object.fromEntries(names.map((name) => [name, undefined]));
    const amended = amendToml(this.text, changes, this.file);
    if (amended.kind === 'refused') throw new AgentError('connect.file', amended.reason);
    if (amended.text !== this.text) await replaceText(this.file, amended.text);
  }
}
