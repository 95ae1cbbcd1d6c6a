/**
 * A worker's own file, `workers/<executable>.toml` below config-dir: read each time the worker is started. A wrong
 * file keeps that worker waiting and no other.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { WorkerName } from '../message/ids.js';
import { isName, NAME_RULE } from '../message/ids.js';
import type { Millis } from '../time.js';
import { choice, duration, integer, list, size, text, type Kind } from './kinds.js';
import { ORIGINAL_WORKER_KEYS } from './original.js';
import { describeProblem, didYouMean, type Problem } from './problem.js';
import { describeToml, type ReadText, type TomlEntry, type TomlFile } from './toml-file.js';
import { execOf, findWorkerFile, type ListNames } from './worker-file.js';

export interface WorkerSettings {
  /** The names it may register; undefined: the first to register a name owns it. */
  readonly handlers: readonly string[] | undefined;
  readonly env: Readonly<Record<string, string>>;
  readonly args: readonly string[];
  readonly user?: string;
  readonly group?: string;
  /** Calls in flight at once. */
  readonly concurrency?: number;
  readonly socket: 'path' | 'abstract';
  readonly startTimeout: Millis;
  readonly stopTimeout: Millis;
  /** How long one call may take before the worker is stopped. */
  readonly deadline?: Millis;
  readonly restart: 'always' | 'never';
  /** Largest message it takes, in bytes. */
  readonly maxMessageSize?: number;
  /** In bytes. */
  readonly memoryMax?: number;
  /** Per cent of one processor. */
  readonly cpuMax?: number;
}

export type WorkerSettingsResult =
  | { readonly kind: 'ok'; readonly settings: WorkerSettings; readonly warnings: readonly string[] }
  | { readonly kind: 'invalid'; readonly problems: readonly string[] };

export interface WorkerSettingsOptions {
  readonly configDir: string;
  readonly name: WorkerName;
  readonly readText?: ReadText;
  readonly listNames?: ListNames;
  /** Of Node, such as 20.19.0. */
  readonly nodeVersion?: string;
}

const handlerName = text({ expects: `a name: ${NAME_RULE}`, test: isName });
const account = text({ expects: 'a name' });

/** Every key of a worker's file but `env`, with the line that documents it. */
export const WORKER_KEYS = {
  handlers: { kind: list(handlerName), doc: 'Names it may register; unset: the first to register a name owns it.' },
  args: { kind: list(text()), doc: 'Arguments of the executable.' },
  user: { kind: account, doc: 'User it runs as, when the daemon is root.' },
  group: { kind: account, doc: 'Group it runs as, when the daemon is root.' },
  concurrency: { kind: integer(1, 10_000), doc: 'Calls in flight at once; unset: 1, or what the worker says.' },
  socket: { kind: choice(['path', 'abstract'], 'KIND'), doc: 'Kind of its sockets.' },
  'start-timeout': { kind: duration({ min: 1 }), doc: 'Time until it has registered.' },
  'stop-timeout': { kind: duration(), doc: 'Time between SIGTERM and SIGKILL.' },
  deadline: {
    kind: duration({ min: 1 }),
    doc: 'How long one call may take before the worker is stopped; unset: any time.',
  },
  restart: { kind: choice(['always', 'never'], 'WHEN'), doc: 'Whether it is started again after it ended.' },
  'max-message-size': { kind: size(1), doc: 'Largest message it takes; unset: 4MiB, or what the worker says.' },
  'memory-max': { kind: size(1), doc: 'Most memory it may use, where cgroups allow it.' },
  'cpu-max': { kind: integer(1, 100_000), doc: 'Per cent of one processor it may use, where cgroups allow it.' },
} as const;

type KeyName = keyof typeof WORKER_KEYS;
type ValueOf<K extends KeyName> = (typeof WORKER_KEYS)[K]['kind'] extends Kind<infer T> ? T : never;

const FORBIDDEN_VARIABLES = /^(PATH|NODE_OPTIONS|YGG_.*|LD_.*)$/;

/** The settings of one worker. Without a file all are the defaults; problems are lines for a person. */
export async function loadWorkerSettings(options: WorkerSettingsOptions): Promise<WorkerSettingsResult> {
  const { file, parsed } = await findWorkerFile(
    join(options.configDir, 'workers'),
    options.name,
    options.readText ?? ((path) => readFile(path, 'utf8')),
    options.listNames ?? ((directory) => readdir(directory)),
  );
  if (parsed.kind === 'invalid') return { kind: 'invalid', problems: [describeProblem(parsed.problem)] };
  const reader = new WorkerFile(file, parsed, options.name);
  const settings = reader.settings();
  if (settings.socket === 'abstract' && Number.parseInt(options.nodeVersion ?? process.versions.node, 10) < 22) {
    reader.problem('`socket = "abstract"` needs Node 22 or newer: run the agent with it, or remove the line', [
      'socket',
    ]);
  }
  const { problems, warnings } = reader;
  return problems.length > 0 ? { kind: 'invalid', problems } : { kind: 'ok', settings, warnings };
}

/** One file on its way to settings, with what was found wrong so far. */
class WorkerFile {
  readonly problems: string[] = [];
  readonly warnings: string[] = [];
  readonly #entries: ReadonlyMap<string, TomlEntry>;

  constructor(
    readonly file: string,
    readonly parsed: Exclude<TomlFile, { kind: 'invalid' }>,
    readonly name: WorkerName,
  ) {
    this.#entries = new Map(parsed.kind === 'ok' ? parsed.entries.map((entry) => [entry.key, entry]) : []);
  }

  settings(): WorkerSettings {
    for (const key of this.#entries.keys()) this.#checkKey(key);
    return {
      handlers: this.#value('handlers'),
      env: this.#environment(),
      args: this.#value('args') ?? this.#execArgs(),
      socket: this.#value('socket') ?? 'path',
      startTimeout: this.#value('start-timeout') ?? 30_000,
      stopTimeout: this.#value('stop-timeout') ?? 10_000,
      restart: this.#value('restart') ?? 'always',
      ...present('user', this.#value('user')),
      ...present('group', this.#value('group')),
      ...present('concurrency', this.#value('concurrency')),
      ...present('deadline', this.#value('deadline')),
      ...present('maxMessageSize', this.#value('max-message-size')),
      ...present('memoryMax', this.#value('memory-max')),
      ...present('cpuMax', this.#value('cpu-max')),
    };
  }

  problem(text: string, path: readonly string[]): void {
    this.problems.push(describeProblem(this.#at(text, path)));
  }

  #at(text: string, path: readonly string[]): Problem {
    const { parsed } = this;
    // An entry of a list has no line of its own: then that of the list.
    const line = parsed.kind === 'ok' ? (parsed.lineOf(...path) ?? parsed.lineOf(...path.slice(0, 1))) : undefined;
    return { code: 'worker.config', text, source: this.file, ...(line === undefined ? {} : { line }) };
  }

  #checkKey(key: string): void {
    if (key === 'env' || Object.hasOwn(WORKER_KEYS, key)) return;
    const original = Object.hasOwn(ORIGINAL_WORKER_KEYS, key) ? ORIGINAL_WORKER_KEYS[key] : undefined;
    if (original !== undefined) {
      if (this.#isServed(key)) return;
      this.warnings.push(
        describeProblem(this.#at(`\`${key}\` of the original has no effect here. ${original}`, [key])),
      );
    } else {
      this.problem(`unknown setting \`${key}\`${didYouMean(key, ['env', ...Object.keys(WORKER_KEYS)])}`, [key]);
    }
  }

  /** Keys of the original that ask for nothing we do not do anyway. */
  #isServed(key: string): boolean {
    if (key === 'exec') return execOf(this.parsed)?.program === this.name;
    return key === 'protocol' && this.#entries.get(key)?.value === 'grpc';
  }

  #execArgs(): readonly string[] {
    const exec = execOf(this.parsed);
    return exec?.program === this.name ? exec.args : [];
  }

  #value<K extends KeyName>(key: K): ValueOf<K> | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    const { kind } = WORKER_KEYS[key];
    const checked = kind.check(entry.value);
    // The kind is the key's own: what it lets through is the key's value.
    if (checked.kind === 'ok') return checked.value as ValueOf<K>;
    this.problem(`\`${key}\` must be ${kind.expects}, not ${describeToml(entry.value)}`, [key]);
    return undefined;
  }

  /** A table, or the original's list of `KEY=VALUE`. Values are never told: they may be secrets. */
  #environment(): Readonly<Record<string, string>> {
    const value = this.#entries.get('env')?.value;
    if (value === undefined) return {};
    const pairs = Array.isArray(value) ? value.map(splitPair) : isTable(value) ? Object.entries(value) : undefined;
    if (pairs === undefined) this.problem('`env` must be a table of variables, or a list of "NAME=value"', ['env']);
    const env: [string, string][] = [];
    for (const [n, [name, content]] of (pairs ?? []).entries()) {
      if (typeof content !== 'string' || !/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) || content.includes('\0')) {
        // By its number: an entry without a `=` is all name, and may be all secret.
        this.problem(`\`env\`: entry ${n + 1} must be a variable’s name and its text`, ['env', name]);
      } else if (FORBIDDEN_VARIABLES.test(name)) {
        this.problem(`\`env\` may not set ${name}: PATH, NODE_OPTIONS, YGG_… and LD_… are the agent’s; remove it`, [
          'env',
          name,
        ]);
      } else env.push([name, content]);
    }
    return Object.fromEntries(env);
  }
}

function splitPair(entry: unknown): readonly [string, unknown] {
  if (typeof entry !== 'string') return [describeToml(entry), undefined];
  const at = entry.indexOf('=');
  return at < 0 ? [entry, undefined] : [entry.slice(0, at), entry.slice(at + 1)];
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !(value instanceof Date);
}

function present<K extends string, T>(key: K, value: T | undefined): { readonly [P in K]?: T } {
  const nothing: { readonly [P in K]?: T } = {};
  return value === undefined ? nothing : { ...nothing, [key]: value };
}
