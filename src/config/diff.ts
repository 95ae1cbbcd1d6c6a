/** What a reload changes: which settings can take effect now, and which need a restart. Names only, never values. */
import { isDeepStrictEqual } from 'node:util';
import type { Settings } from './load.js';
import { propertyOf, SETTING_NAMES, settingOf, type SettingName } from './settings.js';

export interface SettingsDiff {
  readonly reloadable: readonly SettingName[];
  readonly needRestart: readonly SettingName[];
}

export function diffSettings(before: Settings, after: Settings): SettingsDiff {
  const values = (settings: Settings): ReadonlyMap<string, unknown> => new Map(Object.entries(settings));
  const [old, now] = [values(before), values(after)];
  const changed = SETTING_NAMES.filter(
    (name) => !isDeepStrictEqual(old.get(propertyOf(name)), now.get(propertyOf(name))),
  );
  return {
    reloadable: changed.filter((name) => settingOf(name).isReloadable),
    needRestart: changed.filter((name) => !settingOf(name).isReloadable),
  };
}
