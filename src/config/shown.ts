/** A setting's value as it may be shown to a person: as TOML, without what is secret in it. */
import type { Settings } from './load.js';
import { withoutUserInfo } from './secret.js';
import { propertyOf, settingOf, type SettingName } from './settings.js';

/** Undefined where it is not set. */
export function shownValue(settings: Settings, name: SettingName): string | undefined {
  const { kind, isSecret } = settingOf(name);
  const value = new Map<string, unknown>(Object.entries(settings)).get(propertyOf(name));
  if (value === undefined || (Array.isArray(value) && value.length === 0)) return undefined;
  return kind.toToml(isSecret ? masked(value) : value);
}

/** What is secret in settings are addresses: their users and passwords, and what some brokers and proxies take behind `?`. */
function masked(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(masked);
  return typeof value === 'string' ? withoutUserInfo(value).replace(/[?#].*$/s, '?[redacted]') : '[redacted]';
}
