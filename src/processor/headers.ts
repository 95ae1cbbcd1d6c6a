/**
 * Metadata as the headers of a POST (PROTOCOL section 1, "Detached content"). Pure. What frames the request or belongs
 * to the connection is ours and is left out in silence; what cannot be a header is dropped and named, for a warning.
 */
import type { Metadata } from '../message/index.js';

/** Framing, hop-by-hop (RFC 9110, 7.6.1), credentials, and the two that say who sends what. */
const OURS = new Set([
  'connection',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'content-length',
  'host',
  'expect',
  'cookie',
  'authorization',
  'user-agent',
  'idempotency-key',
]);

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
// Anything below a blank but a tab, and DEL: CR and LF would begin a header of the sender's own.
// eslint-disable-next-line no-control-regex -- control characters are what this looks for
const CONTROL = /[\x00-\x08\x0a-\x1f\x7f]/;

export interface HeadersOfMetadata {
  readonly headers: Readonly<Record<string, string>>;
  /** Names of entries that cannot be headers. */
  readonly dropped: readonly string[];
}

/** The headers that `metadata` asks for. Text beyond ASCII goes out as the bytes of its UTF-8, as in the original. */
export function headersFromMetadata(metadata: Metadata): HeadersOfMetadata {
  const headers = new Map<string, string>();
  const dropped: string[] = [];
  for (const [name, value] of Object.entries(metadata)) {
    const lower = name.toLowerCase();
    if (OURS.has(lower) || lower.startsWith('proxy-')) continue;
    if (!TOKEN.test(name) || CONTROL.test(value) || headers.has(lower)) dropped.push(name);
    else headers.set(lower, wireText(value));
  }
  return { headers: Object.fromEntries(headers), dropped };
}

/** A message id as a header's value: as it is, or percent-encoded when it could not stand there. */
export function idempotencyKey(messageId: string): string {
  return /^[\x21-\x7e]+$/.test(messageId)
    ? messageId
    : encodeURIComponent(Buffer.from(messageId, 'utf8').toString('utf8'));
}

/** Header values are written as latin1: so UTF-8 is spelled out byte by byte. */
function wireText(value: string): string {
  return Buffer.from(value, 'utf8').toString('latin1');
}
