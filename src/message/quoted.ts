/**
 * Text from outside as it may stand in a sentence for a person, in a log, an answer or an error: quoted, short, on one
 * line, and with nothing in it that a terminal would obey.
 */

/** How much of it is shown by default, in characters. */
const LONGEST = 64;

/** C0 and C1 controls, DEL, line separators, and the marks that turn the direction of text. */
// eslint-disable-next-line no-control-regex -- finding control characters is what it is for
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** `"text"`, with `…` behind what is left out. */
export function quoted(text: string, longest: number = LONGEST): string {
  const isLong = text.length > longest;
  return printable(JSON.stringify(isLong ? `${text.slice(0, longest)}…` : text));
}

/** The same without quotes, for what is a sentence already. */
export function printable(text: string, longest: number = Infinity): string {
  const shown = text.length > longest ? `${text.slice(0, longest)}…` : text;
  return shown.replace(UNSAFE, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
