/**
 * The kinds of settings: for each, how a value from the file is checked, how a flag's text becomes such a value, and
 * how it is written back. A kind says what it expects in words, so that every refusal reads the same.
 */
import type { Millis } from '../time.js';
import { formatDuration, formatSize, parseDuration, parseSize } from './units.js';

/** A value as the program uses it, or that it is none of its kind. */
export type Checked<T> = { readonly kind: 'ok'; readonly value: T } | { readonly kind: 'refused' };

export interface Kind<T> {
  /** Checks a value as TOML gives it and turns it into the one the program uses. */
  check(value: unknown): Checked<T>;
  /** What it wants, to stand after “must be”. */
  readonly expects: string;
  /** The word for its value in the help. */
  readonly argument: string;
  /** The flag may stand alone, and then means this text. */
  readonly alone?: string;
  /** All that it may be, where that is few words: for completion. */
  readonly words?: readonly string[];
  readonly isList?: boolean;
  /** Relative values are relative to the file they stand in, or to the working directory. */
  readonly isPath?: boolean;
  /** What a flag or an environment variable says, as TOML would have it. */
  fromText(text: string): unknown;
  /** The value as TOML. */
  toToml(value: T): string;
}

interface Words<T> {
  readonly argument?: string;
  readonly expects?: string;
  readonly test?: (value: T) => boolean;
}

const REFUSED = { kind: 'refused' } as const;
const ok = <T>(value: T): Checked<T> => ({ kind: 'ok', value });
const okIf = <T>(isGood: boolean, value: T): Checked<T> => (isGood ? ok(value) : REFUSED);
const itself = (value: string): string => value;
const quoted = (value: string): string => JSON.stringify(value);
const listToml = (values: readonly string[]): string => `[${values.map(quoted).join(', ')}]`;
const integerFromText = (value: string): unknown => (/^\s*[+-]?\d+\s*$/.test(value) ? Number(value) : value);

export function text(words: Words<string> = {}): Kind<string> {
  return {
    check: (value) =>
      typeof value === 'string' && value !== '' && (words.test?.(value) ?? true) ? ok(value) : REFUSED,
    expects: words.expects ?? 'text',
    argument: words.argument ?? 'TEXT',
    fromText: itself,
    toToml: quoted,
  };
}

export function path(argument: 'FILE' | 'DIR'): Kind<string> {
  return { ...text({ argument, expects: 'a path', test: (value) => !value.includes('\0') }), isPath: true };
}

/** Several values; the file may hold one text instead of a list, a flag or variable several with commas between. */
export function list(item: Kind<string>): Kind<readonly string[]> {
  return {
    check: (value) => {
      const entries: unknown = typeof value === 'string' ? [value] : value;
      if (!Array.isArray(entries)) return REFUSED;
      const checked = entries.map((entry) => item.check(entry)).filter((entry) => entry.kind === 'ok');
      return okIf(
        checked.length === entries.length,
        checked.map((entry) => entry.value),
      );
    },
    expects: `a list, each entry ${item.expects}`,
    argument: item.argument,
    isList: true,
    isPath: item.isPath ?? false,
    fromText: (value) =>
      value
        .split(',')
        .map((entry) => entry.trim())
        .filter((entry) => entry !== ''),
    toToml: listToml,
  };
}

export function choice<const T extends string>(values: readonly T[], argument: string): Kind<T> {
  return {
    // A number is let in for the sake of `mqtt-version = 5`; capitals, because the original's level is case-blind.
    check: (value) => {
      if (typeof value !== 'number' && typeof value !== 'string') return REFUSED;
      const found = values.find((each) => each === String(value).toLowerCase());
      return found === undefined ? REFUSED : ok(found);
    },
    expects: `one of ${values.join(', ')}`,
    argument,
    words: values,
    fromText: itself,
    toToml: quoted,
  };
}

export function toggle(): Kind<boolean> {
  const words: Partial<Record<string, boolean>> = { true: true, yes: true, on: true, 1: true, false: false, no: false };
  return {
    check: (value) => (typeof value === 'boolean' ? ok(value) : REFUSED),
    expects: 'true or false',
    argument: 'BOOL',
    alone: 'true',
    words: ['true', 'false'],
    fromText: (value) => ({ ...words, off: false, 0: false })[value.trim().toLowerCase()] ?? value,
    toToml: String,
  };
}

export function integer(min: number, max: number): Kind<number> {
  return {
    check: (value) => wholeNumber(value, min, max),
    expects: `a whole number from ${min} to ${max}`,
    argument: 'N',
    fromText: integerFromText,
    toToml: String,
  };
}

/** A span of time between the bounds, in milliseconds. `atLeast` lifts shorter ones instead of refusing them. */
export function duration(bounds: { min?: Millis; max?: Millis; atLeast?: Millis } = {}): Kind<Millis> {
  const { min = 0, max = Number.MAX_SAFE_INTEGER, atLeast = 0 } = bounds;
  const limits = [
    ...(min > 0 ? [`at least ${formatDuration(min)}`] : []),
    ...(max < Number.MAX_SAFE_INTEGER ? [`at most ${formatDuration(max)}`] : []),
  ];
  return {
    check: (value) => {
      const span = isNumberOrText(value) ? parseDuration(value) : undefined;
      return span !== undefined && span >= min && span <= max ? ok(Math.max(span, atLeast)) : REFUSED;
    },
    expects: ['seconds, or a duration such as "30s", "5m", "24h"', ...limits].join(', '),
    argument: 'DURATION',
    fromText: itself,
    toToml: (span) => quoted(formatDuration(span)),
  };
}

/** An amount of bytes. */
export function size(min = 0): Kind<number> {
  return {
    check: (value) => {
      const bytes = isNumberOrText(value) ? parseSize(value) : undefined;
      return bytes !== undefined && bytes >= min ? ok(bytes) : REFUSED;
    },
    expects: `bytes, or a size such as "64KiB", "16MiB", "1GiB"${min > 0 ? `, at least ${formatSize(min)}` : ''}`,
    argument: 'SIZE',
    fromText: itself,
    toToml: (bytes) => quoted(formatSize(bytes)),
  };
}

/** A port to listen on; `true`, or the flag alone, is `usual`, and `false` is none. */
export function listenPort(usual: number): Kind<number | undefined> {
  return {
    check: (value) => (typeof value === 'boolean' ? ok(value ? usual : undefined) : wholeNumber(value, 0, 65_535)),
    expects: 'a port from 0 to 65535, true or false',
    argument: 'PORT',
    alone: 'true',
    fromText: (value) =>
      /^(true|yes|on)$/i.test(value) ? true : /^(false|no|off)$/i.test(value) ? false : integerFromText(value),
    toToml: (port) => String(port ?? false),
  };
}

/** The same, but it may be left out: an empty text is the same as nothing, as in the original. */
export function optional<T>(kind: Kind<T>): Kind<T | undefined> {
  return {
    ...kind,
    check: (value) => (value === '' ? ok(undefined) : kind.check(value)),
    fromText: (value) => (value === '' ? '' : kind.fromText(value)),
    toToml: (value) => (value === undefined ? '""' : kind.toToml(value)),
  };
}

function wholeNumber(value: unknown, min: number, max: number): Checked<number> {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max ? ok(value) : REFUSED;
}

function isNumberOrText(value: unknown): value is number | string {
  return typeof value === 'number' || typeof value === 'string';
}
