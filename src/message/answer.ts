/**
 * Attributes that a message may carry in its metadata, and the error answer that says why one was given up
 * (PROTOCOL section 1; all of this is ours, the original has neither).
 */
import type { Metadata } from './envelope.js';
import { metadataFrom } from './codec.js';
import type { Failure } from './record.js';

export const DEFAULT_PRIORITY = 5;

/** What the metadata asks for. A value that cannot be read counts as not given. */
export interface Attributes {
  /** Wall time in milliseconds: the earliest of `expires` and arrival + `ttl`. */
  readonly expiresAt: number | undefined;
  /** 0–9. */
  readonly priority: number;
  /** Lower-case hex of the SHA-256 that the detached content must have. */
  readonly digest: string | undefined;
  /** Names that were there but could not be read, for a warning. */
  readonly unreadable: readonly string[];
}

/** Those of most messages. */
const NO_ATTRIBUTES: Attributes = Object.freeze({
  expiresAt: undefined,
  priority: DEFAULT_PRIORITY,
  digest: undefined,
  unreadable: Object.freeze([]),
});

/** Reads the attributes of a message that arrived at wall time `arrivedAt`. */
export function readAttributes(metadata: Metadata, arrivedAt: number): Attributes {
  const { expires: until, ttl: span, priority: rank, 'content-digest': sum } = metadata;
  if (until === undefined && span === undefined && rank === undefined && sum === undefined) return NO_ATTRIBUTES;
  const unreadable: string[] = [];
  const read = <T>(name: string, parse: (text: string) => T | undefined): T | undefined => {
    const text = metadata[name];
    if (text === undefined) return undefined;
    const value = parse(text.trim());
    if (value === undefined) unreadable.push(name);
    return value;
  };
  const expires = read('expires', parseInstant);
  const ttl = read('ttl', (text) => (/^\d{1,10}(\.\d{1,3})?$/.test(text) ? Number(text) * 1000 : undefined));
  const priority = read('priority', (text) => (/^\d$/.test(text) ? Number(text) : undefined));
  const digest = read('content-digest', (text) => /^sha-256:([0-9a-f]{64})$/i.exec(text)?.[1]?.toLowerCase());
  const deadlines = [expires, ttl === undefined ? undefined : arrivedAt + ttl].filter((at) => at !== undefined);
  return {
    expiresAt: deadlines.length > 0 ? Math.min(...deadlines) : undefined,
    priority: priority ?? DEFAULT_PRIORITY,
    digest,
    unreadable,
  };
}

/** RFC 3339, section 5.6: a date, a time and an offset. */
function parseInstant(text: string): number | undefined {
  if (!/^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/.test(text)) return undefined;
  const at = Date.parse(text.replace(' ', 'T').toUpperCase());
  return Number.isNaN(at) ? undefined : at;
}

/** Longest error text that goes into an answer. */
const MAX_ERROR_TEXT = 1024;

/** The metadata of an error answer; its content is null. */
export function errorMetadata(failure: Failure): Metadata {
  return metadataFrom([
    ['status', 'error'],
    ['error-code', failure.code],
    ['error', failure.text.slice(0, MAX_ERROR_TEXT)],
  ]);
}
