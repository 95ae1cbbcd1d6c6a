/**
 * What there is to know about a setting, by any name a person may have for it: the key, the flag, the variable, or the
 * name it had in the original. Pure.
 */
import { defaultTexts } from './example.js';
import { ORIGINAL_SETTINGS, ORIGINAL_WORKER_KEYS, originalSetting } from './original.js';
import { nearestName } from './problem.js';
import { isSettingName, SETTING_NAMES, settingOf, variableOf, type SettingName } from './settings.js';
import { WORKER_KEYS } from './worker-settings.js';

export type Explanation =
  | {
      readonly kind: 'setting';
      readonly name: SettingName;
      readonly group: string;
      readonly doc: string;
      /** What its value must be, in words. */
      readonly expects: string;
      /** As TOML; undefined: none. */
      readonly defaultAsRoot: string | undefined;
      readonly defaultAsUser: string | undefined;
      readonly flag: string;
      readonly variable: string;
      readonly isReloadable: boolean;
      /** How it stood in the original, if it did. */
      readonly original: string | undefined;
    }
  /** A setting of the original that ours has under another name, or not at all. */
  | {
      readonly kind: 'original';
      readonly name: string;
      readonly generations: readonly string[];
      readonly note: string;
      readonly to: SettingName | undefined;
    }
  /** A key of a worker's own file. */
  | { readonly kind: 'worker-key'; readonly name: string; readonly doc: string; readonly expects: string | undefined }
  | { readonly kind: 'unknown'; readonly nearest: string | undefined };

export function explainSetting(word: string): Explanation {
  const name = keyFrom(word);
  if (isSettingName(name)) return explained(name);
  const original = originalSetting(name);
  if (original !== undefined) {
    const to = original.kind === 'renamed' ? original.to : undefined;
    return { kind: 'original', name, generations: original.since, note: original.note, to };
  }
  const workerKey = WORKER_NAMES.find((each) => each === name || each === name.replaceAll('-', '_'));
  if (workerKey !== undefined) return { kind: 'worker-key', name: workerKey, ...workerKeyDoc(workerKey) };
  return {
    kind: 'unknown',
    nearest: nearestName(name, [...SETTING_NAMES, ...Object.keys(ORIGINAL_SETTINGS), ...WORKER_NAMES]),
  };
}

/** All that can be explained of config.toml. */
const WORKER_NAMES: readonly string[] = [...Object.keys(WORKER_KEYS), 'env', ...Object.keys(ORIGINAL_WORKER_KEYS)];

/** `--log-level`, `$YGGD_LOG_LEVEL` and `log_level` are `log-level`. */
function keyFrom(word: string): string {
  return word
    .replace(/^--?|^\$/, '')
    .replace(/^YGGD_/i, '')
    .replaceAll('_', '-')
    .toLowerCase();
}

function explained(name: SettingName): Explanation {
  const { group, doc, kind, isReloadable } = settingOf(name);
  const [defaultAsRoot, defaultAsUser] = defaultTexts(name);
  const original = originalSetting(name);
  return {
    ...{ kind: 'setting', name, group, doc, isReloadable, defaultAsRoot, defaultAsUser },
    expects: kind.expects,
    flag: `--${name}`,
    variable: variableOf(name),
    original: original === undefined ? undefined : `since ${original.since.join(', ')}: ${original.note || 'the same'}`,
  };
}

function workerKeyDoc(name: string): { readonly doc: string; readonly expects: string | undefined } {
  if (isWorkerKey(name)) return { doc: WORKER_KEYS[name].doc, expects: WORKER_KEYS[name].kind.expects };
  if (name === 'env') {
    return { doc: 'Variables of its environment.', expects: 'a table, or a list of "KEY=VALUE"' };
  }
  return { doc: `Of the original. ${ORIGINAL_WORKER_KEYS[name] ?? ''}`, expects: undefined };
}

function isWorkerKey(name: string): name is keyof typeof WORKER_KEYS {
  return Object.hasOwn(WORKER_KEYS, name);
}
