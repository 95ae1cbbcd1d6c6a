/**
 * From flags, environment and file to `Settings`: flags win over the environment, the environment over the file, the
 * file over the defaults. Every problem is found before anything is told; what was meant for the original is
 * translated here and nowhere else.
 */
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { unescaped } from '../message/index.js';
import { parseFlags, helpText } from './flags.js';
import { originalSetting } from './original.js';
import { placeOf, surroundingsOf, type Environment, type Place, type Surroundings } from './place.js';
import { didYouMean, type Problem } from './problem.js';
import { Secret } from './secret.js';
import {
  isSettingName,
  propertyOf,
  SETTING_NAMES,
  settingOf,
  variableOf,
  type SettingName,
  type Settings as DeclaredSettings,
} from './settings.js';
import { describeToml, readTomlFile, unreadable, type ReadText, type TomlEntry } from './toml-file.js';

/** The settings, and what was found beside them. */
export interface Settings extends DeclaredSettings {
  /** A password that stood in a broker's address, as the original allows. */
  readonly addressPassword: Secret | undefined;
}

export interface LoadOptions {
  /** The arguments after the program's name. */
  readonly argv?: readonly string[];
  readonly env?: Environment;
  readonly uid?: number;
  readonly homedir?: () => string;
  readonly cwd?: string;
  readonly readText?: ReadText;
}

export type LoadResult =
  | {
      readonly kind: 'ok';
      readonly settings: Settings;
      readonly surroundings: Surroundings;
      readonly warnings: readonly Problem[];
      /** Where each setting that is not a default comes from. */
      readonly origins: Origins;
      /** The file that was read, if there is one. */
      readonly file: string | undefined;
      /** `--check-config`: tell, and do not start. */
      readonly isCheckOnly: boolean;
    }
  | {
      readonly kind: 'invalid';
      readonly problems: readonly Problem[];
      readonly warnings: readonly Problem[];
      /** With the default in place of what is wrong: to look at, not to run with. */
      readonly draft?: Settings;
    }
  | { readonly kind: 'help'; readonly text: string }
  | { readonly kind: 'version' };

/** Where a setting comes from. */
export interface Origin {
  readonly kind: 'flag' | 'environment' | 'file';
  /** `--flag`, `$VARIABLE` or the path of the file. */
  readonly source: string;
  /** In the file, where it was found again. */
  readonly line: number | undefined;
}

export type Origins = ReadonlyMap<SettingName, Origin>;

/** A value before it is checked, with the place it comes from. */
interface Given {
  readonly value: unknown;
  readonly source: string;
  readonly line?: number;
  /** Where relative paths start. */
  readonly base: string;
}
type Layer = ReadonlyMap<SettingName, Given>;

interface Findings {
  readonly problems: Problem[];
  readonly warnings: Problem[];
}

/** Reads all settings. Never throws for what a person wrote; all defaults are those of this process. */
export async function loadSettings(options: LoadOptions = {}): Promise<LoadResult> {
  const env = options.env ?? process.env;
  const cwd = options.cwd ?? process.cwd();
  const flags = parseFlags(options.argv ?? process.argv.slice(2));
  if (flags.kind === 'help') return { kind: 'help', text: helpText() };
  if (flags.kind === 'version') return flags;
  const uid = options.uid ?? process.getuid?.() ?? 0;
  const home = homeFrom(options.homedir ?? homedir);
  if (home === undefined) return { kind: 'invalid', problems: [homeless(uid)], warnings: [] };
  const place = placeOf(uid, home, env);

  const findings: Findings = { problems: [...flags.problems], warnings: [] };
  const fromFlags = layerOf(flagGivens(flags.texts, cwd), findings);
  const fromEnv = layerOf(variableGivens(env, cwd, findings), findings);
  const named = flags.configFile ?? (env.YGGD_CONFIG || undefined);
  const directory = resolved('config-dir', [fromFlags, fromEnv], place, { problems: [], warnings: [] });
  const file = named === undefined ? join(String(directory), 'config.toml') : resolve(cwd, named);
  const read = await readTomlFile(file, options.readText ?? ((path) => readFile(path, 'utf8')));
  if (read.kind === 'invalid') findings.problems.push(read.problem);
  if (read.kind === 'missing' && named !== undefined) findings.problems.push(unreadable(file, missing()));
  const fromFile = layerOf(read.kind === 'ok' ? fileGivens(read.entries, file) : [], findings);

  const layers = [fromFlags, fromEnv, fromFile];
  const origins = new Map([
    ...originsOf('file', fromFile),
    ...originsOf('environment', fromEnv),
    ...originsOf('flag', fromFlags),
  ]);
  const values = Object.fromEntries(
    SETTING_NAMES.map((name) => [propertyOf(name), resolved(name, layers, place, findings)]),
  );
  // The table gave each property a value of its own kind: this is where it becomes the type.
  const settings = withoutAddressPassword(
    { ...(values as unknown as DeclaredSettings), addressPassword: undefined },
    findings,
  );
  if (findings.problems.length === 0) findings.problems.push(...contradictions(settings));
  if (findings.problems.length > 0) return { kind: 'invalid', ...findings, draft: settings };
  return {
    kind: 'ok',
    settings,
    surroundings: surroundingsOf(env),
    warnings: findings.warnings,
    origins,
    file: read.kind === 'ok' ? file : undefined,
    isCheckOnly: flags.isCheckOnly,
  };
}

function homeFrom(ask: () => string): string | undefined {
  try {
    return ask();
  } catch {
    // Neither $HOME nor an entry in the list of users.
    return undefined;
  }
}

const homeless = (uid: number): Problem => ({
  code: 'config.invalid',
  text: `user ${uid} has no home directory to look for settings in: set HOME, or run as a user that the system knows`,
});

const missing = (): Error => Object.assign(new Error('no such file'), { code: 'ENOENT' });

type NamedGiven = readonly [name: string, given: Given];

function flagGivens(texts: ReadonlyMap<string, readonly string[]>, cwd: string): readonly NamedGiven[] {
  return [...texts].map(([name, given]) => [
    name,
    { value: valueFromTexts(name, given), source: `--${name}`, base: cwd },
  ]);
}

function variableGivens(env: Environment, cwd: string, { warnings }: Findings): readonly NamedGiven[] {
  const names = new Map<string, string>(SETTING_NAMES.map((name) => [variableOf(name), name]));
  return Object.entries(env).flatMap(([variable, text]): readonly NamedGiven[] => {
    if (!variable.startsWith('YGGD_') || !text || FOREIGN_VARIABLES.has(variable)) return [];
    const name = names.get(variable);
    if (name !== undefined) return [[name, { value: valueFromTexts(name, [text]), source: `$${variable}`, base: cwd }]];
    // Not a problem: the environment is shared with programs that are not ours.
    warnings.push({
      code: 'config.invalid',
      text: `no setting has this variable${didYouMean(variable, names.keys())}`,
      source: `$${variable}`,
    });
    return [];
  });
}

/** Variables of the same first letters that are no settings of ours. */
const FOREIGN_VARIABLES = new Set(['YGGD_CONFIG']);

/** What the texts of a flag mean in TOML. Of several, the last counts, but a list takes them all. */
function valueFromTexts(name: string, texts: readonly string[]): unknown {
  const original = originalSetting(name);
  if (original?.kind === 'accepted') return { true: true, false: false }[texts.at(-1) ?? ''] ?? texts.at(-1);
  const target = original?.kind === 'renamed' ? original.to : name;
  if (!isSettingName(target)) return texts.at(-1);
  const { kind } = settingOf(target);
  return kind.isList === true ? texts.flatMap((text) => kind.fromText(text)) : kind.fromText(texts.at(-1) ?? '');
}

function fileGivens(entries: readonly TomlEntry[], file: string): readonly NamedGiven[] {
  return entries.map(({ key, value, line }) => [
    key,
    { value, source: file, base: dirname(file), ...(line === undefined ? {} : { line }) },
  ]);
}

/** Sorts what was given by setting: names of the original become ours, unknown ones problems. */
function layerOf(givens: readonly NamedGiven[], { problems, warnings }: Findings): Layer {
  const layer = new Map<SettingName, Given>();
  const renamed: { from: string; to: SettingName; given: Given }[] = [];
  for (const [name, given] of givens) {
    const original = originalSetting(name);
    if (isSettingName(name)) layer.set(name, given);
    else if (original?.kind === 'renamed') renamed.push({ from: name, to: original.to, given });
    else if (original?.kind === 'accepted') {
      const refusal = original.refusal?.(given.value);
      if (refusal !== undefined) problems.push(problemAt(given, refusal));
      else if (original.isSilent?.(given.value) !== true)
        warnings.push(problemAt(given, `\`${name}\` of the original has no effect here. ${original.note}`));
    } else {
      const what = typeof given.value === 'object' && !Array.isArray(given.value) ? 'table' : 'setting';
      problems.push(problemAt(given, `unknown ${what} \`${name}\`${didYouMean(name, SETTING_NAMES)}`));
    }
  }
  for (const { from, to, given } of renamed) {
    const isBoth = layer.has(to);
    if (!isBoth) layer.set(to, given);
    const effect = isBoth ? `it is ignored, because \`${to}\` is set` : 'it is taken as that';
    warnings.push(problemAt(given, `\`${from}\` is the original’s name of \`${to}\`: ${effect}`));
  }
  return layer;
}

function originsOf(kind: Origin['kind'], layer: Layer): readonly (readonly [SettingName, Origin])[] {
  return [...layer].map(([name, { source, line }]) => [name, { kind, source, line }]);
}

/** The value of a setting: of the first layer that has it, checked; else its default. */
function resolved(name: SettingName, layers: readonly Layer[], place: Place, { problems }: Findings): unknown {
  const setting = settingOf(name);
  const given = layers.map((layer) => layer.get(name)).find((each) => each !== undefined);
  if (given === undefined) return setting.fallback(place);
  const checked = setting.kind.check(given.value);
  if (checked.kind === 'refused') {
    const shown = setting.isSecret ? '' : `, not ${describeToml(given.value)}`;
    problems.push(problemAt(given, `\`${name}\` must be ${setting.kind.expects}${shown}`));
    return setting.fallback(place);
  }
  return setting.kind.isPath === true ? absolute(checked.value, given.base, place.home) : checked.value;
}

function absolute(value: unknown, base: string, home: string): unknown {
  if (Array.isArray(value)) return value.map((each) => absolute(each, base, home));
  if (typeof value !== 'string') return value;
  return resolve(base, value.replace(/^~(?=\/|$)/, home));
}

/** Takes a user name and password out of the brokers’ addresses, where the original lets them stand. */
function withoutAddressPassword(settings: Settings, { warnings }: Findings): Settings {
  const urls = settings.broker.map((address) => new URL(address));
  const first = urls.find((url) => url.username !== '' || url.password !== '');
  if (first === undefined) return settings;
  warnings.push({
    code: 'config.credentials',
    text: `the address of ${first.host} holds a user name or password: better set \`username\` and \`password-file\``,
  });
  const bare = urls.map((url, i) =>
    url.username + url.password === '' ? (settings.broker[i] ?? '') : withoutUser(url),
  );
  return {
    ...settings,
    broker: bare,
    username: settings.username ?? (first.username === '' ? undefined : unescaped(first.username)),
    addressPassword: first.password === '' ? undefined : new Secret(unescaped(first.password)),
  };
}

function withoutUser(url: URL): string {
  return url.href.replace(/^([^:]+:\/\/)[^@/]*@/, '$1');
}

/** What is right by itself but not together. */
function contradictions(settings: Settings): readonly Problem[] {
  const problems: Problem[] = [];
  const wrong = (text: string): number => problems.push({ code: 'config.invalid', text });
  if (settings.broker.length === 0 && settings.embeddedBroker === undefined) {
    problems.push({
      code: 'config.no_broker',
      text: 'no broker is set: set `broker = ["mqtts://…"]` in config.toml or pass --broker; for a first try, --embedded-broker starts one',
    });
  }
  if (settings.certFile !== undefined && settings.keyFile === undefined)
    wrong('`cert-file` is set but `key-file` is not: set both or none');
  if (settings.keyFile !== undefined && settings.certFile === undefined)
    wrong('`key-file` is set but `cert-file` is not: set both or none');
  if (settings.mqttReconnectDelayMax < settings.mqttReconnectDelay)
    wrong('`mqtt-reconnect-delay-max` must not be less than `mqtt-reconnect-delay`');
  return problems;
}

function problemAt(given: Given, text: string): Problem {
  const { source, line } = given;
  return { code: 'config.invalid', text, source, ...(line === undefined ? {} : { line }) };
}
