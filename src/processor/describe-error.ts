/** The text of a network error for a person. Node gives an AggregateError without a text when several addresses fail. */
import { errnoOf, errorText } from '../errors.js';

export function describeError(error: unknown): string {
  if (error instanceof AggregateError) {
    const inner: readonly unknown[] = error.errors;
    return inner.map(describeError).join('; ') || 'it failed';
  }
  const text = errorText(error) || 'it failed';
  const errno = errnoOf(error);
  const named = errno === undefined || text.includes(errno) ? text : `${text} (${errno})`;
  return error instanceof Error && error.cause instanceof Error ? `${named}: ${describeError(error.cause)}` : named;
}
