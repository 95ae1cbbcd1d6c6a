/** A rule of stream.proto that the worker broke: its call ends with INVALID_ARGUMENT, and this text names the rule. */
export class Violation extends Error {
  override readonly name = 'Violation';
}
