/** What a worker may not do on a stream. */

/** A rule of stream.proto that the worker broke: its call ends with INVALID_ARGUMENT, and this text names the rule. */
export class Violation extends Error {
  override readonly name = 'Violation';
}

/** Frames without anything in them that may come in a row: a later version may put something there that we skip. */
export const MOST_EMPTY = 100;
