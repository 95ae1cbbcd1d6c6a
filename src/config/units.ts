/**
 * Spans of time and amounts of bytes as people write them. A bare number is seconds, or bytes; the parsers return
 * undefined for what is neither, and leave bounds to the setting.
 */
import type { Millis } from '../time.js';

const DURATION_UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const SIZE_UNITS = { kib: 2 ** 10, mib: 2 ** 20, gib: 2 ** 30, tib: 2 ** 40, kb: 1e3, mb: 1e6, gb: 1e9, tb: 1e12 };

/** Seconds as a number, or text such as `30s`, `1h30m`, `500ms`; in milliseconds, or undefined for anything else. */
export function parseDuration(value: number | string): Millis | undefined {
  if (typeof value === 'number') return Number.isFinite(value) && value >= 0 ? Math.round(value * 1000) : undefined;
  const text = value.trim();
  if (/^\d+(\.\d+)?$/.test(text)) return parseDuration(Number(text));
  if (!/^(\d+(\.\d+)?(ms|s|m|h|d))+$/.test(text)) return undefined;
  let total = 0;
  for (const [, amount = '', unit = ''] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)) {
    total += Number(amount) * (isKeyOf(DURATION_UNITS, unit) ? DURATION_UNITS[unit] : 0);
  }
  return Math.round(total);
}

/** Bytes as a number, or text such as `16MiB`, `64 KiB`, `1GB`; in bytes, or undefined for anything else. */
export function parseSize(value: number | string): number | undefined {
  if (typeof value === 'number') return Number.isSafeInteger(value) && value >= 0 ? value : undefined;
  const match = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/.exec(value.trim());
  if (match === null) return undefined;
  const [, amount = '', unit = ''] = match;
  const name = unit.toLowerCase();
  if (name === '' || name === 'b') return parseSize(Number(amount));
  return isKeyOf(SIZE_UNITS, name) ? Math.round(Number(amount) * SIZE_UNITS[name]) : undefined;
}

/** The shortest text that `parseDuration` reads back as the same span. */
export function formatDuration(span: Millis): string {
  for (const unit of ['d', 'h', 'm', 's'] as const) {
    const length = DURATION_UNITS[unit];
    if (span >= length && span % length === 0) return `${span / length}${unit}`;
  }
  return span === 0 ? '0s' : `${span}ms`;
}

/** The shortest text that `parseSize` reads back as the same amount. */
export function formatSize(bytes: number): string {
  for (const [unit, length] of [
    ['GiB', SIZE_UNITS.gib],
    ['MiB', SIZE_UNITS.mib],
    ['KiB', SIZE_UNITS.kib],
  ] as const) {
    if (bytes >= length && bytes % length === 0) return `${bytes / length}${unit}`;
  }
  return `${bytes}B`;
}

function isKeyOf<T extends object>(table: T, key: PropertyKey): key is keyof T {
  return Object.hasOwn(table, key);
}
