/**
 * What an HTTP status means for a fetch and for a POST, and when to try again (CONTRACT 1.7, 1.11, 1.12). Pure.
 */
import { fullJitter, LONGEST_BACKOFF, type Backoff, type Millis, type Random } from '../time.js';

export type StatusVerdict = 'ok' | 'final' | 'retry';

/** 2xx is a body; a 4xx that time will not mend is final; all else is tried again. */
export function fetchVerdict(status: number): StatusVerdict {
  if (status >= 200 && status < 300) return 'ok';
  const isTransient = status === 408 || status === 425 || status === 429;
  return status >= 400 && status < 500 && !isTransient ? 'final' : 'retry';
}

/**
 * 2xx is done; 429 and 5xx are tried again, and so is 408: the server says that no complete request reached it, which
 * is as good as no response. Other 3xx and 4xx are final, since a POST may have had its effect.
 */
export function postVerdict(status: number): StatusVerdict {
  if (status >= 200 && status < 300) return 'ok';
  return status === 408 || status === 429 || status >= 500 ? 'retry' : 'final';
}

/** CONTRACT 1.5. */
const BACKOFF: Backoff = { first: 1000, cap: 60_000 };

/** The longest that a server's Retry-After is honoured. */
export const LONGEST_RETRY_AFTER: Millis = LONGEST_BACKOFF;

/** The wait before the next try after `failures` (from 0) earlier ones, not shorter than what the server asked for. */
export function retryDelay(failures: number, retryAfter: Millis | undefined, random: Random): Millis {
  return Math.max(fullJitter(BACKOFF, failures, random), retryAfter ?? 0);
}

/** Retry-After (RFC 9110, 10.2.3), in seconds or as a date, as a span; undefined when missing or unreadable. */
export function parseRetryAfter(value: string | string[] | undefined, now: Millis): Millis | undefined {
  const text = (Array.isArray(value) ? value[0] : value)?.trim();
  if (text === undefined || text === '') return undefined;
  const span = /^\d+$/.test(text) ? Number(text) * 1000 : /[a-z]/i.test(text) ? Date.parse(text) - now : NaN;
  return Number.isNaN(span) ? undefined : Math.min(Math.max(0, span), LONGEST_RETRY_AFTER);
}
