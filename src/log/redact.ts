/**
 * What a log line must never hold is taken out here, for every line: values of fields whose name says secret, and user
 * names and passwords in addresses, wherever they stand. The rest becomes plain data that any format can write.
 */

const REDACTED = '[redacted]';
const SECRET_NAME = /pass(word|wd|phrase)|secret|token|credential|authorization|cookie|private_?key|api_?key/i;
/** `passwordFile` is a path, not a password. */
const NAMES_A_PLACE = /(file|path|dir)$/i;
/** Deeper values are cut: a log line is not a dump, and a value may contain itself. */
const MAX_DEPTH = 6;

/** The longest text that is logged, in characters: some of it comes from outside. */
const MAX_TEXT = 16 * 1024;

/** A text without the user part of the addresses in it, and not longer than a line may be. */
export function withoutUserInfo(text: string): string {
  const shown = text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text;
  // Looks back at the scheme: to look for its beginning would take the square of the length.
  return shown.includes('@') ? shown.replace(/(?<=[a-z0-9+.-]:\/\/)[^\s/?#"'<>]*@/gi, '') : shown;
}

/** Fields as plain data without secrets. */
export function cleanFields(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return cleanObject(fields, 0);
}

function cleanObject(fields: object, depth: number): Record<string, unknown> {
  const entries = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries.map(([name, value]) => [name, isSecret(name) ? REDACTED : clean(value, depth)]));
}

function isSecret(name: string): boolean {
  const plain = name.replaceAll('-', '_');
  return SECRET_NAME.test(plain) && !NAMES_A_PLACE.test(plain);
}

function clean(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return withoutUserInfo(value);
  if (typeof value === 'bigint' || typeof value === 'symbol' || typeof value === 'function') return String(value);
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Error) return cleanError(value, depth);
  if (value instanceof Uint8Array) return `<${value.length} bytes>`;
  if (depth >= MAX_DEPTH) return '…';
  // An object that says itself how it is written: a Date, an address, a secret.
  if (saysItself(value)) return clean(value.toJSON(), depth + 1);
  if (value instanceof Map)
    return cleanObject(Object.fromEntries([...value].map(([k, v]) => [String(k), v])), depth + 1);
  if (Array.isArray(value) || value instanceof Set) return [...value].map((each) => clean(each, depth + 1));
  return cleanObject(value, depth + 1);
}

function saysItself(value: object): value is { toJSON(): unknown } {
  return 'toJSON' in value && typeof value.toJSON === 'function';
}

/** An error by its text and code; its stack only helps a developer and is in the causes’ places anyway. */
function cleanError(error: Error, depth: number): Record<string, unknown> {
  const code = 'code' in error ? error.code : undefined;
  return cleanObject(
    {
      type: error.name,
      message: error.message,
      code,
      cause: depth < MAX_DEPTH ? error.cause : undefined,
      stack: error.stack,
    },
    depth + 1,
  );
}
