/**
 * The kinds of settings: for each, how a value from the file is checked, how a flag's text becomes such a value, and
 * how it is written back. A kind says what it expects in words, so that every refusal reads the same.
 */
import { z } from 'zod';
import type { Millis } from '../time.js';
import { formatDuration, formatSize, parseDuration, parseSize } from './units.js';

export interface Kind<T> {
  /** Checks a value as TOML gives it and turns it into the one the program uses. */
  readonly schema: z.ZodType<T>;
  /** What it wants, to stand after “must be”. */
  readonly expects: string;
  /** The word for its value in the help. */
  readonly argument: string;
  /** The flag may stand alone, and then means this text. */
  readonly alone?: string;
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

const itself = (value: string): string => value;
const quoted = (value: string): string => JSON.stringify(value);
const listToml = (values: readonly string[]): string => `[${values.map(quoted).join(', ')}]`;
const integerFromText = (value: string): unknown => (/^\s*[+-]?\d+\s*$/.test(value) ? Number(value) : value);

export function text(words: Words<string> = {}): Kind<string> {
  return {
    schema: z
      .string()
      .min(1)
      .refine(words.test ?? (() => true)),
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
    schema: z.preprocess((value) => (typeof value === 'string' ? [value] : value), z.array(item.schema)),
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
    schema: z.preprocess(
      (value) => (typeof value === 'number' ? String(value) : typeof value === 'string' ? value.toLowerCase() : value),
      z.enum(values),
    ),
    expects: `one of ${values.join(', ')}`,
    argument,
    fromText: itself,
    toToml: quoted,
  };
}

export function toggle(): Kind<boolean> {
  const words: Partial<Record<string, boolean>> = { true: true, yes: true, on: true, 1: true, false: false, no: false };
  return {
    schema: z.boolean(),
    expects: 'true or false',
    argument: 'BOOL',
    alone: 'true',
    fromText: (value) => ({ ...words, off: false, 0: false })[value.trim().toLowerCase()] ?? value,
    toToml: String,
  };
}

export function integer(min: number, max: number): Kind<number> {
  return {
    schema: z.number().int().min(min).max(max),
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
    schema: z
      .union([z.number(), z.string()])
      .transform(parseDuration)
      .pipe(z.number().min(min).max(max))
      .transform((span) => Math.max(span, atLeast)),
    expects: ['seconds, or a duration such as "30s", "5m", "24h"', ...limits].join(', '),
    argument: 'DURATION',
    fromText: itself,
    toToml: (span) => quoted(formatDuration(span)),
  };
}

/** An amount of bytes. */
export function size(min = 0): Kind<number> {
  return {
    schema: z.union([z.number(), z.string()]).transform(parseSize).pipe(z.number().min(min)),
    expects: `bytes, or a size such as "64KiB", "16MiB", "1GiB"${min > 0 ? `, at least ${formatSize(min)}` : ''}`,
    argument: 'SIZE',
    fromText: itself,
    toToml: (bytes) => quoted(formatSize(bytes)),
  };
}

/** A port to listen on; `true`, or the flag alone, is `usual`, and `false` is none. */
export function listenPort(usual: number): Kind<number | undefined> {
  return {
    schema: z.union([z.boolean().transform((isOn) => (isOn ? usual : undefined)), z.number().int().min(0).max(65_535)]),
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
  const { schema } = kind;
  return {
    ...kind,
    schema: z.union([z.literal('').transform(() => undefined), schema]),
    fromText: (value) => (value === '' ? '' : kind.fromText(value)),
    toToml: (value) => (value === undefined ? '""' : kind.toToml(value)),
  };
}
